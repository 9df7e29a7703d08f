//! Counters of one subscription and its condition, for programs and operators.

use std::{array, collections::BTreeMap};

use parking_lot::Mutex;
use prometheus_client::metrics::{
    counter::Counter, family::Family, gauge::Gauge, histogram::Histogram,
};
use sandbar_core::{ErrorClass, PartitionId};
use tokio::time::Instant;

use crate::{
    Latency, PipelineMetrics,
    condition::{BreakerState, Condition, PartitionCondition, State, StatsSnapshot},
    metrics::{Plugin, PluginClass, PluginState},
};

/// One counter per class of failure.
#[derive(Debug)]
pub struct ByClass([Counter; ErrorClass::ALL.len()]);

impl ByClass {
    fn new(family: &Family<PluginClass, Counter>, plugin: &str) -> Self {
        let class = |i: usize| ErrorClass::ALL[i].as_str();
        Self(array::from_fn(|i| {
            family.get_or_create_owned(&PluginClass { plugin: plugin.into(), class: class(i) })
        }))
    }

    /// The counter of one class.
    pub fn of(&self, class: ErrorClass) -> &Counter {
        // `ALL` lists the classes in the order of their declaration
        &self.0[class as usize]
    }

    /// All classes together.
    pub fn total(&self) -> u64 {
        self.0.iter().map(Counter::get).sum()
    }

    fn snapshot(&self) -> BTreeMap<&'static str, u64> {
        let counts = ErrorClass::ALL.iter().map(|c| (c.as_str(), self.of(*c).get()));
        counts.filter(|(_, n)| *n > 0).collect()
    }
}

/// The counters and the condition of one subscription.
#[derive(Debug)]
pub struct SubscriptionStats {
    name: String,
    /// Events taken in, redeliveries included.
    pub received: Counter,
    /// Events handled and acknowledged.
    pub handled: Counter,
    /// Events that the handler skipped, acknowledged.
    pub skipped: Counter,
    /// Failed attempts that are followed by another, by the kind of failure.
    pub retried: ByClass,
    /// Dead letters, durable and acknowledged, by the kind of the last failure.
    pub dead_lettered: ByClass,
    /// Failed events acknowledged without a dead letter, as configured.
    pub dropped: ByClass,
    /// Events given back unprocessed by a stop or a rebalance.
    pub released: Counter,
    /// Events published by the handler, durable.
    pub published: Counter,
    /// Events taken in and not settled yet.
    pub in_flight: Gauge,
    /// Events whose outputs or dead letters a broker does not take at the moment.
    pub held_back: Gauge,
    /// Age of the oldest event that is not settled, in seconds; at most 1 s stale.
    pub oldest_unfinished_seconds: Gauge,
    /// Duration of handler calls in seconds; a call may cover a batch.
    pub process_duration: Histogram,
    /// Time from taking an event in to its settlement, retries included.
    pub latency: Latency,
    /// Attempts that the handler put off (contract R8).
    pub deferred: Counter,
    /// Retries that left for a retry topic (contract R5), counted as retried, too.
    pub delayed: Counter,
    /// Events acknowledged unhandled, because they were handled before (contract I3).
    pub dedup_hits: Counter,
    /// Events handled again, because the state that they were handled on had changed.
    pub state_conflicts: Counter,
    /// Keys that wait behind a dead letter (contract O4).
    pub halted_keys: Gauge,
    /// Seconds that revoked partitions took to drain (contract H4).
    pub drain_duration: Histogram,
    breaker: [Gauge; BreakerState::ALL.len()],
    states: [Gauge; State::ALL.len()],
    condition: Mutex<Condition>,
}

impl SubscriptionStats {
    pub(crate) fn new(m: &PipelineMetrics, name: &str) -> Self {
        let plugin = Plugin { plugin: name.into() };
        let stats = Self {
            name: name.into(),
            received: m.received.get_or_create_owned(&plugin),
            handled: m.handled.get_or_create_owned(&plugin),
            skipped: m.skipped.get_or_create_owned(&plugin),
            retried: ByClass::new(&m.retried, name),
            dead_lettered: ByClass::new(&m.dead_lettered, name),
            dropped: ByClass::new(&m.dropped, name),
            released: m.released.get_or_create_owned(&plugin),
            published: m.published.get_or_create_owned(&plugin),
            in_flight: m.in_flight.get_or_create_owned(&plugin),
            held_back: m.held_back.get_or_create_owned(&plugin),
            oldest_unfinished_seconds: m.oldest.get_or_create_owned(&plugin),
            process_duration: m.process.get_or_create_owned(&plugin),
            latency: Latency::default(),
            deferred: m.deferred.get_or_create_owned(&plugin),
            delayed: m.delayed.get_or_create_owned(&plugin),
            dedup_hits: m.dedup_hits.get_or_create_owned(&plugin),
            state_conflicts: m.state_conflicts.get_or_create_owned(&plugin),
            halted_keys: m.halted_keys.get_or_create_owned(&plugin),
            drain_duration: m.drain.get_or_create_owned(&plugin),
            breaker: BreakerState::ALL.map(|s| {
                let labels = PluginState { plugin: name.into(), state: s.as_str() };
                m.breaker.get_or_create_owned(&labels)
            }),
            states: State::ALL.map(|s| {
                let labels = PluginState { plugin: name.into(), state: s.as_str() };
                m.state.get_or_create_owned(&labels)
            }),
            condition: Mutex::default(),
        };
        stats.update(|_| ());
        stats
    }

    /// Counters that no registry knows, for tests and for runs without metrics.
    pub fn unregistered(name: &str) -> Self {
        Self::new(&PipelineMetrics::default(), name)
    }

    /// The subscription's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it is doing, and why where that is not plain.
    pub fn state(&self) -> (State, Option<String>) {
        self.condition.lock().state()
    }

    /// Everything at this moment.
    pub fn snapshot(&self) -> StatsSnapshot {
        let age = |since: Option<Instant>| since.map(|at| at.elapsed().as_secs_f64());
        let condition = self.condition.lock();
        let (state, reason) = condition.state();
        let latency = |q| self.latency.quantile(q).map(|d| d.as_secs_f64());
        StatsSnapshot {
            state,
            reason,
            received: self.received.get(),
            handled: self.handled.get(),
            skipped: self.skipped.get(),
            retried: self.retried.snapshot(),
            dead_lettered: self.dead_lettered.snapshot(),
            dropped: self.dropped.snapshot(),
            released: self.released.get(),
            published: self.published.get(),
            in_flight: self.in_flight.get(),
            held_back: self.held_back.get(),
            deferred: self.deferred.get(),
            delayed: self.delayed.get(),
            dedup_hits: self.dedup_hits.get(),
            state_conflicts: self.state_conflicts.get(),
            halted_keys: self.halted_keys.get(),
            breaker: condition.breaker,
            oldest_unfinished_seconds: age(condition.oldest()),
            latency_p50_seconds: latency(0.5),
            latency_p99_seconds: latency(0.99),
            partitions: condition.partitions(),
        }
    }

    pub(crate) fn started(&self) {
        self.update(|c| *c = Condition { running: true, ..Condition::default() });
    }

    pub(crate) fn draining(&self) {
        self.update(|c| c.draining = true);
    }

    pub(crate) fn ended(&self, failure: Option<String>) {
        self.update(|c| *c = Condition { failed: failure, ..Condition::default() });
    }

    pub(crate) fn set_source_away(&self, reason: Option<String>) {
        let now = Instant::now();
        self.update(|c| c.source_away = reason.map(|reason| (reason, now)));
    }

    pub(crate) fn set_breaker(&self, state: BreakerState) {
        self.update(|c| c.breaker = state);
    }

    pub(crate) fn set_partition(&self, id: &PartitionId, condition: Option<PartitionCondition>) {
        self.update(|c| {
            match condition {
                Some(condition) => c.partitions.insert(id.clone(), condition),
                None => c.partitions.remove(id),
            };
            let age = c.oldest().map_or(0, |at| at.elapsed().as_secs());
            self.oldest_unfinished_seconds.set(i64::try_from(age).unwrap_or(i64::MAX));
        });
    }

    /// Notes that `events` wait for a sink until the value is dropped.
    pub(crate) fn hold_back(&self, events: usize, reason: String) -> HeldBack<'_> {
        self.held_back.inc_by(events as i64);
        self.update(|c| {
            let waiting = c.sink_away.as_ref().map_or(0, |(_, n)| *n);
            c.sink_away = Some((reason, waiting + events));
        });
        HeldBack { stats: self, events }
    }

    fn update(&self, change: impl FnOnce(&mut Condition)) {
        let mut condition = self.condition.lock();
        change(&mut condition);
        let (now, _) = condition.state();
        for (state, gauge) in State::ALL.iter().zip(&self.states) {
            gauge.set(i64::from(*state == now));
        }
        for (state, gauge) in BreakerState::ALL.iter().zip(&self.breaker) {
            gauge.set(i64::from(*state == condition.breaker));
        }
    }
}

/// Events that wait for a sink.
pub(crate) struct HeldBack<'a> {
    stats: &'a SubscriptionStats,
    events: usize,
}

impl Drop for HeldBack<'_> {
    fn drop(&mut self) {
        self.stats.held_back.dec_by(self.events as i64);
        self.stats.update(|c| {
            c.sink_away = c.sink_away.take().and_then(|(reason, waiting)| {
                let left = waiting.saturating_sub(self.events);
                (left > 0).then_some((reason, left))
            });
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_worst_news_names_the_state() {
        let stats = SubscriptionStats::unregistered("p");
        let id = PartitionId { topic: "t".into(), partition: 1 };
        let part = |halted: Option<&str>| PartitionCondition {
            halted: halted.map(str::to_owned),
            in_flight: 2,
            ..PartitionCondition::default()
        };
        assert_eq!(stats.state().0, State::Stopped);
        stats.started();
        stats.set_partition(&id, Some(part(None)));
        assert_eq!(stats.state().0, State::Running);
        stats.set_breaker(BreakerState::Open);
        assert_eq!(stats.state().0, State::Paused);
        stats.set_source_away(Some("gone".into()));
        assert_eq!(stats.state(), (State::Unavailable, Some("gone".into())));
        stats.set_partition(&id, Some(part(Some("poison"))));
        assert_eq!(stats.state(), (State::Halted, Some("t/1: poison".into())));
        stats.ended(Some("fenced".into()));
        insta::assert_json_snapshot!(stats.snapshot(), @r#"
        {
          "state": "failed",
          "reason": "fenced",
          "received": 0,
          "handled": 0,
          "skipped": 0,
          "retried": {},
          "dead_lettered": {},
          "dropped": {},
          "released": 0,
          "published": 0,
          "in_flight": 0,
          "held_back": 0,
          "deferred": 0,
          "delayed": 0,
          "dedup_hits": 0,
          "state_conflicts": 0,
          "halted_keys": 0,
          "breaker": "closed",
          "oldest_unfinished_seconds": null,
          "latency_p50_seconds": null,
          "latency_p99_seconds": null,
          "partitions": []
        }
        "#);
    }
}
