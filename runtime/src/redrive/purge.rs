//! Dead letters, deleted for good. A log is cut from the front: what goes is everything
//! before a position, whoever it belongs to.

use std::collections::BTreeMap;

use sandbar_core::{Connection, Extent, PartitionId, ReadFrom, ResumeFrom, SourceError};
use serde::{Deserialize, Serialize};

use super::{filter, now_ms};

/// Events read in one go.
const BATCH: usize = 256;

/// `POST /api/dead-letters/{topic}/purge`: how much goes. One of `before`, `older_than` and
/// `all` says so.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PurgeRequest {
    /// This partition alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partition: Option<u32>,
    /// Everything before this position; with `partition` where the topic has several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<u64>,
    /// Everything before the first letter that is no older than this, such as `7d`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub older_than: Option<String>,
    /// Everything that is there now.
    pub all: bool,
    /// Only says what would go.
    pub dry_run: bool,
}

/// What was deleted, or would be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Purged {
    /// The topic.
    pub topic: String,
    /// By partition.
    pub partitions: Vec<Cut>,
}

/// The front of a partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cut {
    /// Partition number.
    pub partition: u32,
    /// Where it began.
    pub first: u64,
    /// Where it begins now, or would.
    pub before: u64,
    /// Where it ends.
    pub end: u64,
}

/// Why nothing more was deleted.
#[derive(Debug, thiserror::Error)]
pub enum PurgeError {
    /// The request cannot be met, whatever the broker says.
    #[error("{0}")]
    Request(String),
    /// The broker.
    #[error(transparent)]
    Source(#[from] SourceError),
}

impl Purged {
    /// Positions that are gone, or would be.
    pub fn positions(&self) -> u64 {
        self.partitions.iter().map(|cut| cut.before - cut.first).sum()
    }
}

/// Deletes the front of `topic`.
///
/// # Errors
/// See [`PurgeError`]. Partitions before the one that failed are cut.
pub async fn purge(
    connection: &dyn Connection,
    topic: &str,
    request: &PurgeRequest,
) -> Result<Purged, PurgeError> {
    let extents = connection.extents(topic).await?;
    let cuts = cuts(connection, topic, request, extents).await?;
    let cuts: Vec<Cut> = cuts.into_iter().filter(|cut| cut.first < cut.before).collect();
    if !request.dry_run {
        for cut in &cuts {
            let id = PartitionId { topic: topic.into(), partition: cut.partition };
            connection.trim(&id, ResumeFrom(cut.before)).await?;
        }
    }
    Ok(Purged { topic: topic.to_owned(), partitions: cuts })
}

async fn cuts(
    connection: &dyn Connection,
    topic: &str,
    request: &PurgeRequest,
    extents: Vec<Extent>,
) -> Result<Vec<Cut>, PurgeError> {
    let PurgeRequest { partition, before, older_than, all, .. } = request;
    let refuse = |why: String| Err(PurgeError::Request(why));
    let several = extents.len() > 1;
    let mut cuts: Vec<Cut> = extents
        .into_iter()
        .filter(|extent| partition.is_none_or(|wanted| extent.id.partition == wanted))
        .map(|Extent { id, first, end }| Cut {
            partition: id.partition,
            first: first.0,
            before: first.0,
            end: end.0,
        })
        .collect();
    if let (true, Some(partition)) = (cuts.is_empty(), partition) {
        return refuse(format!("{topic} has no partition {partition}"));
    }
    match (before, older_than, all) {
        (Some(_), None, false) if several && partition.is_none() => {
            return refuse(format!("{topic} has several partitions: say which one is meant"));
        }
        (Some(before), None, false) => {
            for cut in &mut cuts {
                if *before > cut.end {
                    let Cut { partition, end, .. } = cut;
                    return refuse(format!("{topic}/{partition} ends at {end}"));
                }
                cut.before = (*before).max(cut.first);
            }
        }
        (None, Some(age), false) => {
            let age = filter::age(age).map_err(PurgeError::Request)?;
            let kept = first_since(connection, topic, now_ms().saturating_sub(age), &cuts).await?;
            for cut in &mut cuts {
                cut.before = kept.get(&cut.partition).copied().unwrap_or(cut.end);
            }
        }
        (None, None, true) => cuts.iter_mut().for_each(|cut| cut.before = cut.end),
        _ => {
            return refuse("say how much: before a position, older than an age, or all".to_owned());
        }
    }
    Ok(cuts)
}

/// Position of the first event since `time` in each partition that has one.
async fn first_since(
    connection: &dyn Connection,
    topic: &str,
    time: u64,
    cuts: &[Cut],
) -> Result<BTreeMap<u32, u64>, SourceError> {
    let mut reader = connection.read(topic, ReadFrom::Time(time)).await?;
    let mut found = BTreeMap::new();
    while cuts.iter().any(|cut| !found.contains_key(&cut.partition)) {
        let events = reader.next(BATCH).await?;
        if events.is_empty() {
            break;
        }
        for event in events {
            found.entry(event.partition).or_insert(event.position);
        }
    }
    Ok(found)
}
