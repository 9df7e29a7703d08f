//! One suite for every broker: an adapter declares what it promises, as data, and the
//! suite demands exactly that. `docs/adapters.md` shows how an adapter joins.
//!
//! Each [`Statement`] is one test of a [`Suite`]. Where a guarantee is not given, the
//! test checks the weaker statement that must still hold, or says that it does not apply.

mod bench;
mod consumer;
mod delivery;
mod effects;
mod groups;
mod outage;
mod records;
mod retained;
mod statements;
mod suite;
mod window;

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use sandbar_core::{Connection, Guarantees};

pub use self::{
    bench::Bench,
    consumer::{Consumer, Got},
    statements::{STATEMENTS, Statement},
    suite::Suite,
};

/// Longest that anything may take that must happen; what is waited for is a condition.
const PATIENCE: Duration = Duration::from_secs(60);

/// A broker under test, and what its adapter declares. Each test makes one of its own.
#[async_trait]
pub trait Backend: Send + Sync + 'static {
    /// What the suite is to demand.
    fn declared(&self) -> Declared;

    /// A connection that may create topics, of [`Declared::partitions`] partitions.
    async fn connect(&self) -> Arc<dyn Connection>;

    /// A connection that may create no topics.
    async fn connect_strict(&self) -> Arc<dyn Connection>;

    /// A connection that stands for another process beside the one of
    /// [`connect`](Self::connect); `None` where the broker lives within one process.
    async fn connect_elsewhere(&self) -> Option<Arc<dyn Connection>> {
        Some(self.connect().await)
    }

    /// The connection of a process that starts again, after all others were closed. Only a
    /// broker that is closed with its connection does otherwise than this.
    async fn reopen(&self) -> Arc<dyn Connection> {
        self.connect().await
    }

    /// Makes `topic` before it is used. Only a broker whose topics no connection can make
    /// does otherwise than this.
    async fn make_topic(&self, connection: &dyn Connection, topic: &str) {
        let made = connection.ensure_topics(&[topic.to_owned()]).await;
        made.unwrap_or_else(|e| panic!("topic {topic} was not made: {e}"));
    }

    /// Takes the broker away and brings it back; `None` where that cannot be done here,
    /// which the suite says aloud.
    fn switch(&self) -> Option<&dyn Switch> {
        None
    }
}

/// Takes the broker away, as a crash does, and brings it back with its data.
#[async_trait]
pub trait Switch: Send + Sync {
    /// Kills the broker; returns when it answers nobody any more.
    async fn kill(&self);

    /// Starts it again; returns when it answers.
    async fn start(&self);
}

/// What an adapter promises, and how far its broker goes.
#[derive(Debug, Clone)]
pub struct Declared {
    /// Name of the backend, for people.
    pub name: &'static str,
    /// What [`Connection::guarantees`] must say, and every source of it.
    pub guarantees: Guarantees,
    /// Partitions of the topics that [`Backend::connect`]'s connections make.
    pub partitions: u32,
    /// Bytes of payload that must go through.
    pub largest_payload: usize,
    /// Bytes of payload that must be refused; `None` where nothing is too large.
    pub too_large: Option<usize>,
    /// What becomes of headers.
    pub headers: Headers,
    /// Whether the broker holds back what follows of a key while some of it is in hand, so
    /// that not all events of a few keys can be. Statements then settle as they go, or
    /// give each event in hand a key of its own.
    pub locks_keys: bool,
    /// How long the broker lends a delivery before it gives it to someone else, as the
    /// backend's connections are configured (1 or 2 s make for quick tests); `None`
    /// where it has no such limit.
    pub lease: Option<Duration>,
    /// Statements that this backend cannot keep though its guarantees say so, by name,
    /// each with the reason: flaws of a stand-in, not of an adapter.
    pub gaps: &'static [(&'static str, &'static str)],
}

/// What a broker's headers keep, beside names and binary values, which all keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Headers {
    /// Their order.
    pub ordered: bool,
    /// Several of one name, in their order.
    pub repeated: bool,
    /// A null value apart from an empty one.
    pub null: bool,
}

impl Headers {
    /// As Kafka has them.
    pub const EVERYTHING: Self = Self { ordered: true, repeated: true, null: true };
}

/// Whether a statement is demanded of a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applies {
    /// As it is named.
    Fully,
    /// Only this much of it.
    Weaker(&'static str),
    /// Not at all, and why.
    Not(&'static str),
}

impl fmt::Display for Applies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fully => write!(f, "demanded"),
            Self::Weaker(what) => write!(f, "weaker: {what}"),
            Self::Not(why) => write!(f, "does not apply: {why}"),
        }
    }
}
