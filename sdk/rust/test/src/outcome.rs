use std::collections::BTreeMap;

use bytes::Bytes;
use sandbar_core::Event;
use sandbar_pipeline::{DeadLetter as Info, StatsSnapshot};

use crate::LogLine;

/// What became of everything that was published so far.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// What the plugin published, by topic, in the order of the log.
    pub outputs: BTreeMap<String, Vec<Event>>,
    /// What it gave up, in order.
    pub dead_letters: Vec<DeadLetter>,
    /// What the plugin remembers now: keys and values; a counter is a decimal number.
    pub state: BTreeMap<String, Bytes>,
    /// Counters of the subscription.
    pub stats: StatsSnapshot,
    /// What it logged.
    pub log: Vec<LogLine>,
}

/// An event that was given up.
#[derive(Debug, Clone)]
pub struct DeadLetter {
    /// Why, when and by whom.
    pub info: Info,
    /// The dead letter as it is in its topic: key and payload are those of the event.
    pub event: Event,
}

impl Outcome {
    /// What the plugin published to `topic`.
    pub fn topic(&self, topic: &str) -> &[Event] {
        self.outputs.get(topic).map_or(&[], Vec::as_slice)
    }

    /// Payloads published to `topic` as text; bytes that are no UTF-8 are replaced and
    /// a tombstone is empty.
    pub fn texts(&self, topic: &str) -> Vec<String> {
        let text =
            |e: &Event| String::from_utf8_lossy(e.payload.as_deref().unwrap_or_default()).into();
        self.topic(topic).iter().map(text).collect()
    }

    /// The value of `key` in the plugin's state as text, where there is one.
    pub fn state_text(&self, key: &str) -> Option<String> {
        self.state.get(key).map(|value| String::from_utf8_lossy(value).into())
    }

    /// Events that were retried, each as often as it was.
    pub fn retries(&self) -> u64 {
        self.stats.retried.values().sum()
    }
}
