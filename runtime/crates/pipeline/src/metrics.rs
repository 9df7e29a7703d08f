//! The metrics of all subscriptions, as a scraper gets them.
//!
//! Names follow OpenTelemetry's messaging conventions where those have one.

use std::sync::Arc;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};
use sandbar_core::ErrorClass;

use crate::{BreakerState, State, SubscriptionStats};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Plugin {
    pub plugin: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct PluginClass {
    pub plugin: String,
    pub class: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct PluginState {
    pub plugin: String,
    pub state: &'static str,
}

/// Seconds that a drain may take, up to the 20 s that a revoked partition has.
const DRAIN_BUCKETS: [f64; 9] = [0.01, 0.05, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0];

/// The metric families of all subscriptions, registered once.
#[derive(Debug, Clone)]
pub struct PipelineMetrics {
    pub(crate) received: Family<Plugin, Counter>,
    pub(crate) published: Family<Plugin, Counter>,
    pub(crate) process: Family<Plugin, Histogram>,
    pub(crate) handled: Family<Plugin, Counter>,
    pub(crate) skipped: Family<Plugin, Counter>,
    pub(crate) retried: Family<PluginClass, Counter>,
    pub(crate) dead_lettered: Family<PluginClass, Counter>,
    pub(crate) dropped: Family<PluginClass, Counter>,
    pub(crate) released: Family<Plugin, Counter>,
    pub(crate) in_flight: Family<Plugin, Gauge>,
    pub(crate) held_back: Family<Plugin, Gauge>,
    pub(crate) oldest: Family<Plugin, Gauge>,
    pub(crate) state: Family<PluginState, Gauge>,
    pub(crate) breaker: Family<PluginState, Gauge>,
    pub(crate) deferred: Family<Plugin, Counter>,
    pub(crate) delayed: Family<Plugin, Counter>,
    pub(crate) dedup_hits: Family<Plugin, Counter>,
    pub(crate) state_conflicts: Family<Plugin, Counter>,
    pub(crate) halted_keys: Family<Plugin, Gauge>,
    pub(crate) drain: Family<Plugin, Histogram>,
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
            breaker: Family::default(),
            deferred: Family::default(),
            delayed: Family::default(),
            dedup_hits: Family::default(),
            state_conflicts: Family::default(),
            halted_keys: Family::default(),
            drain: Family::new_with_constructor(|| Histogram::new(DRAIN_BUCKETS)),
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
        r.register(
            "sandbar_breaker_state",
            "1 for the state that the outage breaker is in",
            m.breaker.clone(),
        );
        r.register(
            "sandbar_events_deferred",
            "Attempts that the handler put off, without using them up",
            m.deferred.clone(),
        );
        r.register(
            "sandbar_events_delayed",
            "Retries that wait in a topic, also counted as retried",
            m.delayed.clone(),
        );
        r.register(
            "sandbar_dedup_hits",
            "Events acknowledged unhandled, because they were handled before",
            m.dedup_hits.clone(),
        );
        r.register(
            "sandbar_state_conflicts",
            "Events handled again, because their state had changed meanwhile",
            m.state_conflicts.clone(),
        );
        r.register(
            "sandbar_halted_keys",
            "Keys whose events follow a dead letter until they are released",
            m.halted_keys.clone(),
        );
        r.register_with_unit(
            "sandbar_drain_duration",
            "Time that a revoked partition took to drain",
            Unit::Seconds,
            m.drain.clone(),
        );
        m
    }

    /// The counters of subscription `name`. Asked for again, they go on counting.
    pub fn subscription(&self, name: &str) -> Arc<SubscriptionStats> {
        Arc::new(SubscriptionStats::new(self, name))
    }

    /// Drops all counters of subscription `name`, which is no more.
    pub fn forget(&self, name: &str) {
        let plugin = Plugin { plugin: name.into() };
        for family in [
            &self.received,
            &self.published,
            &self.handled,
            &self.skipped,
            &self.released,
            &self.deferred,
            &self.delayed,
            &self.dedup_hits,
            &self.state_conflicts,
        ] {
            family.remove(&plugin);
        }
        for family in [&self.in_flight, &self.held_back, &self.oldest, &self.halted_keys] {
            family.remove(&plugin);
        }
        for family in [&self.process, &self.drain] {
            family.remove(&plugin);
        }
        for family in [&self.retried, &self.dead_lettered, &self.dropped] {
            for class in ErrorClass::ALL {
                family.remove(&PluginClass { plugin: name.into(), class: class.as_str() });
            }
        }
        let label = |state| PluginState { plugin: name.into(), state };
        for state in State::ALL {
            self.state.remove(&label(state.as_str()));
        }
        for state in BreakerState::ALL {
            self.breaker.remove(&label(state.as_str()));
        }
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
            r#"sandbar_breaker_state{plugin="b",state="closed"} 1"#,
            r#"sandbar_breaker_state{plugin="b",state="open"} 0"#,
        ] {
            assert!(text.lines().any(|l| l == line), "{line}\nis not in\n{text}");
        }
        let families = text.lines().filter(|l| l.starts_with("# TYPE")).count();
        assert_eq!(families, 20, "each family is there once");
    }

    #[test]
    fn a_forgotten_subscription_is_in_no_metric() {
        let mut registry = Registry::default();
        let metrics = PipelineMetrics::register(&mut registry);
        let (a, b) = (metrics.subscription("a"), metrics.subscription("b"));
        for stats in [&a, &b] {
            stats.started();
            stats.process_duration.observe(0.002);
            stats.drain_duration.observe(1.0);
        }
        metrics.forget("a");
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        assert!(!text.contains(r#"plugin="a""#), "{text}");
        assert!(text.contains(r#"sandbar_drain_duration_seconds_count{plugin="b"} 1"#), "{text}");
    }
}
