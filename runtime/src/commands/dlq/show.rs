//! `sandbar dlq show`

use anyhow::{Result, bail};
use clap::Args;
use sandbar::{event_json::EventJson, redrive};
use sandbar_core::Event;
use sandbar_pipeline::DeadLetter;
use serde_json::json;

use super::target::TargetArgs;
use crate::commands::{
    Global, Output,
    output::{bytes_text, printable},
};

#[derive(Debug, Args)]
pub struct ShowArgs {
    #[command(flatten)]
    target: TargetArgs,
    #[command(flatten)]
    place: PlaceArgs,
}

/// One letter of a topic.
#[derive(Debug, Args)]
pub struct PlaceArgs {
    /// Position of the dead letter in its topic, as listed
    pub position: u64,
    /// Partition of the dead letter
    #[arg(long, value_name = "N", env = "SANDBAR_DLQ_PARTITION", default_value_t = 0)]
    pub partition: u32,
}

pub async fn show(args: &ShowArgs, global: &Global) -> Result<()> {
    let config = global.config()?;
    let target = args.target.find(global, &config).await?;
    let connection = target.found.connection();
    let PlaceArgs { partition, position } = args.place;
    let event = redrive::find(connection.as_ref(), &target.topic, partition, position).await?;
    connection.close().await;
    match event {
        Some(event) => print(global.out(), &event),
        None => bail!("there is no event at {}/{partition}/{position}", target.topic),
    }
}

fn print(out: Output, event: &Event) -> Result<()> {
    let letter = DeadLetter::parse(event);
    if out.is_json() {
        return out.document(&json!({ "letter": letter, "event": EventJson::from(event) }));
    }
    let field = |name: &str, value: &str| out.line(format_args!("{name:<15} {}", printable(value)));
    match &letter {
        None => out.line("this is no dead letter of sandbar's")?,
        Some(l) => {
            field(
                "plugin",
                &format!("{} {}", l.plugin, l.plugin_version.as_deref().unwrap_or("-")),
            )?;
            field("digest", l.digest.as_deref().unwrap_or("-"))?;
            field("error", &format!("{} ({})", l.error_code, l.error_class))?;
            field("message", &l.message)?;
            field("attempts", &l.attempts.to_string())?;
            field("redrives", &l.redrives.to_string())?;
            if let Some(letter) = &l.blocked_by {
                field("blocked by", letter)?;
            }
            field("first failed", &l.first_failed_at)?;
            field("last failed", &l.last_failed_at)?;
            field("group", &l.group)?;
            field("event", &format!("{}/{}/{}", l.topic, l.partition, l.offset))?;
            field("event id", &l.event_id)?;
            if let Some(backtrace) = &l.backtrace {
                out.line("backtrace")?;
                backtrace
                    .lines()
                    .try_for_each(|line| out.line(format_args!("    {}", printable(line))))?;
            }
        }
    }
    field("key", &event.key.as_deref().map_or_else(|| "-".to_owned(), bytes_text))?;
    out.line("headers")?;
    for header in event.headers.iter() {
        let value = header.value.as_deref().map_or_else(|| "(null)".to_owned(), bytes_text);
        out.line(format_args!("    {}: {value}", printable(&header.name)))?;
    }
    out.line("payload")?;
    out.line(event.payload.as_deref().map_or_else(|| "(tombstone)".to_owned(), bytes_text))
}
