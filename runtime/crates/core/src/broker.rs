//! The seam to a broker: small enough to fake by hand.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use tokio::{sync::oneshot, time::Instant};

use crate::{Delivery, Event, Marks, Outgoing, ResumeFrom, Settlement, SourceStats, StateStore};

/// A topic and one of its partitions.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PartitionId {
    /// Topic name.
    pub topic: Arc<str>,
    /// Partition number; 0 where the broker has none.
    pub partition: u32,
}

impl fmt::Display for PartitionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic, self.partition)
    }
}

/// A configured broker connection: where sources, sinks and readers come from.
#[async_trait]
pub trait Connection: Send + Sync {
    /// Name in the configuration.
    fn name(&self) -> &str;

    /// What its sources promise where [exactly once](SubscriptionSpec::exactly_once) is
    /// not asked of them; asks the broker nothing.
    fn guarantees(&self) -> Guarantees;

    /// Opens the cursor of one subscription. Returns at once even while the
    /// broker is away; the source then reports that and goes on trying.
    ///
    /// # Errors
    /// [`SourceError::Fatal`] if the request itself can never work.
    async fn subscribe(&self, spec: SubscriptionSpec) -> Result<Box<dyn Source>, SourceError>;

    /// The connection's one sink, shared by all.
    fn sink(&self) -> Arc<dyn Sink>;

    /// Where the connection itself remembers which events a subscription has handled;
    /// `None` where it cannot.
    fn marks(&self) -> Option<Arc<dyn Marks>> {
        None
    }

    /// Where the connection itself keeps the state of its subscriptions; `None` where it
    /// cannot.
    fn state(&self) -> Option<Arc<dyn StateStore>> {
        None
    }

    /// Reads a topic beside all subscriptions, leaving no cursor behind.
    ///
    /// # Errors
    /// Where the topic does not exist or the broker is away.
    async fn read(&self, topic: &str, from: ReadFrom) -> Result<Box<dyn Reader>, SourceError>;

    /// All topics that are not internal to the broker, by name.
    ///
    /// # Errors
    /// While the broker is away.
    async fn topics(&self) -> Result<Vec<TopicInfo>, SourceError>;

    /// Whether the broker is there and lets us in. Asked every few seconds: cheap, where listing the topics is
    /// not.
    ///
    /// # Errors
    /// Why not.
    async fn answers(&self) -> Result<(), SourceError> {
        self.topics().await.map(drop)
    }

    /// Creates the topics that do not exist yet, if the configuration allows it.
    ///
    /// # Errors
    /// [`SourceError::Fatal`] naming the topic where creation is not allowed.
    async fn ensure_topics(&self, topics: &[String]) -> Result<(), SourceError>;

    /// Creates `topic`, if the configuration allows it, as one that keeps the newest
    /// record of each key for ever, or as near to that as the broker can come.
    ///
    /// # Errors
    /// As [`ensure_topics`](Self::ensure_topics).
    async fn ensure_compacted_topic(&self, topic: &str) -> Result<(), SourceError> {
        self.ensure_topics(&[topic.to_owned()]).await
    }

    /// Deletes the events of `partition` before a position, for good.
    ///
    /// # Errors
    /// [`SourceError::Fatal`] where the broker cannot or may not.
    async fn trim(&self, partition: &PartitionId, before: ResumeFrom) -> Result<(), SourceError> {
        let ResumeFrom(before) = before;
        Err(SourceError::Fatal(format!(
            "connection {} cannot delete the events of {partition} before {before}",
            self.name()
        )))
    }

    /// Positions of a group on all partitions that it has a cursor for, with the
    /// partition's end: `(partition, resume from, end)`.
    ///
    /// # Errors
    /// While the broker is away.
    async fn cursors(
        &self,
        group: &str,
    ) -> Result<Vec<(PartitionId, ResumeFrom, ResumeFrom)>, SourceError>;

    /// What each partition of `topic` retains, in order of the partitions.
    ///
    /// # Errors
    /// Where the topic does not exist or the broker is away.
    async fn extents(&self, topic: &str) -> Result<Vec<Extent>, SourceError> {
        let name = self.name();
        Err(SourceError::Fatal(format!("connection {name} cannot say what {topic} retains")))
    }

    /// Puts the cursor of `group` on `partition` somewhere else. The group must have
    /// no subscription.
    ///
    /// # Errors
    /// [`SourceError::Fatal`] while the group has one, or where the broker keeps no cursors.
    async fn move_cursor(
        &self,
        group: &str,
        partition: &PartitionId,
        to: ResumeFrom,
    ) -> Result<(), SourceError> {
        let (name, ResumeFrom(to)) = (self.name(), to);
        Err(SourceError::Fatal(format!(
            "connection {name} cannot move the cursor of {group} on {partition} to {to}"
        )))
    }

    /// Flushes and closes. Called once, after all sources are closed.
    async fn close(&self);
}

/// What a partition retains: positions from `first` up to, and without, `end`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extent {
    /// Which partition.
    pub id: PartitionId,
    /// Position of the oldest retained event; `end` where there is none.
    pub first: ResumeFrom,
    /// Position that the next published event will get, or a later one.
    pub end: ResumeFrom,
}

/// What a subscription asks of a connection.
#[derive(Debug, Clone)]
pub struct SubscriptionSpec {
    /// Consumer group or cursor name; stable across reloads (contract H1).
    pub group: String,
    /// Exact names, or globs with `*`. Topics that appear later are picked up. A glob
    /// never matches a [reserved](crate::reserved) topic.
    pub topics: Vec<String>,
    /// Where a group without a cursor begins.
    pub start: StartAt,
    /// Deliveries that the adapter may hold ready per partition. Kafka's client counts them in
    /// bytes, too, and may hold more where they are small.
    pub prefetch: usize,
    /// Longest time that a revoked partition may take to drain.
    pub drain_timeout: Duration,
    /// Effects must become visible together with the position or not at all (contract
    /// E1). A connection that cannot promise this refuses the subscription.
    pub exactly_once: bool,
    /// For work that comes to an end, such as a redrive: [`Partition::recv`] answers with
    /// no delivery, instead of waiting, once everything that was there is delivered.
    pub until_end: bool,
    /// Where the adapter counts what only it can see.
    pub stats: Arc<SourceStats>,
}

impl SubscriptionSpec {
    /// `group` on `topics` from the earliest event on, at least once.
    pub fn new(group: impl Into<String>, topics: Vec<String>) -> Self {
        Self {
            group: group.into(),
            topics,
            start: StartAt::default(),
            prefetch: 1024,
            drain_timeout: Duration::from_secs(20),
            exactly_once: false,
            until_end: false,
            stats: Arc::default(),
        }
    }
}

/// Where a subscription without a cursor begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum StartAt {
    /// At the oldest retained event.
    #[default]
    Earliest,
    /// At the events that arrive from now on.
    Latest,
}

/// What an adapter promises, as data. The conformance suite demands exactly this.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Guarantees {
    /// Events of a partition arrive in order of their position.
    pub ordered: bool,
    /// `Disposition::Done.effects` are made durable atomically with the position.
    pub atomic_effects: bool,
    /// `Disposition::Done.mark` is written in that same step.
    pub atomic_marks: bool,
    /// `Disposition::Done.state` is written in that same step.
    pub atomic_state: bool,
    /// A record with a null payload is kept apart from an empty one.
    pub tombstones: bool,
    /// Released events can be delayed by the broker.
    pub delayed_release: bool,
    /// Subscriptions of one group in several processes share its work. Otherwise the
    /// second is refused, or stands by until the first has gone.
    pub spread_over_processes: bool,
    /// Every group gets every event. Otherwise a topic has one group, and a second is
    /// refused.
    pub fan_out: bool,
    /// Events stay after they are settled: they can be read beside subscriptions, and a
    /// group is a cursor that can be looked at and moved. Otherwise [`Connection::read`],
    /// `extents`, `trim` and `move_cursor` are [`SourceError::Fatal`] and say what to do
    /// instead.
    pub retained: bool,
    /// [`Delivery::redeliveries`] counts what the broker delivered before. Otherwise it
    /// is always 0.
    pub redelivery_counted: bool,
}

/// A stream of partitions coming and going.
#[async_trait]
pub trait Source: Send {
    /// What this source promises.
    fn guarantees(&self) -> Guarantees;

    /// The next change of the assignment. Cancel-safe.
    ///
    /// # Errors
    /// [`SourceError::Unavailable`] while the broker is away: the source goes on
    /// trying by itself and this only reports it. [`SourceError::Fatal`] ends it.
    async fn next(&mut self) -> Result<SourceEvent, SourceError>;

    /// Commits what is settled and leaves the group. All partitions are drained before.
    ///
    /// # Errors
    /// Where the last commit did not go through; what it covered will be delivered again.
    async fn close(self: Box<Self>) -> Result<(), SourceError>;
}

/// A change of the assignment.
pub enum SourceEvent {
    /// A partition to be worked on from now on.
    Assigned(Box<dyn Partition>),
    /// A partition is about to go: stop intake, finish, settle, drop it, then
    /// drop the guard. After the guard's deadline settlements are fenced off.
    Revoking {
        /// Which one.
        id: PartitionId,
        /// Tells the source when the partition is drained.
        drained: DrainGuard,
    },
    /// A bounded source (replay, redrive) has nothing more to give.
    Finished,
}

/// Says "this partition is drained" when dropped.
#[derive(Debug)]
pub struct DrainGuard {
    done: Option<oneshot::Sender<()>>,
    deadline: Instant,
}

impl DrainGuard {
    /// A guard and the receiver that resolves when it is dropped; the source waits for
    /// that no longer than `timeout` from now.
    pub fn new(timeout: Duration) -> (Self, oneshot::Receiver<()>) {
        let (tx, rx) = oneshot::channel();
        (Self { done: Some(tx), deadline: Instant::now() + timeout }, rx)
    }

    /// Until when the source waits, however late it is heard.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }
}

impl Drop for DrainGuard {
    fn drop(&mut self) {
        if let Some(done) = self.done.take() {
            // the source may have stopped waiting: then nobody needs to know
            let _ = done.send(());
        }
    }
}

/// One partition, owned by one pipeline loop.
#[async_trait]
pub trait Partition: Send {
    /// Which one.
    fn id(&self) -> &PartitionId;

    /// Waits for at least one and returns at most `max` deliveries, in order; none at
    /// the end of a subscription [until the end](SubscriptionSpec::until_end).
    /// Cancel-safe: a cancelled call loses no delivery. Not being called is
    /// back-pressure: the adapter stops fetching and stays in its group (contract C4).
    ///
    /// # Errors
    /// As [`Source::next`], and [`SourceError::Fenced`] once the partition is gone.
    async fn recv(&mut self, max: usize) -> Result<Vec<Delivery>, SourceError>;

    /// Settles deliveries in any order. On an error none of them is settled and
    /// the same call may be made again.
    ///
    /// # Errors
    /// [`SourceError::Unavailable`]: try again. [`SourceError::Rejected`]: one of the
    /// effects can never be written, or effects or changes of state are not promised.
    /// [`SourceError::Stale`]: one was handled on a state that has changed.
    /// [`SourceError::Fenced`]: nothing of this partition can be settled any more.
    async fn settle(&mut self, settlements: &[Settlement]) -> Result<(), SourceError>;
}

/// Why a source, a partition or a reader could not do what was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SourceError {
    /// The broker is away or busy; the same call may work later.
    #[error("{0}")]
    Unavailable(String),
    /// Settling `token` failed for good because of what is to be written with it.
    #[error("{reason}")]
    Rejected {
        /// The delivery with which nothing can be settled.
        token: crate::AckToken,
        /// Why, for people.
        reason: String,
    },
    /// The changes of state of `token` do not fit what others have made of it meanwhile:
    /// the event is to be handled again.
    #[error("{reason}")]
    Stale {
        /// The delivery whose changes are out of date.
        token: crate::AckToken,
        /// Which key, for people.
        reason: String,
    },
    /// This partition belongs to others by now, and what was not settled is theirs. The
    /// source and its other partitions go on.
    #[error("{0}")]
    Fenced(String),
    /// No later call can work: unauthorised, misconfigured.
    #[error("{0}")]
    Fatal(String),
}

/// Publishes events.
#[async_trait]
pub trait Sink: Send + Sync {
    /// Publishes records, keeping the order of those that share a topic and key.
    /// Returns one result per record, in order; `Ok` means durable.
    async fn publish(&self, records: &[Outgoing]) -> Vec<Result<(), PublishError>>;
}

/// Why one record was not published.
#[derive(Debug, Clone, thiserror::Error)]
pub enum PublishError {
    /// The broker is away or busy: publish it again.
    #[error("{0}")]
    Unavailable(String),
    /// The record can never be published: too large, unknown topic, not allowed.
    #[error("{0}")]
    Rejected(String),
}

/// Reads one topic outside of any subscription.
#[async_trait]
pub trait Reader: Send {
    /// Up to `max` events in order per partition. An empty result means the end
    /// as it was when the reader was opened; with `follow`, waits instead. Cancel-safe.
    ///
    /// # Errors
    /// While the broker is away.
    async fn next(&mut self, max: usize) -> Result<Vec<Event>, SourceError>;
}

/// Where a reader begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadFrom {
    /// The oldest retained event up to today's end.
    Start,
    /// From this position on (in every partition) up to today's end.
    Position(u64),
    /// From the first event at or after this time (milliseconds since the Unix
    /// epoch) up to today's end.
    Time(u64),
    /// Events that arrive from now on, without end.
    Follow,
}

/// A topic as listed to an operator.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct TopicInfo {
    /// Name.
    pub name: String,
    /// Number of partitions.
    pub partitions: u32,
    /// Events retained, where the broker can say.
    pub events: Option<u64>,
    /// Bytes retained, where the broker can say.
    pub bytes: Option<u64>,
}
