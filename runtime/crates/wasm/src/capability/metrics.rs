//! `sandbar:events/metrics`: counters and histograms of the plugin's own. What it counts
//! is counted at once, whatever becomes of the attempt.

use wasmtime::component::{HasData, Linker};

use super::logging::LogLevel;
use crate::{
    bindings::sandbar::events::metrics::{self, Host},
    state::State,
    user_metrics::Sample,
};

struct Metrics;

impl HasData for Metrics {
    type Data<'a> = MetricsView<'a>;
}

/// The metrics of one store, borrowed for one host call.
pub(crate) struct MetricsView<'a>(&'a State);

pub(crate) fn add_to_linker(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    metrics::add_to_linker::<State, Metrics>(linker, |state| MetricsView(state))
}

impl Host for MetricsView<'_> {
    fn count(
        &mut self,
        name: String,
        delta: u64,
        labels: Vec<(String, String)>,
    ) -> wasmtime::Result<()> {
        self.record(&name, Sample::Count(delta), labels);
        Ok(())
    }

    fn observe(
        &mut self,
        name: String,
        value: f64,
        labels: Vec<(String, String)>,
    ) -> wasmtime::Result<()> {
        self.record(&name, Sample::Observe(value), labels);
        Ok(())
    }
}

impl MetricsView<'_> {
    /// A sample that is refused is counted; the first of each kind is told.
    fn record(&self, name: &str, sample: Sample, mut labels: Vec<(String, String)>) {
        let State { facts, log, .. } = self.0;
        for (_, value) in &mut labels {
            *value = facts.redactor.clean(value).into_owned();
        }
        let stats = log.stats();
        if let Err(refusal) = stats.user.record(name, sample, labels, facts.limits.metric_series)
            && stats.dropped_sample(refusal)
        {
            let advice = refusal.advice();
            let line = format!("metric {name:?} dropped, and from now on counted only: {advice}");
            log.line(LogLevel::Warn, "metrics", &line);
        }
    }
}
