//! `sandbar dlq list`

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use clap::Args;
use sandbar::{
    config::PluginConfig,
    redrive::{self, Filter, Group, Halted, Listing, MAX_REDRIVES, Row},
};
use sandbar_core::Connection;
use sandbar_pipeline::DeadLetter;
use serde::Serialize;

use super::{filter::FilterArgs, settings};
use crate::commands::{
    Global, Output,
    connect::open_existing,
    output::{bytes_text, printable},
};

#[derive(Debug, Args)]
pub struct ListArgs {
    /// Only those of this plugin
    #[arg(long, value_name = "NAME", env = "SANDBAR_DLQ_PLUGIN")]
    plugin: Option<String>,
    /// Dead-letter topic to read; by default those that are configured, and all that end in .dlq
    #[arg(long = "topic", value_name = "TOPIC", env = "SANDBAR_DLQ_TOPIC")]
    topics: Vec<String>,
    /// List so many of the newest
    #[arg(long, value_name = "N", env = "SANDBAR_DLQ_LIMIT", default_value_t = 20)]
    limit: usize,
    /// Which connection; the default one if left out
    #[arg(long, value_name = "NAME", env = "SANDBAR_CONNECTION")]
    connection: Option<String>,
    #[command(flatten)]
    filter: FilterArgs,
}

/// The listing, and keys that are halted by plugin.
#[derive(Debug, Serialize)]
struct Document<'a> {
    #[serde(flatten)]
    listing: &'a Listing,
    halted: &'a BTreeMap<String, Vec<Halted>>,
}

pub async fn list(args: &ListArgs, global: &Global) -> Result<()> {
    let filter = Filter::new(args.filter.criteria(args.plugin.clone())?);
    let filter = filter.map_err(anyhow::Error::msg)?;
    let config = global.config()?;
    let on = args.connection.as_deref().unwrap_or_else(|| config.dead_letter_connection());
    let connection = open_existing(global, &config, Some(on)).await?;
    let plugins = settings::plugins(&config);
    let topics = match args.topics.is_empty() {
        true => {
            let configured = plugins.values().map(|plugin| &plugin.dead_letter);
            let here = configured.filter(|d| d.connection == connection.name());
            redrive::topics(connection.as_ref(), here.map(|d| d.topic.clone()).collect()).await?
        }
        false => args.topics.iter().cloned().collect::<BTreeSet<_>>(),
    };
    let max_redrives: BTreeMap<&str, u32> =
        plugins.values().map(|p| (p.group.as_str(), p.dead_letter.max_redrives)).collect();
    let max_redrives = |group: &str| max_redrives.get(group).copied().unwrap_or(MAX_REDRIVES);
    let listing =
        redrive::list(connection.as_ref(), topics, &filter, max_redrives, args.limit).await?;
    let halted = halted(connection.as_ref(), &plugins, args.plugin.as_deref()).await?;
    connection.close().await;
    print(global.out(), &listing, &halted)
}

/// Halted keys of the plugins that have some on this connection.
async fn halted(
    connection: &dyn Connection,
    plugins: &BTreeMap<String, PluginConfig>,
    only: Option<&str>,
) -> Result<BTreeMap<String, Vec<Halted>>> {
    let mut halted = BTreeMap::new();
    for (name, plugin) in plugins {
        if plugin.notes_connection != connection.name() || only.is_some_and(|only| only != name) {
            continue;
        }
        let keys = redrive::halted(connection, &plugin.group).await?;
        if !keys.is_empty() {
            halted.insert(name.clone(), keys);
        }
    }
    Ok(halted)
}

fn print(out: Output, listing: &Listing, halted: &BTreeMap<String, Vec<Halted>>) -> Result<()> {
    if out.is_json() {
        return out.document(&Document { listing, halted });
    }
    if listing.groups.is_empty() {
        out.line("no dead letters")?;
    } else {
        let headings =
            ["PLUGIN", "VERSION", "CLASS", "CODE", "COUNT", "QUARANTINED", "LAST", "TOPIC"];
        out.table(&headings, &listing.groups.iter().map(group).collect::<Vec<_>>())?;
    }
    if !listing.letters.is_empty() {
        out.line("")?;
        let headings =
            ["TOPIC", "PARTITION", "POSITION", "CODE", "ATTEMPTS", "REDRIVES", "EVENT", "MESSAGE"];
        out.table(&headings, &listing.letters.iter().map(row).collect::<Vec<_>>())?;
    }
    if let Some(example) = &listing.unclear_example {
        eprintln!("{}", unclear(listing.unclear, example));
    }
    for (plugin, keys) in halted {
        out.line("")?;
        let keys: Vec<_> = keys.iter().map(|halted| bytes_text(&halted.key.0)).collect();
        out.line(format_args!(
            "keys that {plugin} holds back behind a dead letter: {}",
            keys.join(", ")
        ))?;
    }
    Ok(())
}

/// That an expression does not apply to some letters.
pub fn unclear(count: u64, example: &str) -> String {
    format!("the expression does not apply to {count} letters, such as {}", printable(example))
}

fn group(Group { of, count, quarantined, last_failed_at, .. }: &Group) -> Vec<String> {
    vec![
        printable(&of.plugin),
        printable(&of.version),
        printable(&of.class),
        printable(&of.code),
        count.to_string(),
        quarantined.to_string(),
        printable(last_failed_at),
        of.topic.clone(),
    ]
}

fn row(row: &Row) -> Vec<String> {
    let text = |part: fn(&DeadLetter) -> String| row.letter.as_ref().map(part).unwrap_or_default();
    let redrives = text(|l| l.redrives.to_string());
    vec![
        row.topic.clone(),
        row.partition.to_string(),
        row.position.to_string(),
        printable(&text(|l| l.error_code.clone())),
        text(|l| l.attempts.to_string()),
        if row.quarantined { format!("{redrives} (quarantined)") } else { redrives },
        printable(&text(|l| format!("{}/{}/{}", l.topic, l.partition, l.offset))),
        printable(&text(|l| l.message.clone())),
    ]
}
