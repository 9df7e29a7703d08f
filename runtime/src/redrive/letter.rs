//! A dead letter: the event, and what its headers say happened to it.

use std::fmt;

use futures::StreamExt as _;
use sandbar_core::{Connection, Event, ReadFrom, SourceError};
use sandbar_pipeline::DeadLetter;

use crate::reading::read_events;

/// A dead letter as it lies in its topic.
#[derive(Debug, Clone)]
pub struct Letter {
    /// The record, headers of the dead letter included.
    pub event: Event,
    /// What they say.
    pub says: DeadLetter,
}

/// Where an event lies.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a>(pub &'a Event);

impl Letter {
    /// `event` as a dead letter.
    ///
    /// # Errors
    /// The event itself, where it is none of ours or does not say which group failed.
    // the event is given back to who has a use for it, once, and not passed on
    #[allow(clippy::result_large_err)]
    pub fn read(event: Event) -> Result<Self, Event> {
        match DeadLetter::parse(&event).filter(|says| !says.group.is_empty()) {
            Some(says) => Ok(Self { event, says }),
            None => Err(event),
        }
    }
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Event { topic, partition, position, .. } = self.0;
        write!(f, "{topic}/{partition}/{position}")
    }
}

/// The event at one position of `topic`, if it is there.
///
/// # Errors
/// Where the topic does not exist or the broker is away.
pub async fn find(
    connection: &dyn Connection,
    topic: &str,
    partition: u32,
    position: u64,
) -> Result<Option<Event>, SourceError> {
    let events = read_events(connection, topic, ReadFrom::Position(position), false).await?;
    let mut events = std::pin::pin!(events);
    while let Some(event) = events.next().await {
        let event = event?;
        if event.partition == partition {
            // the first one at or after the position
            return Ok(Some(event).filter(|event| event.position == position));
        }
    }
    Ok(None)
}
