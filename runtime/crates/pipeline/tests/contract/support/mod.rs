//! A bench: a broker in memory, a handler that follows a script, and a run between
//! them that the test assigns partitions to.

pub mod broker;
pub mod handler;
pub mod services;
pub mod state;
pub mod world;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use prometheus_client::{encoding::text::encode, registry::Registry};
use sandbar_core::{DrainGuard, Guarantees, PartitionId, Source, SourceError, SourceEvent};
use sandbar_pipeline::{
    Outputs, PipelineMetrics, RetryPolicy, RunEnd, Services, StopHandle, Subscription,
    SubscriptionConfig, SubscriptionStats, run,
};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};

pub use self::{
    broker::Broker,
    handler::{Entry, FakeHandler, History, What},
    services::{WALL_MS, courier, services},
};

pub const TOPIC: &str = "orders";

pub fn partition(topic: &str, partition: u32) -> PartitionId {
    PartitionId { topic: topic.into(), partition }
}

/// Where parcels for the subscription of [`config`] lie.
pub fn inbox() -> PartitionId {
    partition("sandbar-inbox.sandbar.plug", 0)
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

/// A subscription that is running on the fake broker.
pub struct Running {
    pub stats: Arc<SubscriptionStats>,
    pub stop: StopHandle,
    /// Partitions that are open now.
    pub held: Arc<AtomicUsize>,
    broker: Arc<Broker>,
    source: mpsc::Sender<Result<SourceEvent, SourceError>>,
    task: JoinHandle<Result<RunEnd, SourceError>>,
    registry: Registry,
}

impl Running {
    pub fn start(
        broker: &Arc<Broker>,
        config: SubscriptionConfig,
        handler: Arc<dyn sandbar_core::Handler>,
    ) -> Self {
        Self::start_with(broker, config, handler, services(broker))
    }

    pub fn start_with(
        broker: &Arc<Broker>,
        config: SubscriptionConfig,
        handler: Arc<dyn sandbar_core::Handler>,
        services: Services,
    ) -> Self {
        let (source, events) = mpsc::channel(64);
        let mut registry = Registry::default();
        let stats = PipelineMetrics::register(&mut registry).subscription(&config.name);
        let outputs = Outputs::single("fake", broker.clone());
        let subscription =
            Subscription::with_services(config, handler, outputs, stats.clone(), services);
        let (stop, listener) = StopHandle::new();
        let held = Arc::new(AtomicUsize::new(0));
        let source_end = FakeSource { events, broker: broker.clone(), held: held.clone() };
        let task = tokio::spawn(run(Box::new(source_end), subscription, listener));
        Self { stats, stop, held, broker: broker.clone(), source, task, registry }
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

    /// The value of the metric that a scraper sees as `name`, labels included.
    pub fn metric(&self, name: &str) -> f64 {
        let mut text = String::new();
        encode(&mut text, &self.registry).unwrap();
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("{name} is not in\n{text}")).parse().unwrap()
    }

    /// The result of the run, which is about to end.
    pub async fn end(self) -> Result<RunEnd, SourceError> {
        let end = timeout(Duration::from_secs(86_400), self.task).await;
        end.expect("the run ends").expect("the run does not panic")
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
        self.broker.guarantees()
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
