//! Dead letters counted and listed.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use futures::StreamExt as _;
use sandbar_core::{Connection, Event, ReadFrom, SourceError};
use sandbar_pipeline::DeadLetter;
use serde::{Deserialize, Serialize};

use super::{Criteria, Filter, Letter, Match, Place, now_ms};
use crate::reading::read_events;

/// What the dead-letter topics hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listing {
    /// Letters that failed alike, counted.
    pub groups: Vec<Group>,
    /// The newest of them, oldest first.
    pub letters: Vec<Row>,
    /// Letters that the expression does not apply to. They are not listed.
    pub unclear: u64,
    /// The first of them, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unclear_example: Option<String>,
}

/// Dead letters that failed alike.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// What they have in common.
    #[serde(flatten)]
    pub of: Alike,
    /// How many there are.
    pub count: u64,
    /// How many of them were redriven too often already (contract D5).
    pub quarantined: u64,
    /// First failure among them, RFC 3339.
    pub first_failed_at: String,
    /// Last failure among them, RFC 3339.
    pub last_failed_at: String,
}

/// What is alike of letters that failed alike; `-` where they do not say.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Alike {
    /// The dead-letter topic.
    pub topic: String,
    /// The plugin that failed.
    pub plugin: String,
    /// Its version.
    pub version: String,
    /// Kind of the failure.
    pub class: String,
    /// Code of the failure.
    pub code: String,
}

/// A dead letter in its topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// The dead-letter topic.
    pub topic: String,
    /// Partition there.
    pub partition: u32,
    /// Position there.
    pub position: u64,
    /// When it was put there, milliseconds since the Unix epoch.
    pub timestamp: u64,
    /// Whether it was redriven too often already.
    pub quarantined: bool,
    /// `None`: put there by something else.
    pub letter: Option<DeadLetter>,
}

struct Tally {
    count: u64,
    quarantined: u64,
    first: String,
    last: String,
}

/// The topics of `connection` that hold dead letters: those of `configured` that there
/// are, and all whose name ends in `.dlq`.
///
/// # Errors
/// While the broker is away.
pub async fn topics(
    connection: &dyn Connection,
    configured: BTreeSet<String>,
) -> Result<BTreeSet<String>, SourceError> {
    let there = connection.topics().await?.into_iter().map(|t| t.name);
    Ok(there.filter(|name| name.ends_with(".dlq") || configured.contains(name)).collect())
}

/// The letters of `topics` that `filter` means, and the newest `limit` of them one by one.
/// `max_redrives` says by group how often a letter is redriven.
///
/// # Errors
/// Where a topic does not exist or the broker is away.
pub async fn list(
    connection: &dyn Connection,
    topics: impl IntoIterator<Item = String>,
    filter: &Filter,
    max_redrives: impl Fn(&str) -> u32,
    limit: usize,
) -> Result<Listing, SourceError> {
    let now_ms = now_ms();
    let mut listing = Listing::default();
    let mut groups: BTreeMap<Alike, Tally> = BTreeMap::new();
    let mut rows: VecDeque<Row> = VecDeque::new();
    for topic in topics {
        let events = read_events(connection, &topic, ReadFrom::Start, false).await?;
        let mut events = std::pin::pin!(events);
        while let Some(event) = events.next().await {
            let (event, letter) = match Letter::read(event?) {
                Ok(letter) => match filter.check(&letter, now_ms) {
                    Match::Yes => (letter.event, Some(letter.says)),
                    Match::No | Match::TooYoung => continue,
                    Match::Unclear(why) => {
                        listing.unclear += 1;
                        let example = || format!("{}: {why}", Place(&letter.event));
                        listing.unclear_example.get_or_insert_with(example);
                        continue;
                    }
                },
                // what says nothing of itself is listed where nothing is asked of it
                Err(event) if *filter.criteria() == Criteria::default() => (event, None),
                Err(_) => continue,
            };
            let quarantined = letter.as_ref().is_some_and(|l| l.redrives >= max_redrives(&l.group));
            count(&mut groups, &event, letter.as_ref(), quarantined);
            rows.push_back(Row {
                topic: topic.clone(),
                partition: event.partition,
                position: event.position,
                timestamp: event.timestamp_ms,
                quarantined,
                letter,
            });
            if rows.len() > limit {
                rows.pop_front();
            }
        }
    }
    let group = |(of, tally): (Alike, Tally)| Group {
        of,
        count: tally.count,
        quarantined: tally.quarantined,
        first_failed_at: tally.first,
        last_failed_at: tally.last,
    };
    listing.groups = groups.into_iter().map(group).collect();
    listing.letters = rows.into();
    Ok(listing)
}

fn count(
    groups: &mut BTreeMap<Alike, Tally>,
    event: &Event,
    letter: Option<&DeadLetter>,
    quarantined: bool,
) {
    let or_dash = |text: Option<&String>| text.map_or_else(|| "-".to_owned(), String::clone);
    let alike = Alike {
        topic: event.topic.to_string(),
        plugin: or_dash(letter.map(|l| &l.plugin)),
        version: or_dash(letter.and_then(|l| l.plugin_version.as_ref())),
        class: or_dash(letter.map(|l| &l.error_class)),
        code: or_dash(letter.map(|l| &l.error_code)),
    };
    let (first, last) = match letter {
        Some(letter) => (letter.first_failed_at.clone(), letter.last_failed_at.clone()),
        None => {
            let at = crate::event_json::time_text(event.timestamp_ms);
            (at.clone(), at)
        }
    };
    let tally = groups.entry(alike).or_insert_with(|| Tally {
        count: 0,
        quarantined: 0,
        first: first.clone(),
        last: last.clone(),
    });
    tally.count += 1;
    tally.quarantined += u64::from(quarantined);
    // RFC 3339 in UTC sorts as text
    tally.first = std::mem::take(&mut tally.first).min(first);
    tally.last = std::mem::take(&mut tally.last).max(last);
}
