//! Dead letters for tests, and a log to put them in.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use async_trait::async_trait;
use sandbar_core::{
    Connection, Delivery, Disposition, Event, Extent, Guarantees, Header, Outgoing, Partition,
    PartitionId, PublishError, ReadFrom, Reader, ResumeFrom, Settlement, Sink, Source, SourceError,
    SourceEvent, SubscriptionSpec, TopicInfo,
};
use sandbar_store::{Log, LogConfig};
use tokio::sync::Notify;

use super::Letter;

/// A letter of `plugin` at `p.dlq/0/3`, 1,000 s after the epoch.
pub(super) fn letter(key: &[u8], payload: &[u8], plugin: &str, code: &str) -> Letter {
    let record = dead(0, key, payload, plugin, code, 0);
    let event = Event {
        topic: "p.dlq".into(),
        partition: 0,
        position: 3,
        key: record.key,
        payload: record.payload,
        headers: record.headers.into(),
        timestamp_ms: 1_000_000,
        attributes: [].into(),
    };
    Letter::read(event).expect("a dead letter")
}

/// The record of a dead letter in `p.dlq`; its event was at `in/2/offset`.
pub(super) fn dead(
    offset: u64,
    key: &[u8],
    payload: &[u8],
    plugin: &str,
    code: &str,
    redrives: u32,
) -> Outgoing {
    let header = |(name, value): (&str, String)| Header::new(name, value);
    let headers = [
        ("source", "till".to_owned()),
        ("__dlq.errors.topic", "in".to_owned()),
        ("__dlq.errors.partition", "2".to_owned()),
        ("__dlq.errors.offset", offset.to_string()),
        ("__dlq.errors.group", format!("sandbar.{plugin}")),
        ("__dlq.errors.message", "card declined".to_owned()),
        ("sandbar-dlq-plugin", plugin.to_owned()),
        ("sandbar-dlq-plugin-version", "1.0.0".to_owned()),
        ("sandbar-dlq-error-class", "handler".to_owned()),
        ("sandbar-dlq-error-code", code.to_owned()),
        ("sandbar-dlq-attempts", "5".to_owned()),
        ("sandbar-dlq-redrives", redrives.to_string()),
        ("sandbar-dlq-timestamp-ms", "900000".to_owned()),
    ];
    Outgoing {
        headers: headers.map(header).into(),
        ..Outgoing::new("p.dlq", payload.to_vec()).with_key(key.to_vec())
    }
}

/// A log called `log`.
pub(super) fn log() -> Arc<dyn Connection> {
    named_log("log")
}

pub(super) fn named_log(name: &str) -> Arc<dyn Connection> {
    let config = LogConfig { name: name.to_owned(), ..LogConfig::default() };
    Arc::new(Log::in_memory(config).expect("a log"))
}

/// Publishes what must be taken.
pub(super) async fn publish(connection: &dyn Connection, records: &[Outgoing]) {
    for result in connection.sink().publish(records).await {
        result.expect("published");
    }
}

/// All of a topic; nothing where it does not exist.
pub(super) async fn all(connection: &dyn Connection, topic: &str) -> Vec<Event> {
    let Ok(mut reader) = connection.read(topic, ReadFrom::Start).await else { return Vec::new() };
    let mut all = Vec::new();
    loop {
        match reader.next(1000).await.expect("readable") {
            events if events.is_empty() => return all,
            events => all.extend(events),
        }
    }
}

/// A connection over a log that, as most brokers unless told otherwise, writes nothing
/// together with a position, that refuses what it is told to, and that can be stopped dead at any step.
pub(super) struct Plain {
    inner: Arc<dyn Connection>,
    steps: Arc<Steps>,
}

/// An answer to a record, by the number of the call.
type Refuse = dyn Fn(usize, &Outgoing) -> Option<PublishError> + Send + Sync;

/// Publishing and settling, counted, each before and after it is done.
pub(super) struct Steps {
    pub taken: AtomicUsize,
    /// The step that is never left.
    pub dead_at: usize,
    pub died: Notify,
    /// What the sink answers to a record instead of taking it, by the number of the call.
    pub refuse: Box<Refuse>,
    /// Whether a call takes nothing more of a key once it did not take one of it.
    pub in_lanes: bool,
    /// Whether it writes parcels together with a position after all, those apart whose
    /// payload is `bad`.
    pub atomic: bool,
    pub publishes: AtomicUsize,
}

impl Default for Steps {
    fn default() -> Self {
        Self {
            taken: AtomicUsize::new(0),
            dead_at: usize::MAX,
            died: Notify::new(),
            refuse: Box::new(|_, _| None),
            in_lanes: true,
            atomic: false,
            publishes: AtomicUsize::new(0),
        }
    }
}

impl Steps {
    async fn step(&self) {
        if self.taken.fetch_add(1, Ordering::Relaxed) == self.dead_at {
            self.died.notify_one();
            std::future::pending::<()>().await;
        }
    }
}

impl Plain {
    pub(super) fn new(inner: Arc<dyn Connection>, steps: Steps) -> Self {
        Self { inner, steps: Arc::new(steps) }
    }

    pub(super) fn steps(&self) -> &Arc<Steps> {
        &self.steps
    }
}

#[async_trait]
impl Connection for Plain {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn guarantees(&self) -> Guarantees {
        Guarantees { atomic_effects: self.steps.atomic, ..self.inner.guarantees() }
    }

    async fn subscribe(&self, spec: SubscriptionSpec) -> Result<Box<dyn Source>, SourceError> {
        let inner = self.inner.subscribe(spec).await?;
        Ok(Box::new(PlainSource { inner, steps: Arc::clone(&self.steps) }))
    }

    fn sink(&self) -> Arc<dyn Sink> {
        Arc::new(PlainSink { inner: self.inner.sink(), steps: Arc::clone(&self.steps) })
    }

    async fn read(&self, topic: &str, from: ReadFrom) -> Result<Box<dyn Reader>, SourceError> {
        self.inner.read(topic, from).await
    }

    async fn topics(&self) -> Result<Vec<TopicInfo>, SourceError> {
        self.inner.topics().await
    }

    async fn ensure_topics(&self, topics: &[String]) -> Result<(), SourceError> {
        self.inner.ensure_topics(topics).await
    }

    async fn cursors(
        &self,
        group: &str,
    ) -> Result<Vec<(PartitionId, ResumeFrom, ResumeFrom)>, SourceError> {
        self.inner.cursors(group).await
    }

    async fn extents(&self, topic: &str) -> Result<Vec<Extent>, SourceError> {
        self.inner.extents(topic).await
    }

    async fn close(&self) {}
}

struct PlainSource {
    inner: Box<dyn Source>,
    steps: Arc<Steps>,
}

#[async_trait]
impl Source for PlainSource {
    fn guarantees(&self) -> Guarantees {
        Guarantees { atomic_effects: self.steps.atomic, ..self.inner.guarantees() }
    }

    async fn next(&mut self) -> Result<SourceEvent, SourceError> {
        match self.inner.next().await? {
            SourceEvent::Assigned(inner) => {
                let steps = Arc::clone(&self.steps);
                Ok(SourceEvent::Assigned(Box::new(PlainPartition { inner, steps })))
            }
            other => Ok(other),
        }
    }

    async fn close(self: Box<Self>) -> Result<(), SourceError> {
        self.inner.close().await
    }
}

struct PlainPartition {
    inner: Box<dyn Partition>,
    steps: Arc<Steps>,
}

#[async_trait]
impl Partition for PlainPartition {
    fn id(&self) -> &PartitionId {
        self.inner.id()
    }

    async fn recv(&mut self, max: usize) -> Result<Vec<Delivery>, SourceError> {
        // a broker delivers as it likes
        self.inner.recv(max.min(7)).await
    }

    async fn settle(&mut self, settlements: &[Settlement]) -> Result<(), SourceError> {
        self.steps.step().await;
        for settlement in settlements {
            let Disposition::Done { effects, .. } = &settlement.disposition else { continue };
            if effects.iter().any(|effect| effect.payload.as_deref() == Some(b"bad")) {
                let (token, reason) = (settlement.token, "too large".to_owned());
                return Err(SourceError::Rejected { token, reason });
            }
        }
        let result = self.inner.settle(settlements).await;
        self.steps.step().await;
        result
    }
}

struct PlainSink {
    inner: Arc<dyn Sink>,
    steps: Arc<Steps>,
}

#[async_trait]
impl Sink for PlainSink {
    async fn publish(&self, records: &[Outgoing]) -> Vec<Result<(), PublishError>> {
        self.steps.step().await;
        let call = self.steps.publishes.fetch_add(1, Ordering::Relaxed);
        let mut results = Vec::with_capacity(records.len());
        let mut away: HashMap<_, PublishError> = HashMap::new();
        for record in records {
            let lane = (&record.topic, &record.key);
            let behind = away.get(&lane).filter(|_| self.steps.in_lanes).cloned();
            match behind.or_else(|| (self.steps.refuse)(call, record)) {
                Some(error @ PublishError::Unavailable(_)) => {
                    away.insert(lane, error.clone());
                    results.push(Err(error));
                }
                Some(error) => results.push(Err(error)),
                None => results.extend(self.inner.publish(std::slice::from_ref(record)).await),
            }
        }
        self.steps.step().await;
        results
    }
}
