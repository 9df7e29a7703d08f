//! What an operator sees: the state that a subscription is in, and why.

use std::{collections::BTreeMap, time::Duration};

use sandbar_core::PartitionId;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

/// A broker counts as away for so long after it was last found to be.
pub(crate) const AWAY_FOR: Duration = Duration::from_secs(30);

/// What a subscription is doing, worst news first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// It ended with an error.
    Failed,
    /// A partition stopped at an event that could not be processed.
    Halted,
    /// A broker is away: the runtime keeps trying.
    Unavailable,
    /// The handler asked for a pause, or the outage breaker is open.
    Paused,
    /// Finishing what runs, taking in nothing.
    Draining,
    /// At work.
    Running,
    /// Not running.
    Stopped,
}

impl State {
    /// Every state, for metrics that list them all.
    pub const ALL: [Self; 7] = [
        Self::Failed,
        Self::Halted,
        Self::Unavailable,
        Self::Paused,
        Self::Draining,
        Self::Running,
        Self::Stopped,
    ];

    /// The name used in metrics and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Halted => "halted",
            Self::Unavailable => "unavailable",
            Self::Paused => "paused",
            Self::Draining => "draining",
            Self::Running => "running",
            Self::Stopped => "stopped",
        }
    }
}

/// The outage breaker (contract R8), in the words of an electrician: closed, it lets
/// attempts through. A handler that defers opens it, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BreakerState {
    /// Attempts start.
    #[default]
    Closed,
    /// None does, until the pause is over.
    Open,
    /// One is on its way to find out.
    HalfOpen,
}

impl BreakerState {
    /// Every state, for metrics that list them all.
    pub const ALL: [Self; 3] = [Self::Closed, Self::Open, Self::HalfOpen];

    /// The name used in metrics and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half-open",
        }
    }
}

/// The facts that a state is derived from.
#[derive(Debug, Default)]
pub(crate) struct Condition {
    pub running: bool,
    pub draining: bool,
    pub breaker: BreakerState,
    pub failed: Option<String>,
    /// Why, and when it said so last.
    pub source_away: Option<(String, Instant)>,
    /// Why, and how many events wait for a sink.
    pub sink_away: Option<(String, usize)>,
    pub partitions: BTreeMap<PartitionId, PartitionCondition>,
}

/// What one partition tells of itself.
#[derive(Debug, Clone, Default)]
pub(crate) struct PartitionCondition {
    pub in_flight: usize,
    pub oldest: Option<Instant>,
    pub halted: Option<String>,
    pub away: Option<String>,
}

impl Condition {
    pub(crate) fn state(&self) -> (State, Option<String>) {
        let at = |pick: fn(&PartitionCondition) -> &Option<String>| {
            self.partitions.iter().find_map(|(id, p)| Some(format!("{id}: {}", pick(p).as_ref()?)))
        };
        if let Some(reason) = &self.failed {
            (State::Failed, Some(reason.clone()))
        } else if !self.running {
            (State::Stopped, None)
        } else if let Some(reason) = at(|p| &p.halted) {
            (State::Halted, Some(reason))
        } else if let Some(reason) = self.source_away().or_else(|| at(|p| &p.away)) {
            (State::Unavailable, Some(reason))
        } else if let Some((reason, _)) = &self.sink_away {
            (State::Unavailable, Some(reason.clone()))
        } else if self.draining {
            (State::Draining, None)
        } else if self.breaker != BreakerState::Closed {
            (State::Paused, None)
        } else {
            (State::Running, None)
        }
    }

    fn source_away(&self) -> Option<String> {
        // a source says when its broker goes, but cannot say that it is back
        let (reason, _) = self.source_away.as_ref().filter(|(_, at)| at.elapsed() < AWAY_FOR)?;
        Some(reason.clone())
    }

    pub(crate) fn partitions(&self) -> Vec<PartitionSnapshot> {
        let snapshot = |(id, p): (&PartitionId, &PartitionCondition)| PartitionSnapshot {
            topic: id.topic.to_string(),
            partition: id.partition,
            in_flight: p.in_flight,
            oldest_unfinished_seconds: p.oldest.map(|at| at.elapsed().as_secs_f64()),
            halted: p.halted.clone(),
            unavailable: p.away.clone(),
        };
        self.partitions.iter().map(snapshot).collect()
    }

    pub(crate) fn oldest(&self) -> Option<Instant> {
        self.partitions.values().filter_map(|p| p.oldest).min()
    }
}

/// A subscription's counters and state at one moment, for the admin API.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StatsSnapshot {
    /// What it is doing.
    pub state: State,
    /// Why, where that is not plain.
    pub reason: Option<String>,
    /// See [`SubscriptionStats`], as for all below.
    pub received: u64,
    /// Events handled.
    pub handled: u64,
    /// Events skipped.
    pub skipped: u64,
    /// Retries by class; classes that did not occur are left out.
    pub retried: BTreeMap<&'static str, u64>,
    /// Dead letters by class.
    pub dead_lettered: BTreeMap<&'static str, u64>,
    /// Dropped events by class.
    pub dropped: BTreeMap<&'static str, u64>,
    /// Events given back.
    pub released: u64,
    /// Events published.
    pub published: u64,
    /// Events in flight.
    pub in_flight: i64,
    /// Events held back.
    pub held_back: i64,
    /// Attempts deferred.
    pub deferred: u64,
    /// Retries that left for a retry topic.
    pub delayed: u64,
    /// Events that were handled before.
    pub dedup_hits: u64,
    /// Events handled again, because their state had changed meanwhile.
    pub state_conflicts: u64,
    /// Keys that wait behind a dead letter.
    pub halted_keys: i64,
    /// Whether attempts may start.
    pub breaker: BreakerState,
    /// Age of the oldest unfinished event, seconds.
    pub oldest_unfinished_seconds: Option<f64>,
    /// Half of the events are settled within this time after they were taken in, seconds.
    pub latency_p50_seconds: Option<f64>,
    /// 99 % of them are settled within this time, seconds.
    pub latency_p99_seconds: Option<f64>,
    /// The partitions assigned now.
    pub partitions: Vec<PartitionSnapshot>,
}

/// One assigned partition at one moment.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PartitionSnapshot {
    /// Topic name.
    pub topic: String,
    /// Partition number.
    pub partition: u32,
    /// Events taken in and not settled.
    pub in_flight: usize,
    /// Age of the oldest of them, seconds.
    pub oldest_unfinished_seconds: Option<f64>,
    /// Why it stopped, if it did.
    pub halted: Option<String>,
    /// Why its broker cannot be reached, if so.
    pub unavailable: Option<String>,
}
