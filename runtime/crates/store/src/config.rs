//! What an operator may set.

use std::{collections::BTreeMap, time::Duration};

/// Settings of a log. The defaults are those of the product.
#[derive(Debug, Clone, PartialEq)]
pub struct LogConfig {
    /// Name of the connection.
    pub name: String,
    /// Partitions of a topic that is created from now on, at least 1.
    pub partitions: u32,
    /// What may be deleted, where a topic does not say otherwise.
    pub retention: Retention,
    /// Topics that differ from the above.
    pub topics: BTreeMap<String, TopicConfig>,
    /// Whether publishing and subscribing create the topics they name.
    pub create_topics: bool,
    /// Largest record: bytes of key, payload and headers together.
    pub max_record_bytes: usize,
    /// Memory for the pages of the file, in bytes.
    pub page_cache_bytes: usize,
    /// Memory for the newest batches, from which followers at the head are served.
    pub head_cache_bytes: usize,
    /// How often retention by age is looked at. Retention by size also runs as soon
    /// as a topic outgrows its limit by an eighth.
    pub retention_interval: Duration,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            name: "log".into(),
            partitions: 1,
            retention: Retention::default(),
            topics: BTreeMap::new(),
            create_topics: true,
            max_record_bytes: 64 << 20,
            page_cache_bytes: 64 << 20,
            head_cache_bytes: 32 << 20,
            retention_interval: Duration::from_secs(10),
        }
    }
}

/// Settings of one topic.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct TopicConfig {
    /// Number of partitions when it is created; has no effect on an existing topic.
    pub partitions: Option<u32>,
    /// What may be deleted.
    pub retention: Option<Retention>,
}

/// How long events stay readable. Both limits may be off; the first one reached wins.
/// Only whole batches go, so a little more than asked for may stay.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Retention {
    /// Batches whose newest event is older than this are deleted.
    pub age: Option<Duration>,
    /// The oldest batches of a topic are deleted while the others hold this many bytes.
    pub size: Option<u64>,
}

impl Default for Retention {
    fn default() -> Self {
        Self { age: Some(Duration::from_secs(7 * 24 * 3600)), size: Some(1 << 30) }
    }
}

impl Retention {
    /// Keeps everything.
    pub const UNLIMITED: Self = Self { age: None, size: None };
}

impl LogConfig {
    pub(crate) fn partitions_of(&self, topic: &str) -> u32 {
        self.topics.get(topic).and_then(|t| t.partitions).unwrap_or(self.partitions).max(1)
    }

    pub(crate) fn retention_of(&self, topic: &str) -> Retention {
        self.topics.get(topic).and_then(|t| t.retention).unwrap_or(self.retention)
    }
}
