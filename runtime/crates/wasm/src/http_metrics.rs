//! What is counted of plugins' HTTP requests, by plugin and by entry of `http.allow`: entries
//! are few, while a pattern may stand for any number of hosts.

use std::{collections::BTreeMap, fmt, sync::Arc};

use http::StatusCode;
use parking_lot::Mutex;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::Counter, histogram::Histogram},
};
use tokio::time::Instant;

/// Seconds.
const BUCKETS: [f64; 12] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0];

/// The host of requests that no entry allows.
const NOT_ALLOWED: &str = "(not allowed)";
/// Statuses of requests without an answer.
const REFUSED: &str = "refused";
const FAILED: &str = "failed";
const CANCELLED: &str = "cancelled";

/// Of all plugins of one host.
#[derive(Debug, Default, Clone)]
pub(crate) struct HttpMetrics(Arc<Mutex<BTreeMap<String, Arc<Requests>>>>);

/// Of one plugin. Outlives its versions.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    hosts: Mutex<BTreeMap<String, Host>>,
}

#[derive(Debug)]
struct Host {
    by_status: BTreeMap<String, Counter>,
    duration: Histogram,
}

impl Default for Host {
    fn default() -> Self {
        Self { by_status: BTreeMap::new(), duration: Histogram::new(BUCKETS) }
    }
}

impl HttpMetrics {
    pub(crate) fn plugin(&self, name: &str) -> Arc<Requests> {
        Arc::clone(self.0.lock().entry(name.to_owned()).or_default())
    }

    pub(crate) fn forget(&self, plugin: &str) {
        self.0.lock().remove(plugin);
    }
}

impl Requests {
    /// Makes the series of an entry, so that its first increase can be seen.
    pub(crate) fn expect(&self, host: &str) {
        let mut hosts = self.hosts.lock();
        let host = hosts.entry(host.to_owned()).or_default();
        for status in [REFUSED, FAILED] {
            host.by_status.entry(status.to_owned()).or_default();
        }
    }

    /// A request that no entry allows.
    pub(crate) fn refused(&self) {
        self.count(NOT_ALLOWED, REFUSED, None);
    }

    /// A request that `host`, an entry, allows. It is counted when the attempt is dropped.
    pub(crate) fn begin(self: &Arc<Self>, host: &str) -> Attempt {
        Attempt {
            requests: Arc::clone(self),
            host: host.to_owned(),
            status: CANCELLED.to_owned(),
            began: Instant::now(),
        }
    }

    fn count(&self, host: &str, status: &str, seconds: Option<f64>) {
        let mut hosts = self.hosts.lock();
        let host = hosts.entry(host.to_owned()).or_default();
        host.by_status.entry(status.to_owned()).or_default().inc();
        if let Some(seconds) = seconds {
            host.duration.observe(seconds);
        }
    }
}

/// A request under way, counted as cancelled unless something else is said.
pub(crate) struct Attempt {
    requests: Arc<Requests>,
    host: String,
    status: String,
    began: Instant,
}

impl Attempt {
    pub(crate) fn answered(&mut self, status: StatusCode) {
        status.as_str().clone_into(&mut self.status);
    }

    pub(crate) fn failed(&mut self) {
        FAILED.clone_into(&mut self.status);
    }

    /// Its host turned out to be at an address where it may not be.
    pub(crate) fn refused(&mut self) {
        REFUSED.clone_into(&mut self.status);
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        let seconds = self.began.elapsed().as_secs_f64();
        self.requests.count(&self.host, &self.status, Some(seconds));
    }
}

impl Collector for HttpMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let plugins = self.0.lock();
        if plugins.values().all(|requests| requests.hosts.lock().is_empty()) {
            return Ok(());
        }
        let (name, help) = ("plugin_http_requests", "HTTP requests of plugins");
        let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (plugin, requests) in plugins.iter() {
            for (host, of_host) in requests.hosts.lock().iter() {
                for (status, counter) in &of_host.by_status {
                    let labels = [("plugin", &**plugin), ("host", host), ("status", status)];
                    counter.encode(metric.encode_family(&labels)?)?;
                }
            }
        }
        let name = "plugin_http_request_duration_seconds";
        let help =
            "Time from an HTTP request of a plugin to the head of its response, or to its failure";
        let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
        for (plugin, requests) in plugins.iter() {
            let hosts = requests.hosts.lock();
            for (host, of_host) in hosts.iter().filter(|(host, _)| *host != NOT_ALLOWED) {
                let labels = [("plugin", plugin.as_str()), ("host", host)];
                of_host.duration.encode(metric.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}
