//! What `/metrics` shows: the counters of pipeline and sandbox, and what only the
//! control plane knows: states, reloads and lag.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use parking_lot::Mutex;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _, text::encode},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::Registry,
};
use sandbar_core::PartitionId;
use sandbar_pipeline::PipelineMetrics;
use sandbar_wasm::Host;
use tokio::time::MissedTickBehavior;
use tokio_util::task::AbortOnDropHandle;

use crate::{
    connections::Connections,
    supervisor::{State, Supervisor},
};

/// Content type of the text.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Time between two looks at all cursors.
const LAG_EVERY: Duration = Duration::from_secs(5);

/// The registry, and the task that keeps the lag in it fresh.
pub struct Metrics {
    registry: Registry,
    _lag: AbortOnDropHandle<()>,
}

impl Metrics {
    /// Completes `registry`, in which the pipeline's metrics are already.
    pub fn new(
        mut registry: Registry,
        host: &Host,
        supervisor: &Arc<Supervisor>,
        connections: &Arc<Connections>,
    ) -> Self {
        host.stats().register(registry.sub_registry_with_prefix("sandbar"));
        let lag = Arc::new(Mutex::default());
        registry.register_collector(Box::new(ControlPlane {
            supervisor: supervisor.clone(),
            connections: connections.clone(),
            lag: Arc::clone(&lag),
        }));
        let measuring = measure_lag(supervisor.clone(), connections.clone(), lag);
        Self { registry, _lag: AbortOnDropHandle::new(tokio::spawn(measuring)) }
    }

    /// A registry that holds the pipeline's metrics, and those.
    pub fn registry() -> (Registry, PipelineMetrics) {
        let mut registry = Registry::default();
        let pipeline = PipelineMetrics::register(&mut registry);
        (registry, pipeline)
    }

    /// Everything, in the OpenMetrics text format.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // writing into a string cannot fail; a metric that refuses is left out
        let _ = encode(&mut text, &self.registry);
        text
    }
}

/// Lag by plugin and partition.
type Lag = Arc<Mutex<BTreeMap<(String, PartitionId), u64>>>;

async fn measure_lag(supervisor: Arc<Supervisor>, connections: Arc<Connections>, lag: Lag) {
    let mut ticks = tokio::time::interval(LAG_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let mut measured = BTreeMap::new();
        for plugin in supervisor.plugins() {
            let status = plugin.status();
            let Some(config) = status.config.filter(|_| status.state != State::Removed) else {
                continue;
            };
            let Some(connection) = connections.get(&config.connection) else { continue };
            // while the broker is away nobody knows: the gauges are left out
            let cursors = connection.cursors(&config.group).await.unwrap_or_default();
            for (partition, from, end) in cursors {
                let lag = end.0.saturating_sub(from.0);
                measured.insert((status.name.clone(), partition), lag);
            }
        }
        *lag.lock() = measured;
    }
}

/// Metrics of what plugins there are now: written when asked for, so that a
/// plugin that is gone leaves none behind.
struct ControlPlane {
    supervisor: Arc<Supervisor>,
    connections: Arc<Connections>,
    lag: Lag,
}

impl fmt::Debug for ControlPlane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ControlPlane")
    }
}

impl Collector for ControlPlane {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let plugins: Vec<_> = self.supervisor.plugins().iter().map(|p| p.status()).collect();

        let help = "1 for the state that the plugin is in";
        let mut states =
            encoder.encode_descriptor("sandbar_plugin_state", help, None, MetricType::Gauge)?;
        for status in &plugins {
            for state in State::ALL {
                let labels = [("plugin", status.name.as_str()), ("state", state.as_str())];
                let is = ConstGauge::new(i64::from(status.state == state));
                is.encode(states.encode_family(&labels)?)?;
            }
        }
        let counters = [
            ("sandbar_plugin_reloads", "Versions swapped in since the plugin was added"),
            ("sandbar_plugin_restarts", "Times that the subscription was opened anew"),
            ("sandbar_plugin_refusals", "Files and settings that were refused"),
        ];
        for (at, (name, help)) in counters.into_iter().enumerate() {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for status in &plugins {
                let value = [status.reloads, status.restarts, status.refusals][at];
                let labels = [("plugin", status.name.as_str())];
                ConstCounter::new(value).encode(family.encode_family(&labels)?)?;
            }
        }

        let help = "Events between the cursor and the end of the partition";
        let mut lags =
            encoder.encode_descriptor("sandbar_subscription_lag", help, None, MetricType::Gauge)?;
        for ((plugin, id), lag) in self.lag.lock().iter() {
            let partition = id.partition.to_string();
            let labels =
                [("plugin", plugin.as_str()), ("topic", &id.topic), ("partition", &partition)];
            let lag = i64::try_from(*lag).unwrap_or(i64::MAX);
            ConstGauge::new(lag).encode(lags.encode_family(&labels)?)?;
        }

        let help = "1 while the broker answers";
        let mut up =
            encoder.encode_descriptor("sandbar_connection_up", help, None, MetricType::Gauge)?;
        for (name, health) in self.connections.health() {
            let is_up = ConstGauge::new(i64::from(health.answered && health.error.is_none()));
            is_up.encode(up.encode_family(&[("connection", name)])?)?;
        }
        Ok(())
    }
}
