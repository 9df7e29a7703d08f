//! A bench: a broker in memory, a handler that follows a script, and a run between
//! them that the test assigns partitions to.

pub mod broker;
pub mod handler;
pub mod world;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use sandbar_core::{DrainGuard, Guarantees, PartitionId, Source, SourceError, SourceEvent};
use sandbar_pipeline::{
    Environment, Outputs, RetryPolicy, RunEnd, StopHandle, Subscription, SubscriptionConfig,
    SubscriptionStats, run,
};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::{Instant, sleep},
};

pub use self::{
    broker::Broker,
    handler::{Entry, FakeHandler, History, What},
};

pub const TOPIC: &str = "orders";

/// The wall clock of all tests: 2026-11-21T10:30:00Z and standing still.
pub const WALL_MS: u64 = 1_795_257_000_000;

pub fn partition(topic: &str, partition: u32) -> PartitionId {
    PartitionId { topic: topic.into(), partition }
}

pub fn p(n: u32) -> PartitionId {
    partition(TOPIC, n)
}

/// Settings without chance: retries after 1, 2, 4 ... seconds, three attempts.
pub fn config() -> SubscriptionConfig {
    SubscriptionConfig {
        retry: RetryPolicy {
            max_attempts: 3,
            initial_delay: Duration::from_secs(1),
            max_delay: Duration::from_secs(600),
            multiplier: 2.0,
            jitter: 0.0,
            max_age: Duration::from_secs(3600),
        },
        allow: vec!["out*".into()],
        ..SubscriptionConfig::new("plug", "fake")
    }
}

pub fn environment() -> Environment {
    Environment { wall_ms: Arc::new(|| WALL_MS), random: Arc::new(|| 0.0) }
}

/// A subscription that is running on the fake broker.
pub struct Running {
    pub stats: Arc<SubscriptionStats>,
    pub stop: StopHandle,
    /// Partitions that are open now.
    pub held: Arc<AtomicUsize>,
    broker: Arc<Broker>,
    source: mpsc::Sender<Result<SourceEvent, SourceError>>,
    task: JoinHandle<Result<RunEnd, SourceError>>,
}

impl Running {
    pub fn start(
        broker: &Arc<Broker>,
        config: SubscriptionConfig,
        handler: Arc<dyn sandbar_core::Handler>,
    ) -> Self {
        let (source, events) = mpsc::channel(64);
        let stats = Arc::new(SubscriptionStats::unregistered(&config.name));
        let outputs = Outputs::single("fake", broker.clone());
        let subscription =
            Subscription::with_environment(config, handler, outputs, stats.clone(), environment());
        let (stop, listener) = StopHandle::new();
        let held = Arc::new(AtomicUsize::new(0));
        let source_end = FakeSource { events, broker: broker.clone(), held: held.clone() };
        let task = tokio::spawn(run(Box::new(source_end), subscription, listener));
        Self { stats, stop, held, broker: broker.clone(), source, task }
    }

    /// The same with one partition of [`TOPIC`] assigned.
    pub async fn on_partition(
        broker: &Arc<Broker>,
        config: SubscriptionConfig,
        handler: Arc<dyn sandbar_core::Handler>,
    ) -> Self {
        let running = Self::start(broker, config, handler);
        running.assign(p(0)).await;
        running
    }

    pub async fn say(&self, event: Result<SourceEvent, SourceError>) {
        assert!(self.source.send(event).await.is_ok(), "the run is over");
    }

    pub async fn assign(&self, id: PartitionId) {
        self.say(Ok(SourceEvent::Assigned(Box::new(self.broker.open(id, &self.held))))).await;
    }

    /// Revokes `id`; the receiver resolves when it has drained.
    pub async fn revoke(&self, id: PartitionId, timeout: Duration) -> oneshot::Receiver<()> {
        let (drained, done) = DrainGuard::new(timeout);
        self.say(Ok(SourceEvent::Revoking { id, drained })).await;
        done
    }

    /// The result of the run, which is about to end.
    pub async fn end(self) -> Result<RunEnd, SourceError> {
        self.task.await.expect("the run does not panic")
    }

    /// Drops the run where it is, as a crash would.
    pub async fn kill(self) {
        // the very thing that a product must not do
        #[expect(clippy::disallowed_methods)]
        self.task.abort();
        assert!(self.task.await.is_err_and(|e| e.is_cancelled()));
    }

    pub async fn drain(self, timeout: Duration) -> Result<RunEnd, SourceError> {
        self.stop.drain(timeout);
        self.end().await
    }
}

/// Says what the test makes it say.
struct FakeSource {
    events: mpsc::Receiver<Result<SourceEvent, SourceError>>,
    broker: Arc<Broker>,
    held: Arc<AtomicUsize>,
}

#[async_trait::async_trait]
impl Source for FakeSource {
    fn guarantees(&self) -> Guarantees {
        Guarantees {
            ordered: true,
            atomic_effects: self.broker.atomic,
            tombstones: true,
            delayed_release: false,
            spread_over_processes: true,
        }
    }

    async fn next(&mut self) -> Result<SourceEvent, SourceError> {
        match self.events.recv().await {
            Some(event) => event,
            None => std::future::pending().await,
        }
    }

    async fn close(self: Box<Self>) -> Result<(), SourceError> {
        // what was never taken from here does not count
        let Self { events, broker, held } = *self;
        drop(events);
        assert_eq!(
            held.load(Ordering::SeqCst),
            0,
            "partitions are dropped before the source is closed"
        );
        broker.state().closed += 1;
        Ok(())
    }
}

/// Waits for a condition, at most a day of paused time.
pub async fn until(what: &str, condition: impl Fn() -> bool) {
    let began = Instant::now();
    let mut pause = Duration::from_millis(1);
    while !condition() {
        assert!(began.elapsed() < Duration::from_secs(86_400), "never came: {what}");
        sleep(pause).await;
        // long waits need not be looked at every millisecond
        pause = (pause * 5 / 4).min(Duration::from_secs(1));
    }
}
