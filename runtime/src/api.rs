//! What the admin API says, as JSON: written by `admin`, read by the commands.

use sandbar_pipeline::{BreakerState, DeadLetter, Ordering};
use serde::{Deserialize, Serialize};

use crate::{
    config::{DeliveryMode, ROUTE},
    event_json::EventJson,
    redrive::{Halted, Job},
    supervisor::State,
};

/// `GET /api/plugins`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plugins {
    /// By name.
    pub plugins: Vec<Plugin>,
}

/// `GET /api/plugins/{name}`, and one of `GET /api/plugins`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plugin {
    /// The file's name without `.wasm`; of a route, its name behind `route.`.
    pub name: String,
    /// Whether it is a plugin or a route.
    #[serde(default)]
    pub kind: Kind,
    /// What it is doing.
    pub state: State,
    /// Why it is not simply running.
    pub reason: Option<String>,
    /// Its file.
    pub file: String,
    /// Version that the running file states of itself.
    pub version: Option<String>,
    /// Description that the running file gives of itself.
    pub description: Option<String>,
    /// Digest of the running file, lower-case hex.
    pub digest: Option<String>,
    /// Size of the running file in bytes.
    pub size: Option<u64>,
    /// When the running file took over, RFC 3339.
    pub loaded_at: Option<String>,
    /// Milliseconds from reading the file to taking over.
    pub load_ms: Option<u64>,
    /// Versions swapped in since it was added.
    pub reloads: u64,
    /// Times that its subscription was opened anew.
    pub restarts: u64,
    /// Files and settings that were refused.
    pub refusals: u64,
    /// Why the newest file or settings were refused, until they load.
    pub last_error: Option<String>,
    /// What it is subscribed to: one, or none while it is not loaded.
    pub subscriptions: Vec<Subscription>,
    /// What became of its events since the start of the runtime.
    pub counts: Counts,
    /// Events in work.
    pub in_flight: u64,
}

/// What handles events.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A WebAssembly component.
    #[default]
    Plugin,
    /// A `[[route]]` of the configuration.
    Route,
}

impl Kind {
    /// That of the one called `name`: no plugin has a name that begins like a route's.
    pub fn of(name: &str) -> Self {
        if name.starts_with(ROUTE) { Self::Route } else { Self::Plugin }
    }
}

/// A subscription of a plugin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subscription {
    /// Connection that its events come from.
    pub connection: String,
    /// Consumer group or cursor.
    pub group: String,
    /// Names and globs as configured.
    pub topics: Vec<String>,
    /// What runs one after the other.
    pub ordering: Ordering,
    /// Whether outputs and position become visible together.
    pub delivery: DeliveryMode,
    /// How long handled events are remembered, in milliseconds; `None`: not at all.
    pub dedup_window_ms: Option<u64>,
    /// Whether it pauses because nothing worked.
    pub breaker: BreakerState,
    /// Keys whose events wait behind a dead letter.
    pub halted_keys: u64,
    /// Topics it may publish to, names and globs.
    pub publish: Vec<String>,
    /// Connection of its outputs.
    pub output_connection: String,
    /// Where its dead letters go, if any do.
    pub dead_letters: Option<Place>,
    /// Events not yet terminal, over all partitions; `None` while the broker cannot say.
    pub lag: Option<u64>,
    /// Positions by partition. Only in the answer about a single plugin.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cursors: Vec<Cursor>,
}

/// A topic on a connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Connection.
    pub connection: String,
    /// Topic.
    pub topic: String,
}

/// The position of a subscription on one partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// Topic.
    pub topic: String,
    /// Partition number.
    pub partition: u32,
    /// Position of the next event to be handled after a restart.
    pub resume_from: u64,
    /// Position that the next published event will get.
    pub end: u64,
    /// Events between the two.
    pub lag: u64,
}

/// What became of events.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Taken in.
    pub received: u64,
    /// Handled with success.
    pub handled: u64,
    /// Not for this plugin, as it said.
    pub skipped: u64,
    /// Attempts after the first.
    pub retried: u64,
    /// Sent to the dead-letter topic.
    pub dead_lettered: u64,
    /// Dropped with their attempts used up, as configured.
    pub dropped: u64,
    /// Passed over, as they had been handled before.
    pub duplicates: u64,
    /// Given back unprocessed by a stop or a rebalance.
    pub released: u64,
    /// Published by it.
    pub published: u64,
}

/// `GET /api/topics`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Topics {
    /// By connection and name.
    pub topics: Vec<Topic>,
    /// Connections that could not be asked, with the reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unavailable: Vec<Unavailable>,
}

/// One topic of one connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Topic {
    /// Connection.
    pub connection: String,
    /// Name.
    pub name: String,
    /// Number of partitions.
    pub partitions: u32,
    /// Events retained, where the broker can say.
    pub events: Option<u64>,
    /// Bytes retained, where the broker can say.
    pub bytes: Option<u64>,
}

/// A connection that does not answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unavailable {
    /// Connection.
    pub connection: String,
    /// Why.
    pub error: String,
}

/// `GET /api/plugins/{name}/dead-letters`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetters {
    /// The topic that holds them.
    pub topic: String,
    /// Oldest first.
    pub dead_letters: Vec<DeadLetterEvent>,
}

/// `GET /api/dead-letters/{topic}/{partition}/{position}`, and one of
/// `GET /api/plugins/{name}/dead-letters`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetterEvent {
    /// What happened.
    #[serde(flatten)]
    pub letter: DeadLetter,
    /// The event as it lies in the dead-letter topic.
    pub event: EventJson,
}

/// `GET /api/dead-letters/{topic}/redrive`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Redrives {
    /// Oldest first.
    pub redrives: Vec<Job>,
}

/// `POST /api/plugins/{name}/release`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Released {
    /// The plugin's group.
    pub group: String,
    /// Keys that are halted no longer.
    pub released: Vec<Halted>,
}

/// `GET /readyz`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Readiness {
    /// Every connection answered once and every plugin found at the start was
    /// loaded or reported.
    pub ready: bool,
    /// What is missing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waiting_for: Vec<String>,
}
