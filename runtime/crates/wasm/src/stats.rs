//! What the host counts, per plugin.

use std::{
    collections::HashMap,
    sync::{Arc, atomic::AtomicU64},
};

use parking_lot::Mutex;
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};
use sandbar_core::ErrorClass;

use crate::http_metrics::{HttpMetrics, Requests};
use crate::user_metrics::{PluginMetrics, Refusal, UserMetrics};

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct PluginLabel {
    plugin: String,
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct LimitLabel {
    plugin: String,
    limit: &'static str,
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ReasonLabel {
    plugin: String,
    reason: &'static str,
}

/// What a limit is called in metrics: its key in the configuration, or what its keys
/// have in common.
const LIMITS: [&str; 5] = ["cpu-time", "wall-time", "memory", "output", "log-lines-per-second"];

/// The metric families of one host. Counts outlive reloads: they belong to the
/// plugin's name, not to its file.
#[derive(Debug, Default)]
pub struct HostStats {
    limit_hits: Family<LimitLabel, Counter>,
    traps: Family<PluginLabel, Counter>,
    host_errors: Family<PluginLabel, Counter>,
    instances_created: Family<PluginLabel, Counter>,
    instances: Family<PluginLabel, Gauge>,
    log_lines: Family<PluginLabel, Counter>,
    log_lines_dropped: Family<PluginLabel, Counter>,
    metrics_dropped: Family<ReasonLabel, Counter>,
    user: UserMetrics,
    http: HttpMetrics,
    plugins: Mutex<HashMap<String, Arc<PluginStats>>>,
}

impl HostStats {
    /// Adds all families to `registry`.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "plugin_limit_hits",
            "Attempts stopped, and log lines held back, by a limit",
            self.limit_hits.clone(),
        );
        registry.register("plugin_traps", "Attempts that trapped", self.traps.clone());
        registry.register(
            "plugin_host_errors",
            "Attempts that failed in the host, not in the plugin",
            self.host_errors.clone(),
        );
        registry.register(
            "plugin_instances_created",
            "Instances made, warm ones and replacements",
            self.instances_created.clone(),
        );
        registry.register("plugin_instances", "Instances alive", self.instances.clone());
        registry.register("plugin_log_lines", "Log lines written", self.log_lines.clone());
        registry.register(
            "plugin_log_lines_dropped",
            "Log lines held back by limits.log-lines-per-second",
            self.log_lines_dropped.clone(),
        );
        registry.register(
            "plugin_metrics_dropped",
            "Samples of a plugin's own metrics that were refused",
            self.metrics_dropped.clone(),
        );
        registry.register_collector(Box::new(self.user.clone()));
        registry.register_collector(Box::new(self.http.clone()));
    }

    /// All families in the OpenMetrics text format, as they are exported: for tests.
    pub fn text(&self) -> String {
        let mut registry = Registry::with_prefix("sandbar");
        self.register(&mut registry);
        let mut text = String::new();
        // writing into a string cannot fail
        let _ = encode(&mut text, &registry);
        text
    }

    /// The counters of one plugin, made at first use.
    pub fn plugin(&self, name: &str) -> Arc<PluginStats> {
        let make = || {
            let plugin = PluginLabel { plugin: name.to_owned() };
            let [cpu_time, wall_time, memory, output, log] = LIMITS.map(|limit| {
                self.limit_hits.get_or_create_owned(&LimitLabel { plugin: name.to_owned(), limit })
            });
            Arc::new(PluginStats {
                cpu_time,
                wall_time,
                memory,
                output,
                log,
                traps: self.traps.get_or_create_owned(&plugin),
                host_errors: self.host_errors.get_or_create_owned(&plugin),
                instances_created: self.instances_created.get_or_create_owned(&plugin),
                instances: self.instances.get_or_create_owned(&plugin),
                log_lines: self.log_lines.get_or_create_owned(&plugin),
                log_lines_dropped: self.log_lines_dropped.get_or_create_owned(&plugin),
                metrics_dropped: Refusal::ALL.map(|refusal| {
                    self.metrics_dropped.get_or_create_owned(&reason(name, refusal))
                }),
                user: self.user.plugin(name),
                http: self.http.plugin(name),
            })
        };
        Arc::clone(self.plugins.lock().entry(name.to_owned()).or_insert_with(make))
    }

    /// Takes the counters of a plugin that is gone out of all families. Whoever still
    /// has them counts unseen; asked for again, they begin at zero.
    pub fn forget(&self, name: &str) {
        self.plugins.lock().remove(name);
        let plugin = PluginLabel { plugin: name.to_owned() };
        for limit in LIMITS {
            self.limit_hits.remove(&LimitLabel { plugin: name.to_owned(), limit });
        }
        for family in [
            &self.traps,
            &self.host_errors,
            &self.instances_created,
            &self.log_lines,
            &self.log_lines_dropped,
        ] {
            family.remove(&plugin);
        }
        self.instances.remove(&plugin);
        for refusal in Refusal::ALL {
            self.metrics_dropped.remove(&reason(name, refusal));
        }
        self.user.forget(name);
        self.http.forget(name);
    }
}

fn reason(plugin: &str, refusal: Refusal) -> ReasonLabel {
    ReasonLabel { plugin: plugin.to_owned(), reason: refusal.as_str() }
}

/// The counters of one plugin. Every limit has its own (contract S2).
#[derive(Debug)]
pub struct PluginStats {
    cpu_time: Counter,
    wall_time: Counter,
    memory: Counter,
    output: Counter,
    log: Counter,
    traps: Counter,
    host_errors: Counter,
    instances_created: Counter,
    pub(crate) instances: Gauge,
    pub(crate) log_lines: Counter,
    log_lines_dropped: Counter,
    metrics_dropped: [Counter; Refusal::ALL.len()],
    /// Its own metrics.
    pub(crate) user: PluginMetrics,
    pub(crate) http: Arc<Requests>,
}

impl PluginStats {
    /// Attempts stopped by the limit behind `class`; 0 for a class that is no limit.
    pub fn limit_hits(&self, class: ErrorClass) -> u64 {
        self.limit(class).map_or(0, Counter::get)
    }

    /// Attempts that trapped.
    pub fn traps(&self) -> u64 {
        self.traps.get()
    }

    /// Attempts that failed in the host.
    pub fn host_errors(&self) -> u64 {
        self.host_errors.get()
    }

    /// Instances made since the host started.
    pub fn instances_created(&self) -> u64 {
        self.instances_created.get()
    }

    /// Instances alive.
    pub fn instances(&self) -> i64 {
        self.instances.get()
    }

    /// Log lines written.
    pub fn log_lines(&self) -> u64 {
        self.log_lines.get()
    }

    /// Log lines held back.
    pub fn log_lines_dropped(&self) -> u64 {
        self.log_lines_dropped.get()
    }

    pub(crate) fn count(&self, class: ErrorClass) {
        if let Some(counter) = self.limit(class) {
            counter.inc();
        } else if class == ErrorClass::Trap {
            self.traps.inc();
        } else if class == ErrorClass::Host {
            self.host_errors.inc();
        }
    }

    pub(crate) fn dropped_log_line(&self) {
        self.log.inc();
        self.log_lines_dropped.inc();
    }

    /// Counts a sample of the plugin's own metrics that was refused; whether it is the first of
    /// its kind.
    pub(crate) fn dropped_sample(&self, refusal: Refusal) -> bool {
        self.metrics_dropped[refusal as usize].inc() == 0
    }

    pub(crate) fn created_instance(&self) {
        self.instances_created.inc();
        self.instances.inc();
    }

    fn limit(&self, class: ErrorClass) -> Option<&Counter<u64, AtomicU64>> {
        match class {
            ErrorClass::CpuTime => Some(&self.cpu_time),
            ErrorClass::Deadline => Some(&self.wall_time),
            ErrorClass::Memory => Some(&self.memory),
            ErrorClass::Output => Some(&self.output),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plugin_that_is_forgotten_leaves_no_series() {
        let stats = HostStats::default();
        let gone = stats.plugin("gone");
        gone.count(ErrorClass::Memory);
        stats.plugin("stays").created_instance();
        assert!(
            stats.text().contains(r#"plugin_limit_hits_total{plugin="gone",limit="memory"} 1"#)
        );
        stats.forget("gone");
        // whoever still holds them does no harm
        gone.count(ErrorClass::Trap);
        let left = stats.text();
        assert!(
            !left.contains("gone") && left.contains(r#"plugin_instances{plugin="stays"} 1"#),
            "{left}"
        );
        assert_eq!(stats.plugin("gone").traps(), 0);
    }
}
