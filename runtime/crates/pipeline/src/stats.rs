//! Counters of a subscription, readable and scrapable.
//!
//! Names follow OpenTelemetry's messaging conventions where those have one.

use std::{array, collections::BTreeMap, sync::Arc};

use parking_lot::Mutex;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};
use sandbar_core::{ErrorClass, PartitionId};
use tokio::time::Instant;

use crate::{
    Latency,
    condition::{Condition, PartitionCondition, State, StatsSnapshot},
};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Plugin {
    plugin: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PluginClass {
    plugin: String,
    class: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PluginState {
    plugin: String,
    state: &'static str,
}

/// The metric families of all subscriptions, registered once.
#[derive(Debug, Clone)]
pub struct PipelineMetrics {
    received: Family<Plugin, Counter>,
    published: Family<Plugin, Counter>,
    process: Family<Plugin, Histogram>,
    handled: Family<Plugin, Counter>,
    skipped: Family<Plugin, Counter>,
    retried: Family<PluginClass, Counter>,
    dead_lettered: Family<PluginClass, Counter>,
    dropped: Family<PluginClass, Counter>,
    released: Family<Plugin, Counter>,
    in_flight: Family<Plugin, Gauge>,
    held_back: Family<Plugin, Gauge>,
    oldest: Family<Plugin, Gauge>,
    state: Family<PluginState, Gauge>,
}

/// Handler calls from microseconds (a warm plugin) to the ten seconds of the default limit.
const PROCESS_BUCKETS: [f64; 16] = [
    0.000_01, 0.000_05, 0.000_1, 0.000_5, 0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0,
    2.5, 5.0, 10.0,
];

impl Default for PipelineMetrics {
    fn default() -> Self {
        Self {
            received: Family::default(),
            published: Family::default(),
            process: Family::new_with_constructor(|| Histogram::new(PROCESS_BUCKETS)),
            handled: Family::default(),
            skipped: Family::default(),
            retried: Family::default(),
            dead_lettered: Family::default(),
            dropped: Family::default(),
            released: Family::default(),
            in_flight: Family::default(),
            held_back: Family::default(),
            oldest: Family::default(),
            state: Family::default(),
        }
    }
}

impl PipelineMetrics {
    /// New families, registered under their final names.
    pub fn register(registry: &mut Registry) -> Self {
        let m = Self::default();
        let r = registry;
        r.register("messaging_client_consumed_messages", "Events taken in", m.received.clone());
        r.register(
            "messaging_client_sent_messages",
            "Events published by handlers",
            m.published.clone(),
        );
        r.register_with_unit(
            "messaging_process_duration",
            "Duration of a handler call, which may cover a batch",
            Unit::Seconds,
            m.process.clone(),
        );
        r.register("sandbar_events_handled", "Events handled and acknowledged", m.handled.clone());
        r.register("sandbar_events_skipped", "Events that the handler skipped", m.skipped.clone());
        r.register(
            "sandbar_events_retried",
            "Failed attempts that are followed by another",
            m.retried.clone(),
        );
        r.register("sandbar_events_dead_lettered", "Events dead-lettered", m.dead_lettered.clone());
        r.register(
            "sandbar_events_dropped",
            "Failed events acknowledged without a dead letter",
            m.dropped.clone(),
        );
        r.register(
            "sandbar_events_released",
            "Events given back unprocessed by a stop or a rebalance",
            m.released.clone(),
        );
        r.register(
            "sandbar_events_in_flight",
            "Events taken in and not yet settled",
            m.in_flight.clone(),
        );
        r.register(
            "sandbar_events_held_back",
            "Events whose outputs or dead letters a broker does not take now",
            m.held_back.clone(),
        );
        r.register_with_unit(
            "sandbar_oldest_unfinished_age",
            "Age of the oldest event that is not settled",
            Unit::Seconds,
            m.oldest.clone(),
        );
        r.register(
            "sandbar_subscription_state",
            "1 for the state that the subscription is in",
            m.state.clone(),
        );
        m
    }

    /// The counters of subscription `name`. Asked for again, they go on counting.
    pub fn subscription(&self, name: &str) -> Arc<SubscriptionStats> {
        Arc::new(SubscriptionStats::new(self, name))
    }
}

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
    states: [Gauge; State::ALL.len()],
    condition: Mutex<Condition>,
}

impl SubscriptionStats {
    fn new(m: &PipelineMetrics, name: &str) -> Self {
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

    pub(crate) fn set_paused(&self, paused: bool) {
        self.update(|c| c.paused = paused);
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
    use prometheus_client::encoding::text::encode;

    use super::*;

    #[test]
    fn r4_metrics_of_several_plugins_share_families_and_tell_classes_apart() {
        let mut registry = Registry::default();
        let metrics = PipelineMetrics::register(&mut registry);
        let (a, b) = (metrics.subscription("a"), metrics.subscription("b"));
        a.received.inc_by(3);
        a.retried.of(ErrorClass::Trap).inc();
        b.dead_lettered.of(ErrorClass::Deadline).inc();
        b.started();
        b.process_duration.observe(0.002);
        metrics.subscription("a").received.inc();
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        for line in [
            r#"messaging_client_consumed_messages_total{plugin="a"} 4"#,
            r#"messaging_client_sent_messages_total{plugin="b"} 0"#,
            r#"messaging_process_duration_seconds_count{plugin="b"} 1"#,
            r#"sandbar_events_retried_total{plugin="a",class="trap"} 1"#,
            r#"sandbar_events_dead_lettered_total{plugin="b",class="deadline"} 1"#,
            r#"sandbar_oldest_unfinished_age_seconds{plugin="a"} 0"#,
            r#"sandbar_subscription_state{plugin="a",state="stopped"} 1"#,
            r#"sandbar_subscription_state{plugin="b",state="running"} 1"#,
            r#"sandbar_subscription_state{plugin="b",state="stopped"} 0"#,
        ] {
            assert!(text.lines().any(|l| l == line), "{line}\nis not in\n{text}");
        }
        let families = text.lines().filter(|l| l.starts_with("# TYPE")).count();
        assert_eq!(families, 13, "each family is there once");
    }

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
        stats.set_paused(true);
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
          "oldest_unfinished_seconds": null,
          "latency_p50_seconds": null,
          "latency_p99_seconds": null,
          "partitions": []
        }
        "#);
    }
}
