//! The courier: takes retries out of the tier topics when their time has come, and puts
//! them into the inbox of the group that is to make the next attempt (contract R5).
//!
//! A connection has one courier for all tiers and all plugins. It is a subscription like
//! any other, whose handler is written here instead of in Wasm: waiting is a retry of the
//! pipeline, moving on is an output of it. So order of settlement, drain, rebalance and a
//! broker that is away are what they are everywhere.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use sandbar_core::{
    Call, Connection, ErrorClass, HandledBy, Handler, HandlerError, Outcome, Outcomes, SourceError,
    SubscriptionSpec, Verdict, reserved,
};
use sandbar_pipeline::{
    DeadLetterConfig, Environment, Ordering, Outputs, Parcel, PipelineMetrics, RetryPolicy,
    Services, StopHandle, Subscription, SubscriptionConfig, SubscriptionStats,
};
use tokio::{select, task::JoinHandle, time::sleep};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::{info, warn};

/// Parcels of one tier partition that wait in memory; those behind them wait on the broker.
const WINDOW: usize = 1000;
/// Parcels moved together.
const BATCH: usize = 100;
/// Time that moves under way have when the courier is to stop or gives a partition back.
const DRAIN: Duration = Duration::from_secs(5);
/// Time between two attempts to begin.
const AGAIN: Duration = Duration::from_secs(2);

/// What a courier is to do.
#[derive(Clone)]
pub struct CourierSpec {
    /// Where tiers and inboxes are.
    pub connection: Arc<dyn Connection>,
    /// The tiers that retries may be sent to. Others with the same prefix that are found
    /// when it starts, because they were configured before, are emptied as well.
    pub tiers: Vec<Duration>,
    /// What keeps several installations on one broker apart.
    pub prefix: String,
    /// Whether a parcel must be moved exactly once, because a plugin asks for that.
    pub exactly_once: bool,
}

/// A running courier. Stops, without being waited for, when dropped.
pub struct Courier {
    stop: DropGuard,
    task: JoinHandle<()>,
    stats: Arc<SubscriptionStats>,
}

impl Courier {
    /// Starts a courier, which waits for its broker as long as it takes and does not end
    /// by itself.
    pub fn start(spec: CourierSpec) -> Self {
        Self::in_environment(spec, Environment::default())
    }

    fn in_environment(spec: CourierSpec, environment: Environment) -> Self {
        let stop = CancellationToken::new();
        // not shown as those of a plugin: a parcel that waits is a failed attempt to them
        let stats = PipelineMetrics::default().subscription("courier");
        let round = Round { spec, environment, stats: stats.clone() };
        let task = tokio::spawn(serve(round, stop.clone()));
        Self { stop: stop.drop_guard(), task, stats }
    }

    /// Finishes what it is just moving and leaves its group. What waits stays where it is.
    pub async fn stop(self) {
        drop(self.stop);
        if let Err(panic) = self.task.await {
            warn!(%panic, "the courier panicked, this is a bug");
        }
    }

    /// Counters since it was started: the name, to stand behind `sandbar_courier_`, what it
    /// means, and the count.
    pub fn counts(&self) -> [(&'static str, &'static str, u64); 2] {
        let undeliverable = self.stats.dead_lettered.total();
        [
            (
                "moved",
                "Delayed retries put into an inbox or another tier",
                self.stats.handled.get(),
            ),
            ("undeliverable", "Records of tiers that nobody can be given", undeliverable),
        ]
    }
}

/// Runs the courier until `stop`, anew each time that it ends otherwise.
async fn serve(round: Round, stop: CancellationToken) {
    let connection = round.spec.connection.name().to_owned();
    let mut said = String::new();
    loop {
        let Err(error) = round.run(&stop).await else { return };
        let reason = error.to_string();
        // once while it stays the same
        if reason != said {
            warn!(connection, reason, "delayed retries wait: trying again");
            said = reason;
        }
        if stop.run_until_cancelled(sleep(AGAIN)).await.is_none() {
            return;
        }
    }
}

/// What each run of a courier begins with.
struct Round {
    spec: CourierSpec,
    environment: Environment,
    stats: Arc<SubscriptionStats>,
}

impl Round {
    /// Serves all tiers until `stop`.
    async fn run(&self, stop: &CancellationToken) -> Result<(), SourceError> {
        let CourierSpec { connection, prefix, exactly_once, .. } = &self.spec;
        let Some(tiers) = stop.run_until_cancelled(self.tiers()).await else { return Ok(()) };
        let tiers = tiers?;
        let group = reserved::courier(prefix);
        let spec = SubscriptionSpec {
            prefetch: WINDOW,
            drain_timeout: DRAIN,
            exactly_once: *exactly_once,
            ..SubscriptionSpec::new(&*group, tiers.iter().map(|t| t.topic.to_string()).collect())
        };
        let source = connection.subscribe(spec).await?;
        let config = SubscriptionConfig {
            group: group.clone(),
            // what is retried through topics has no order
            ordering: Ordering::None,
            concurrency: 1,
            max_in_flight: WINDOW,
            // it gives up on nothing
            retry: RetryPolicy {
                max_attempts: u32::MAX,
                max_delay: Duration::MAX,
                max_age: Duration::MAX,
                ..RetryPolicy::default()
            },
            dead_letter: Some(DeadLetterConfig::new(reserved::undeliverable(prefix))),
            internal: true,
            ..SubscriptionConfig::new(group, connection.name())
        };
        let names: Vec<_> = tiers.iter().map(|tier| &*tier.topic).collect();
        info!(
            connection = connection.name(),
            tiers = names.join(", "),
            "delayed retries are served"
        );
        let handler = Arc::new(Carrier::new(tiers, self.environment.clone()));
        let outputs = Outputs::single(connection.name(), connection.sink());
        let services = Services { environment: self.environment.clone(), ..Services::default() };
        let subscription =
            Subscription::with_services(config, handler, outputs, self.stats.clone(), services);
        let (handle, drain) = StopHandle::new();
        let run = sandbar_pipeline::run(source, subscription, drain);
        tokio::pin!(run);
        select! {
            end = &mut run => end.map(drop),
            () = stop.cancelled() => {
                handle.drain(DRAIN);
                run.await.map(drop)
            }
        }
    }

    /// The tiers to be served, short ones first; creates what is missing.
    async fn tiers(&self) -> Result<Vec<Tier>, SourceError> {
        let CourierSpec { connection, tiers, prefix, .. } = &self.spec;
        let mut topics: Vec<String> =
            tiers.iter().map(|delay| reserved::retry_tier(prefix, *delay)).collect();
        topics.push(reserved::undeliverable(prefix));
        connection.ensure_topics(&topics).await?;
        let known = connection.topics().await?;
        topics.extend(known.into_iter().map(|topic| topic.name));
        let tier = |topic: String| {
            let delay = reserved::tier_delay(prefix, &topic)?;
            Some(Tier { delay, in_use: tiers.contains(&delay), topic: topic.into() })
        };
        let mut tiers: Vec<Tier> = topics.into_iter().filter_map(tier).collect();
        tiers.sort_by_key(|tier| tier.delay);
        tiers.dedup_by_key(|tier| tier.delay);
        Ok(tiers)
    }
}

struct Tier {
    delay: Duration,
    topic: Arc<str>,
    /// Whether more may be put there.
    in_use: bool,
}

/// Decides what becomes of a parcel in a tier.
struct Carrier {
    /// Short ones first.
    tiers: Vec<Tier>,
    environment: Environment,
    by: Arc<HandledBy>,
}

impl Carrier {
    fn new(tiers: Vec<Tier>, environment: Environment) -> Self {
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let by = HandledBy { plugin: "courier".into(), version, digest: String::new() };
        Self { tiers, environment, by: Arc::new(by) }
    }

    /// A parcel stays in a tier until it is due, but not much longer than the tier's delay:
    /// one that waits for an hour would take up the place of many that wait for a minute.
    /// It then goes to the longest tier that it still has the time for.
    fn carry(&self, call: &Call) -> Outcome {
        let parcel = Parcel::open(&call.event).map_err(|error| {
            HandlerError::new(ErrorClass::Decode, Verdict::Reject, error.to_string())
        })?;
        let now_ms = (self.environment.wall_ms)();
        let left = Duration::from_millis(parcel.due_ms.saturating_sub(now_ms));
        if left.is_zero() {
            return Ok(vec![parcel.record(reserved::inbox(&parcel.to))].into());
        }
        let next = self.tiers.iter().rfind(|tier| tier.in_use && tier.delay <= left);
        if let Some(next) = next.filter(|_| call.attempt > 1) {
            return Ok(vec![parcel.record(next.topic.clone())].into());
        }
        let here = self.tiers.iter().find(|tier| tier.topic == call.event.topic);
        let after = here.map_or(left, |tier| tier.delay.min(left));
        let verdict = Verdict::Retry { after: Some(after) };
        Err(HandlerError::new(ErrorClass::Handler, verdict, "not due yet"))
    }
}

#[async_trait]
impl Handler for Carrier {
    async fn handle(&self, calls: &[&Call]) -> Outcomes {
        let results = calls.iter().map(|call| self.carry(call)).collect();
        Outcomes { by: self.by.clone(), results }
    }

    fn max_batch(&self) -> usize {
        BATCH
    }

    fn min_batch(&self) -> usize {
        BATCH
    }
}

#[cfg(test)]
mod tests;
