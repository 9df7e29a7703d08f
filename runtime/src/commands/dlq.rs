//! `sandbar dlq list` and `show`

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use futures::StreamExt as _;
use sandbar::{
    config::{Config, Declared},
    event_json::EventJson,
    plugin_file,
    reading::read_events,
};
use sandbar_core::{Connection, Event, ReadFrom};
use sandbar_pipeline::DeadLetter;
use serde::Serialize;
use serde_json::json;

use super::{
    Global, Output,
    connect::open_existing,
    folder,
    output::{bytes_text, printable, time_text},
};

#[derive(Debug, Subcommand)]
pub enum DlqCommand {
    /// Count dead letters by plugin and error, and list the newest
    List(ListArgs),
    /// Show one dead letter whole
    Show(ShowArgs),
}

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
}

#[derive(Debug, Args)]
pub struct ShowArgs {
    /// Dead-letter topic, or the plugin that failed
    topic: String,
    /// Position of the dead letter in its topic, as listed
    position: u64,
    /// Partition of the dead letter
    #[arg(long, value_name = "N", env = "SANDBAR_DLQ_PARTITION", default_value_t = 0)]
    partition: u32,
    /// Which connection; the default one if left out
    #[arg(long, value_name = "NAME", env = "SANDBAR_CONNECTION")]
    connection: Option<String>,
}

pub async fn dlq(command: &DlqCommand, global: &Global) -> Result<()> {
    match command {
        DlqCommand::List(args) => list(args, global).await,
        DlqCommand::Show(args) => show(args, global).await,
    }
}

/// Dead letters that failed alike.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
struct Group {
    topic: String,
    plugin: String,
    class: String,
    code: String,
}

#[derive(Debug, Default, Serialize)]
struct Tally {
    count: u64,
    first_failed_at: String,
    last_failed_at: String,
}

/// A dead letter in its topic.
#[derive(Debug, Serialize)]
struct Row {
    topic: String,
    partition: u32,
    position: u64,
    timestamp: u64,
    /// `None`: put there by something else.
    letter: Option<DeadLetter>,
}

async fn list(args: &ListArgs, global: &Global) -> Result<()> {
    let config = global.config()?;
    let connection = open_existing(global, &config, args.connection.as_deref()).await?;
    let topics = dead_letter_topics(&config, connection.as_ref(), &args.topics).await?;
    let mut groups: BTreeMap<Group, Tally> = BTreeMap::new();
    let mut rows: VecDeque<Row> = VecDeque::new();
    for topic in topics {
        let events = read_events(connection.as_ref(), &topic, ReadFrom::Start, false).await?;
        let mut events = std::pin::pin!(events);
        while let Some(event) = events.next().await {
            let event = event?;
            let letter = DeadLetter::parse(&event);
            let plugin = letter.as_ref().map(|l| l.plugin.as_str());
            if args.plugin.is_some() && args.plugin.as_deref() != plugin {
                continue;
            }
            count(&mut groups, &topic, &event, letter.as_ref());
            rows.push_back(Row {
                topic: topic.clone(),
                partition: event.partition,
                position: event.position,
                timestamp: event.timestamp_ms,
                letter,
            });
            if rows.len() > args.limit {
                rows.pop_front();
            }
        }
    }
    connection.close().await;
    print(global.out(), &groups, &rows)
}

fn count(
    groups: &mut BTreeMap<Group, Tally>,
    topic: &str,
    event: &Event,
    letter: Option<&DeadLetter>,
) {
    let text = |part: fn(&DeadLetter) -> &String| {
        letter.map_or_else(|| "-".to_owned(), |l| part(l).clone())
    };
    let group = Group {
        topic: topic.to_owned(),
        plugin: text(|l| &l.plugin),
        class: text(|l| &l.error_class),
        code: text(|l| &l.error_code),
    };
    let at = letter.map_or_else(|| time_text(event.timestamp_ms), |l| l.last_failed_at.clone());
    let tally = groups.entry(group).or_default();
    tally.count += 1;
    if tally.first_failed_at.is_empty() || at < tally.first_failed_at {
        tally.first_failed_at.clone_from(&at);
    }
    if at > tally.last_failed_at {
        tally.last_failed_at = at;
    }
}

fn print(out: Output, groups: &BTreeMap<Group, Tally>, rows: &VecDeque<Row>) -> Result<()> {
    if out.is_json() {
        let groups = groups.iter().map(|(group, tally)| {
            json!({
                "topic": group.topic, "plugin": group.plugin, "class": group.class, "code": group.code,
                "count": tally.count, "first_failed_at": tally.first_failed_at, "last_failed_at": tally.last_failed_at,
            })
        });
        return out.document(&json!({ "groups": groups.collect::<Vec<_>>(), "letters": rows }));
    }
    if groups.is_empty() {
        return out.line("no dead letters");
    }
    let group_row = |(group, tally): (&Group, &Tally)| {
        vec![
            printable(&group.plugin),
            printable(&group.class),
            printable(&group.code),
            tally.count.to_string(),
            printable(&tally.last_failed_at),
            group.topic.clone(),
        ]
    };
    let headings = ["PLUGIN", "CLASS", "CODE", "COUNT", "LAST", "TOPIC"];
    out.table(&headings, &groups.iter().map(group_row).collect::<Vec<_>>())?;
    if rows.is_empty() {
        return Ok(());
    }
    let row = |row: &Row| {
        let text =
            |part: fn(&DeadLetter) -> String| row.letter.as_ref().map(part).unwrap_or_default();
        vec![
            row.topic.clone(),
            row.partition.to_string(),
            row.position.to_string(),
            printable(&text(|l| l.error_code.clone())),
            text(|l| l.attempts.to_string()),
            printable(&text(|l| format!("{}/{}/{}", l.topic, l.partition, l.offset))),
            printable(&text(|l| l.message.clone())),
        ]
    };
    out.line("")?;
    let headings = ["TOPIC", "PARTITION", "POSITION", "CODE", "ATTEMPTS", "EVENT", "MESSAGE"];
    out.table(&headings, &rows.iter().map(row).collect::<Vec<_>>())
}

/// Topics of the connection that hold dead letters.
async fn dead_letter_topics(
    config: &Config,
    connection: &dyn Connection,
    asked: &[String],
) -> Result<BTreeSet<String>> {
    if !asked.is_empty() {
        return Ok(asked.iter().cloned().collect());
    }
    let configured: BTreeSet<String> = plugin_names(config)
        .iter()
        .filter_map(|name| configured_topic(config, name))
        .filter(|(on, _)| on == connection.name())
        .map(|(_, topic)| topic)
        .collect();
    let there = connection.topics().await?.into_iter().map(|t| t.name);
    Ok(there.filter(|name| name.ends_with(".dlq") || configured.contains(name)).collect())
}

fn plugin_names(config: &Config) -> BTreeSet<String> {
    let files = folder::plugins(&config.plugins_folder).unwrap_or_default();
    files.into_keys().chain(config.configured_plugins().map(str::to_owned)).collect()
}

/// Connection and topic of a plugin's dead letters, as far as the operator's files
/// say it; the plugin itself is not asked.
fn configured_topic(config: &Config, name: &str) -> Option<(String, String)> {
    let files = folder::plugins(&config.plugins_folder).unwrap_or_default();
    let sidecar = files.get(name).and_then(|file| {
        let text = plugin_file::read(file).ok()?.settings?;
        config.sidecar(&file.settings, &text).ok()
    });
    // without a topic to read the settings would not be complete
    let declared = Declared { topics: vec!["any".to_owned()], ..Declared::default() };
    let plugin = config.plugin(name, &declared, sidecar.as_ref()).ok()?;
    Some((plugin.dead_letter.connection, plugin.dead_letter.topic))
}

async fn show(args: &ShowArgs, global: &Global) -> Result<()> {
    let config = global.config()?;
    let connection = open_existing(global, &config, args.connection.as_deref()).await?;
    let is_topic = connection.topics().await?.iter().any(|t| t.name == args.topic);
    let topic = match is_topic {
        true => args.topic.clone(),
        false => configured_topic(&config, &args.topic)
            .map_or_else(|| format!("{}.dlq", args.topic), |(_, topic)| topic),
    };
    let from = ReadFrom::Position(args.position);
    let events = read_events(connection.as_ref(), &topic, from, false).await?;
    let mut events = std::pin::pin!(events);
    while let Some(event) = events.next().await {
        let event = event?;
        if event.partition == args.partition {
            connection.close().await;
            if event.position != args.position {
                break;
            }
            return print_one(global.out(), &event);
        }
    }
    bail!("there is no event at {topic}/{}/{}", args.partition, args.position)
}

fn print_one(out: Output, event: &Event) -> Result<()> {
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
            field("first failed", &l.first_failed_at)?;
            field("last failed", &l.last_failed_at)?;
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
