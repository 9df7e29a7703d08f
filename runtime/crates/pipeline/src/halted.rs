//! Keys that wait behind a dead letter (contract O4).
//!
//! A topic of the group notes them, compacted by key, and a tombstone releases one. It is
//! read before the first event of a partition and followed from then on.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use parking_lot::Mutex;
use sandbar_core::{Connection, Event, Outgoing, PartitionId, ReadFrom, SourceError, reserved};
use tokio::time::sleep;

use crate::{
    SubscriptionStats,
    backoff::{Backoff, Throttle},
};

/// Notes read at a time.
const READ: usize = 256;

/// A key whose later events follow a dead letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HaltedKey {
    /// Topic of the event that was dead-lettered.
    pub topic: String,
    /// Its partition.
    pub partition: u32,
    /// Its key.
    pub key: Bytes,
    /// Its position: events before it are not held up.
    pub position: u64,
}

/// The keys of `group` that are halted now, in order.
///
/// # Errors
/// While the broker is away, or where the group has no such topic.
pub async fn halted_keys(
    connection: &dyn Connection,
    group: &str,
) -> Result<Vec<HaltedKey>, SourceError> {
    let mut notes = Notes::default();
    let mut reader = connection.read(&reserved::halted(group), ReadFrom::Start).await?;
    loop {
        let read = reader.next(READ).await?;
        if read.is_empty() {
            return Ok(notes.halted.into_values().collect());
        }
        read.iter().for_each(|note| notes.apply(note));
    }
}

impl HaltedKey {
    /// That of `event`, should it be dead-lettered; `None` where it has no key.
    pub(crate) fn of(event: &Event) -> Option<Self> {
        let key = event.key.clone()?;
        let (topic, partition) = (event.topic.to_string(), event.partition);
        Some(Self { topic, partition, key, position: event.position })
    }

    /// The note that halts it.
    pub(crate) fn note(&self, halted_topic: impl Into<Arc<str>>) -> Outgoing {
        Outgoing::new(halted_topic, self.location()).with_key(self.name())
    }

    /// The tombstone that releases it.
    pub fn release(&self, halted_topic: impl Into<Arc<str>>) -> Outgoing {
        Outgoing { payload: None, ..self.note(halted_topic) }
    }

    /// Where its dead letter comes from: `topic/partition/position`.
    fn location(&self) -> String {
        format!("{}/{}/{}", self.topic, self.partition, self.position)
    }

    /// The key of its notes.
    fn name(&self) -> Bytes {
        name(&self.topic, self.partition, &self.key)
    }

    fn parse(name: &[u8], location: &[u8]) -> Option<Self> {
        let mut parts = std::str::from_utf8(location).ok()?.rsplitn(3, '/');
        let (position, partition) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        let topic = parts.next()?.to_owned();
        let key = name.strip_prefix(&*self::name(&topic, partition, b""))?;
        let key = Bytes::copy_from_slice(key);
        Some(Self { topic, partition, key, position })
    }
}

fn name(topic: &str, partition: u32, key: &[u8]) -> Bytes {
    [format!("{topic}/{partition}/").as_bytes(), key].concat().into()
}

/// What the topic says, as far as it was read.
#[derive(Default)]
struct Notes {
    halted: BTreeMap<Bytes, HaltedKey>,
    /// Where reading goes on in each of its partitions.
    next: BTreeMap<u32, u64>,
}

impl Notes {
    /// Takes in `note`, unless a reader that was ahead has done so.
    fn apply(&mut self, note: &Event) {
        let next = self.next.entry(note.partition).or_default();
        if note.position < *next {
            return;
        }
        *next = note.position + 1;
        let Some(name) = &note.key else { return };
        match note.payload.as_ref().map(|at| HaltedKey::parse(name, at)) {
            Some(Some(key)) => drop(self.halted.insert(name.clone(), key)),
            // a note that nobody can read must not halt anything for ever
            Some(None) | None => drop(self.halted.remove(name)),
        }
    }
}

/// The halted keys of one subscription.
pub(crate) struct HaltedKeys {
    connection: Arc<dyn Connection>,
    topic: Arc<str>,
    known: Mutex<Known>,
    stats: Arc<SubscriptionStats>,
    /// Readings of the whole topic that were begun.
    begun: AtomicU64,
    /// Number of the last one that came to its end.
    ended: tokio::sync::Mutex<u64>,
}

#[derive(Default)]
struct Known {
    notes: Notes,
    /// Keys halted here whose note was not read yet, and by which partition. Until then
    /// an older note or tombstone of the key says nothing of them.
    own: BTreeMap<Bytes, (PartitionId, HaltedKey)>,
}

impl Known {
    fn halted(&self, name: &Bytes) -> Option<&HaltedKey> {
        let own = self.own.get(name).map(|(_, key)| key);
        own.or_else(|| self.notes.halted.get(name))
    }

    fn apply(&mut self, note: &Event) {
        self.notes.apply(note);
        if let Some(name) = &note.key
            && self.notes.halted.get(name) == self.own.get(name).map(|(_, key)| key)
        {
            self.own.remove(name);
        }
    }
}

impl HaltedKeys {
    pub(crate) fn new(
        connection: Arc<dyn Connection>,
        topic: String,
        stats: Arc<SubscriptionStats>,
    ) -> Self {
        Self {
            connection,
            topic: topic.into(),
            known: Mutex::default(),
            stats,
            begun: AtomicU64::new(0),
            ended: tokio::sync::Mutex::new(0),
        }
    }

    /// Where the dead letter comes from that `event` has to follow, if there is one.
    pub(crate) fn ahead_of(&self, event: &Event) -> Option<String> {
        let name = name(&event.topic, event.partition, event.key.as_deref()?);
        let known = self.known.lock();
        let halted = known.halted(&name)?;
        // the dead letter itself, and what lies before it, is here for another time
        (halted.position < event.position).then(|| halted.location())
    }

    /// Halts the key of `event`, which `partition` is about to dead-letter, and returns the
    /// note that says so to others; `None` where that is said already.
    pub(crate) fn halt(&self, partition: &PartitionId, event: &Event) -> Option<Outgoing> {
        let key = HaltedKey::of(event)?;
        let (name, note) = (key.name(), key.note(self.topic.clone()));
        let mut known = self.known.lock();
        let behind = |halted: &&HaltedKey| halted.position <= key.position;
        if let Some((_, halted)) = known.own.get(&name).filter(|(_, halted)| behind(&halted)) {
            // its note may not be out, and then would be lost with whoever is at it
            return Some(halted.note(self.topic.clone()));
        }
        if known.halted(&name).filter(behind).is_some() {
            return None;
        }
        // before the note is out: it must not be read before it is expected
        known.own.insert(name, (partition.clone(), key));
        self.tell(&known);
        Some(note)
    }

    /// `partition` is another process's: what it noted is read, or was never written.
    pub(crate) fn forget(&self, partition: &PartitionId) {
        let mut known = self.known.lock();
        known.own.retain(|_, (by, _)| by != partition);
        self.tell(&known);
    }

    /// Waits until everything is known that was noted before the call.
    pub(crate) async fn catch_up(&self) {
        let (mut backoff, mut log) = (Backoff::default(), Throttle::default());
        while let Err(error) = self.read().await {
            self.complain(&error, &mut log);
            // a partition waits for this
            let reason = format!("topic {}: {error}", self.topic);
            self.stats.set_source_away(Some(reason));
            sleep(backoff.next()).await;
        }
    }

    /// Takes in what is noted from now on.
    pub(crate) async fn follow(&self) -> Infallible {
        let (mut backoff, mut log) = (Backoff::default(), Throttle::default());
        loop {
            let Err(error) = self.follow_until_lost(&mut backoff).await;
            self.complain(&error, &mut log);
            sleep(backoff.next()).await;
        }
    }

    async fn follow_until_lost(&self, backoff: &mut Backoff) -> Result<Infallible, SourceError> {
        let mut reader = self.connection.read(&self.topic, ReadFrom::Follow).await?;
        // what was noted before the reader began
        self.read().await?;
        loop {
            let notes = reader.next(READ).await?;
            backoff.reset();
            self.apply(&notes);
        }
    }

    /// Reads the whole topic, or waits for a reading that began after this call.
    async fn read(&self) -> Result<(), SourceError> {
        let before = self.begun.load(Ordering::Relaxed);
        let mut ended = self.ended.lock().await;
        if *ended > before {
            return Ok(());
        }
        let number = self.begun.fetch_add(1, Ordering::Relaxed) + 1;
        let mut reader = self.connection.read(&self.topic, ReadFrom::Start).await?;
        loop {
            let notes = reader.next(READ).await?;
            if notes.is_empty() {
                *ended = number;
                return Ok(());
            }
            self.apply(&notes);
        }
    }

    fn apply(&self, notes: &[Event]) {
        let mut known = self.known.lock();
        notes.iter().for_each(|note| known.apply(note));
        self.tell(&known);
    }

    fn tell(&self, known: &Known) {
        let only_own = known.own.keys().filter(|name| !known.notes.halted.contains_key(*name));
        self.stats.halted_keys.set((known.notes.halted.len() + only_own.count()) as i64);
    }

    fn complain(&self, error: &SourceError, log: &mut Throttle) {
        if let Some(held) = log.due() {
            tracing::warn!(
                plugin = self.stats.name(), topic = &*self.topic, held_lines = held, %error,
                "cannot read which keys are halted: trying again"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn halted(key: &'static [u8], position: u64) -> HaltedKey {
        HaltedKey { topic: "a/b".into(), partition: 7, key: Bytes::from_static(key), position }
    }

    fn stored(position: u64, note: Outgoing) -> Event {
        Event {
            topic: note.topic,
            partition: 0,
            position,
            key: note.key,
            payload: note.payload,
            headers: note.headers.into(),
            timestamp_ms: 0,
            attributes: [].into(),
        }
    }

    #[test]
    fn o4_a_note_says_which_key_is_halted_and_since_where() {
        for key in [&b""[..], b"k", b"\xff/3/", b"a/b/7/"] {
            let key = halted(key, 9);
            let note = stored(0, key.note("halted"));
            let read = HaltedKey::parse(&note.key.unwrap(), &note.payload.unwrap());
            assert_eq!(read, Some(key));
        }
    }

    #[test]
    fn o4_notes_that_are_read_twice_count_once_and_a_tombstone_releases() {
        let mut notes = Notes::default();
        let log = [halted(b"k", 3).note("h"), halted(b"k", 3).release("h")];
        let log: Vec<_> = (0..).zip(log).map(|(at, note)| stored(at, note)).collect();
        log.iter().for_each(|note| notes.apply(note));
        assert!(notes.halted.is_empty());
        notes.apply(&log[0]);
        assert!(notes.halted.is_empty(), "a reader that is behind halts nothing again");
        notes.apply(&stored(2, halted(b"k", 8).note("h")));
        assert_eq!(notes.halted.into_values().collect::<Vec<_>>(), [halted(b"k", 8)]);
    }

    #[test]
    fn o4_an_older_release_that_is_read_late_does_not_release_a_key_that_is_halted_again() {
        let mut known = Known::default();
        let partition = PartitionId { topic: "a/b".into(), partition: 7 };
        let (first, again) = (halted(b"k", 3), halted(b"k", 8));
        known.own.insert(again.name(), (partition, again.clone()));
        let mut at = 0;
        let mut read = |known: &mut Known, note| {
            known.apply(&stored(at, note));
            at += 1;
            known.halted(&again.name()).cloned()
        };
        assert_eq!(read(&mut known, first.note("h")), Some(again.clone()));
        assert_eq!(read(&mut known, first.release("h")), Some(again.clone()));
        assert_eq!(read(&mut known, again.note("h")), Some(again.clone()));
        assert_eq!(read(&mut known, again.release("h")), None);
    }
}
