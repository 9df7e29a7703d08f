//! Keys that wait behind a dead letter (contract O4), let go.

use sandbar_core::{Connection, PublishError, SourceError, reserved};
use sandbar_pipeline::{HaltedKey, halted_keys};
use serde::{Deserialize, Serialize};

use crate::event_json::BytesJson;

/// A halted key, or one that was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Halted {
    /// Topic of the event that was dead-lettered.
    pub topic: String,
    /// Its partition.
    pub partition: u32,
    /// Its position.
    pub position: u64,
    /// Its key.
    pub key: BytesJson,
}

/// `POST /api/plugins/{name}/release`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ReleaseRequest {
    /// The key, in whatever topic and partition it is halted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<BytesJson>,
    /// All keys.
    pub all: bool,
}

/// Why a key was not released.
#[derive(Debug, thiserror::Error)]
pub enum ReleaseError {
    /// The request cannot be met, whatever the broker says.
    #[error("{0}")]
    Request(String),
    /// The halted keys cannot be read.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The note is not taken.
    #[error(transparent)]
    Publish(#[from] PublishError),
}

/// The keys of `group` that are halted now; none where it never halted one.
///
/// # Errors
/// While the broker is away.
pub async fn halted(connection: &dyn Connection, group: &str) -> Result<Vec<Halted>, SourceError> {
    Ok(notes(connection, group).await?.iter().map(Halted::from).collect())
}

/// Lets keys of `group` go on: their next events are handled again. Those that followed
/// the dead letter are dead letters themselves, and are redriven like others.
///
/// # Errors
/// See [`ReleaseError`]. Made again, the request releases what is left.
pub async fn release(
    connection: &dyn Connection,
    group: &str,
    request: &ReleaseRequest,
) -> Result<Vec<Halted>, ReleaseError> {
    let key = match request {
        ReleaseRequest { key: Some(key), all: false } => Some(&key.0),
        ReleaseRequest { key: None, all: true } => None,
        _ => return Err(ReleaseError::Request("name one key, or say all".to_owned())),
    };
    let mut notes = notes(connection, group).await?;
    notes.retain(|note| key.is_none_or(|key| note.key == *key));
    let topic = reserved::halted(group);
    let releases: Vec<_> = notes.iter().map(|note| note.release(topic.as_str())).collect();
    if !releases.is_empty() {
        let results = connection.sink().publish(&releases).await;
        results.into_iter().collect::<Result<(), _>>()?;
    }
    Ok(notes.iter().map(Halted::from).collect())
}

async fn notes(connection: &dyn Connection, group: &str) -> Result<Vec<HaltedKey>, SourceError> {
    let topic = reserved::halted(group);
    match connection.topics().await?.iter().any(|t| t.name == topic) {
        true => halted_keys(connection, group).await,
        false => Ok(Vec::new()),
    }
}

impl From<&HaltedKey> for Halted {
    fn from(note: &HaltedKey) -> Self {
        Self {
            topic: note.topic.clone(),
            partition: note.partition,
            position: note.position,
            key: BytesJson(note.key.clone()),
        }
    }
}
