//! `sandbar tail`

use std::time::SystemTime;

use anyhow::Result;
use clap::Args;
use futures::StreamExt as _;
use sandbar::{
    event_json::{EventJson, parse_from},
    reading::read_events,
};
use sandbar_core::{Event, ReadFrom};

use super::{
    Global,
    connect::open_existing,
    output::{bytes_text, printable, time_text},
};

#[derive(Debug, Args)]
pub struct TailArgs {
    /// Topic to read
    topic: String,
    /// Which connection; the default one if left out
    #[arg(long, value_name = "NAME", env = "SANDBAR_CONNECTION")]
    connection: Option<String>,
    /// Where to begin: start, end (only new events), a position, a time such as
    /// 2026-11-21T10:00:00Z, or how long ago, such as 10m
    #[arg(long, value_name = "PLACE", env = "SANDBAR_TAIL_FROM", default_value = "start", value_parser = place)]
    from: ReadFrom,
    /// Stop after so many events
    #[arg(short = 'n', long, value_name = "N", env = "SANDBAR_TAIL_COUNT")]
    count: Option<usize>,
    /// Wait for further events at the end
    #[arg(short, long, env = "SANDBAR_TAIL_FOLLOW")]
    follow: bool,
    /// Print headers too
    #[arg(long, env = "SANDBAR_TAIL_HEADERS")]
    headers: bool,
}

fn place(text: &str) -> Result<ReadFrom, String> {
    parse_from(text, SystemTime::now())
}

pub async fn tail(args: &TailArgs, global: &Global) -> Result<()> {
    let config = global.config()?;
    let connection = open_existing(global, &config, args.connection.as_deref()).await?;
    let out = global.out();
    let events = read_events(connection.as_ref(), &args.topic, args.from, args.follow).await?;
    let mut events = std::pin::pin!(events.take(args.count.unwrap_or(usize::MAX)));
    while let Some(event) = events.next().await {
        let event = event?;
        match out.is_json() {
            true => out.object(&EventJson::from(&event))?,
            false => out.line(text(&event, args.headers))?,
        }
    }
    connection.close().await;
    Ok(())
}

/// `topic/partition/position time key payload`, a tab between each.
fn text(event: &Event, headers: bool) -> String {
    let key = event.key.as_deref().map_or_else(|| "-".to_owned(), bytes_text);
    let payload = event.payload.as_deref().map_or_else(|| "(tombstone)".to_owned(), bytes_text);
    let mut line = format!(
        "{}/{}/{}\t{}\t{key}\t{payload}",
        event.topic,
        event.partition,
        event.position,
        time_text(event.timestamp_ms)
    );
    for header in event.headers.iter().filter(|_| headers) {
        let value = header.value.as_deref().map_or_else(|| "(null)".to_owned(), bytes_text);
        line.push_str(&format!("\n    {}: {value}", printable(&header.name)));
    }
    line
}
