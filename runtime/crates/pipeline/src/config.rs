//! What a subscription is told, validated by whoever builds it.

use std::{sync::Arc, time::Duration};

use sandbar_core::reserved;
use serde::{Deserialize, Serialize};

use crate::RetryPolicy;

/// Settings of one subscription: one plugin on one set of topics.
#[derive(Debug, Clone)]
pub struct SubscriptionConfig {
    /// The plugin's name; labels metrics, logs and dead letters.
    pub name: String,
    /// The connection that its events come from.
    pub connection: Arc<str>,
    /// Consumer group or cursor name.
    pub group: String,
    /// Which events wait for each other.
    pub ordering: Ordering,
    /// Handler calls that run at once, over all partitions; at least 1.
    pub concurrency: usize,
    /// Unfinished events per partition (contract C4); at least 1.
    pub max_in_flight: usize,
    /// When and how often to try again.
    pub retry: RetryPolicy,
    /// Topics in which retries wait whose delay is long enough (contract R5); without
    /// any they wait in memory. Only for [`Ordering::None`].
    pub retry_tiers: Vec<RetryTier>,
    /// What becomes of an event that was rejected or is out of retries.
    pub exhausted: OnExhausted,
    /// Where dead letters go. Without it [`OnExhausted::DeadLetter`] acts as
    /// [`OnExhausted::Halt`]: nothing is ever dropped unasked.
    pub dead_letter: Option<DeadLetterConfig>,
    /// Topics that it may publish to, exact or with `*`.
    pub allow: Vec<String>,
    /// When to stop trying because nothing works.
    pub breaker: Breaker,
    /// For how long a handled event is remembered, so that it is not handled again
    /// (contract I1 to I3); `None` turns this off.
    pub dedup: Option<Duration>,
    /// The handler is a part of Sandbar that passes events on: it gets them byte for byte,
    /// envelopes of CloudEvents included, and may publish to any topic.
    pub internal: bool,
}

impl SubscriptionConfig {
    /// The defaults for plugin `name` on `connection`: ordered by key, group
    /// `sandbar.NAME`, dead letters to `NAME.dlq`, nothing allowed to be published.
    pub fn new(name: impl Into<String>, connection: impl Into<Arc<str>>) -> Self {
        let name = name.into();
        Self {
            connection: connection.into(),
            group: format!("sandbar.{name}"),
            ordering: Ordering::default(),
            concurrency: 8,
            max_in_flight: 1024,
            retry: RetryPolicy::default(),
            retry_tiers: Vec::new(),
            exhausted: OnExhausted::default(),
            dead_letter: Some(DeadLetterConfig::new(format!("{name}.dlq"))),
            allow: Vec::new(),
            breaker: Breaker::default(),
            dedup: None,
            internal: false,
            name,
        }
    }

    /// The topic of parcels that this subscription alone opens (contract D3, R5).
    pub fn inbox(&self) -> String {
        reserved::inbox(&self.group)
    }

    /// The topic of the keys that wait behind a dead letter (contract O4).
    pub fn halted(&self) -> String {
        reserved::halted(&self.group)
    }

    /// Whether an event must not be handled before it is known that the one ahead of it in
    /// its lane has not failed.
    pub(crate) fn waits_for_failed(&self) -> bool {
        match self.exhausted {
            OnExhausted::Halt => true,
            OnExhausted::DeadLetter => self.dead_letter.is_none() || self.halts_keys(),
            OnExhausted::Drop => false,
        }
    }

    /// Whether a dead letter halts the events behind it.
    pub(crate) fn halts_keys(&self) -> bool {
        let halts = |to: &DeadLetterConfig| to.on_dead_letter == OnDeadLetter::HaltKey;
        self.exhausted == OnExhausted::DeadLetter && self.dead_letter.as_ref().is_some_and(halts)
    }
}

/// A topic in which events wait for their next attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetryTier {
    /// The shortest delay that is spent there.
    pub delay: Duration,
    /// On the connection that the events come from.
    pub topic: Arc<str>,
}

/// Which events wait for each other (contract O1, O3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ordering {
    /// Events of one topic, partition and key, one after the other; events
    /// without a key wait for nothing.
    #[default]
    Key,
    /// A whole partition, one after the other.
    Partition,
    /// Nothing waits.
    None,
}

/// What becomes of an event that was rejected or is out of retries (contract R6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnExhausted {
    /// It is published to the dead-letter topic.
    #[default]
    DeadLetter,
    /// Its partition stops, with the event uncommitted, until an operator acts.
    Halt,
    /// It is acknowledged and counted as dropped.
    Drop,
}

/// Where and how dead letters are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetterConfig {
    /// Destination topic.
    pub topic: Arc<str>,
    /// Headers of which other family to add.
    pub dialect: Dialect,
    /// What becomes of the events behind a dead letter.
    pub on_dead_letter: OnDeadLetter,
}

impl DeadLetterConfig {
    /// Dead letters to `topic`, with no other family's headers, after which their key goes on.
    pub fn new(topic: impl Into<Arc<str>>) -> Self {
        Self { topic: topic.into(), dialect: Dialect::None, on_dead_letter: OnDeadLetter::Continue }
    }
}

/// What becomes of later events of a dead letter's key (contract O4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnDeadLetter {
    /// They are handled.
    #[default]
    Continue,
    /// They follow it to the dead letters, unhandled, until an operator releases the key.
    HaltKey,
}

/// Whose dead-letter headers to add to our own, for tools that know only those.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Dialect {
    /// Ours and Kafka's (KIP-1191) alone.
    #[default]
    None,
    /// Spring Kafka, `kafka_dlt-*`.
    Spring,
    /// Kafka Connect, `__connect.errors.*`.
    Connect,
    /// Kafka Streams (KIP-1034), `__streams.errors.*`.
    Streams,
}

/// The outage breaker (contract R8): pause, then probe with one event at a time
/// until one gets an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Breaker {
    /// Retryable failures in a row that open it; 0 turns it off.
    pub failures: u32,
    /// First pause; doubles with each failed probe.
    pub pause: Duration,
    /// Longest pause.
    pub max_pause: Duration,
}

impl Default for Breaker {
    fn default() -> Self {
        Self { failures: 0, pause: Duration::from_secs(1), max_pause: Duration::from_secs(30) }
    }
}
