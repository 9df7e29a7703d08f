//! `sandbar dlq release`

use anyhow::Result;
use clap::Args;
use sandbar::{
    api::Released,
    client::percent_encoded,
    event_json::BytesJson,
    redrive::{self, Halted, ReleaseRequest},
};

use super::settings;
use crate::commands::{
    Global, Output,
    connect::{Found, find_existing},
    output::bytes_text,
};

#[derive(Debug, Args)]
pub struct ReleaseArgs {
    /// The plugin that holds the keys back
    plugin: String,
    #[command(flatten)]
    which: WhichArgs,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct WhichArgs {
    /// The key to release, in whatever topic it is halted
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// Release all keys
    #[arg(long)]
    all: bool,
}

pub async fn release(args: &ReleaseArgs, global: &Global) -> Result<()> {
    let config = global.config()?;
    let plugin = &args.plugin;
    let known = settings::plugins(&config).remove(plugin);
    let on = known.as_ref().map(|plugin| plugin.notes_connection.as_str());
    let group = known
        .as_ref()
        .map_or_else(|| format!("{}{plugin}", config.group_prefix), |known| known.group.clone());
    let request = ReleaseRequest {
        key: args.which.key.clone().map(|key| BytesJson(key.into())),
        all: args.which.all,
    };
    let found = find_existing(global, &config, on).await?;
    let released = match &found {
        Found::Here(connection) => {
            let released = redrive::release(connection.as_ref(), &group, &request).await?;
            Released { group, released }
        }
        Found::InRuntime { client, .. } => {
            let path = format!("/api/plugins/{}/release", percent_encoded(plugin));
            client.post(&path, &request).await?
        }
    };
    found.connection().close().await;
    print(global.out(), &released)
}

fn print(out: Output, Released { group, released }: &Released) -> Result<()> {
    if out.is_json() {
        return out.document(&Released { group: group.clone(), released: released.clone() });
    }
    if released.is_empty() {
        return out.line(format_args!("{group} holds no such key back"));
    }
    let row = |halted: &Halted| {
        let Halted { topic, partition, position, key } = halted;
        vec![bytes_text(&key.0), topic.clone(), partition.to_string(), position.to_string()]
    };
    out.line(format_args!("released: new events of these keys are handled again by {group}"))?;
    let headings = ["KEY", "TOPIC", "PARTITION", "SINCE"];
    out.table(&headings, &released.iter().map(row).collect::<Vec<_>>())
}
