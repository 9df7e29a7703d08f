//! What `/metrics` shows: the counters of pipeline and sandbox, and what only the
//! control plane knows: states, reloads, lag, and what sources and logs count.
//! `docs/metrics.md` lists all of it.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use parking_lot::Mutex;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric, text::encode},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::Registry,
};
use sandbar_core::{PartitionId, SourceStats};
use sandbar_pipeline::PipelineMetrics;
use sandbar_wasm::Host;
use tokio::time::MissedTickBehavior;
use tokio_util::task::AbortOnDropHandle;

use crate::{
    connections::Connections,
    redrive::{Job, Jobs},
    supervisor::{State, Status, Supervisor},
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
        redrives: &Arc<Jobs>,
    ) -> Self {
        host.stats().register(registry.sub_registry_with_prefix("sandbar"));
        let lag = Arc::new(Mutex::default());
        registry.register_collector(Box::new(ControlPlane {
            supervisor: supervisor.clone(),
            connections: connections.clone(),
            redrives: redrives.clone(),
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
            let Some(config) = status.config else { continue };
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
    redrives: Arc<Jobs>,
    lag: Lag,
}

impl fmt::Debug for ControlPlane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ControlPlane")
    }
}

impl Collector for ControlPlane {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut families = Families(encoder);
        self.plugins(&mut families)?;
        self.sources(&mut families)?;
        self.connections(&mut families)?;
        self.couriers(&mut families)?;
        self.redrives(&mut families)
    }
}

impl ControlPlane {
    fn plugins(&self, families: &mut Families<'_>) -> fmt::Result {
        let plugins: Vec<_> = self.supervisor.plugins().iter().map(|p| p.status()).collect();
        let states = plugins.iter().flat_map(|status| {
            State::ALL.map(|state| {
                let labels = [("plugin", status.name.as_str()), ("state", state.as_str())];
                (labels, ConstGauge::new(i64::from(status.state == state)))
            })
        });
        let help = "1 for the state that the plugin is in";
        families.write("sandbar_plugin_state", help, MetricType::Gauge, states)?;

        let counters: [Count<Status>; 3] = [
            ("reloads", "Versions swapped in since the plugin was added", |s| s.reloads),
            ("restarts", "Times that the subscription was opened anew", |s| s.restarts),
            ("refusals", "Files and settings that were refused", |s| s.refusals),
        ];
        for (name, help, count) in counters {
            let series = plugins.iter().map(|s| ([("plugin", s.name.as_str())], count(s)));
            families.counters(&format!("sandbar_plugin_{name}"), help, series)?;
        }
        Ok(())
    }

    /// What the sources of the plugins count, and how far they are behind.
    fn sources(&self, families: &mut Families<'_>) -> fmt::Result {
        let plugins = self.supervisor.plugins();
        let sources: Vec<_> = plugins.iter().map(|p| (p.stats().0.name(), p.stats().1)).collect();
        let counters: [Count<SourceStats>; 2] = [
            (
                "committed",
                "Transactions of outputs and position committed",
                SourceStats::transactions_committed,
            ),
            (
                "aborted",
                "Transactions given up, whose events are handled again",
                SourceStats::transactions_aborted,
            ),
        ];
        for (name, help, count) in counters {
            let series = sources.iter().map(|(plugin, s)| ([("plugin", *plugin)], count(s)));
            families.counters(&format!("sandbar_transactions_{name}"), help, series)?;
        }
        let fill = sources
            .iter()
            .map(|(plugin, s)| ([("plugin", *plugin)], ConstGauge::new(s.metadata_fill())));
        let help = "How full the commit metadata of the fullest partition is, 0 to 1";
        families.write("sandbar_commit_metadata_fill_ratio", help, MetricType::Gauge, fill)?;

        let lag = self.lag.lock();
        // measured a while ago, when there may have been others
        let is_there = |plugin: &str| sources.iter().any(|(name, _)| *name == plugin);
        let lag =
            lag.iter().filter(|((plugin, _), _)| is_there(plugin)).map(|((plugin, id), lag)| {
                let labels = [
                    ("plugin", plugin.clone()),
                    ("topic", id.topic.to_string()),
                    ("partition", id.partition.to_string()),
                ];
                (labels, ConstGauge::new(i64::try_from(*lag).unwrap_or(i64::MAX)))
            });
        let help = "Events between the cursor and the end of the partition";
        families.write("sandbar_subscription_lag", help, MetricType::Gauge, lag)
    }

    fn connections(&self, families: &mut Families<'_>) -> fmt::Result {
        let up = self.connections.health().into_iter().map(|(name, health)| {
            let is_up = health.answered && health.error.is_none();
            ([("connection", name)], ConstGauge::new(i64::from(is_up)))
        });
        families.write(
            "sandbar_connection_up",
            "1 while the broker answers",
            MetricType::Gauge,
            up,
        )?;

        let logs: Vec<_> =
            self.connections.logs().map(|(name, stats)| (name, stats.counters())).collect();
        let Some((_, first)) = logs.first() else { return Ok(()) };
        for (at, (name, help, _)) in first.iter().enumerate() {
            let series = logs.iter().map(|(log, counters)| {
                let (_, _, counter) = counters[at];
                ([("connection", *log)], counter.get())
            });
            families.counters(&format!("sandbar_log_{name}"), help, series)?;
        }
        Ok(())
    }
}

impl ControlPlane {
    fn couriers(&self, families: &mut Families<'_>) -> fmt::Result {
        let couriers = self.supervisor.couriers();
        let Some((_, first)) = couriers.first() else { return Ok(()) };
        for (at, (name, help, _)) in first.iter().enumerate() {
            let series = couriers.iter().map(|(connection, counts)| {
                let (_, _, count) = counts[at];
                ([("connection", connection.as_str())], count)
            });
            families.counters(&format!("sandbar_courier_{name}"), help, series)?;
        }
        Ok(())
    }

    fn redrives(&self, families: &mut Families<'_>) -> fmt::Result {
        let jobs = self.redrives.running();
        let of = |job: &Job| {
            [
                ("connection", job.connection.clone()),
                ("topic", job.topic.clone()),
                ("job", job.job.clone()),
            ]
        };
        let gauge = |n: u64| ConstGauge::new(i64::try_from(n).unwrap_or(i64::MAX));
        let letters = jobs.iter().flat_map(|job| {
            let p = &job.progress;
            let outcomes = [
                ("sent", p.sent),
                ("quarantined", p.quarantined),
                ("refused", p.refused),
                ("skipped", p.skipped),
            ];
            outcomes.map(|(outcome, count)| {
                let [connection, topic, name] = of(job);
                ([connection, topic, name, ("outcome", outcome.to_owned())], gauge(count))
            })
        });
        let help = "Dead letters of a redrive that runs, by what became of them";
        families.write("sandbar_redrive_letters", help, MetricType::Gauge, letters)?;
        let left = jobs.iter().map(|job| (of(job), gauge(job.progress.left)));
        let help = "Positions that a redrive that runs has not looked at yet";
        families.write("sandbar_redrive_left", help, MetricType::Gauge, left)
    }
}

/// A counter's name, its meaning, and where it stands.
type Count<T> = (&'static str, &'static str, fn(&T) -> u64);

/// Writes whole families: a family must not be written twice.
struct Families<'a>(DescriptorEncoder<'a>);

impl Families<'_> {
    fn write<L: EncodeLabelSet, M: EncodeMetric>(
        &mut self,
        name: &str,
        help: &str,
        kind: MetricType,
        series: impl IntoIterator<Item = (L, M)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, kind)?;
        for (labels, metric) in series {
            metric.encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }

    fn counters<L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        series: impl IntoIterator<Item = (L, u64)>,
    ) -> fmt::Result {
        let series = series.into_iter().map(|(labels, count)| (labels, ConstCounter::new(count)));
        self.write(name, help, MetricType::Counter, series)
    }
}
