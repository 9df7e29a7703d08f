//! Metrics that plugins make: kept by plugin and bounded, whatever a plugin does.
//!
//! They are named `sandbar_plugin_user_NAME`. A name is a counter or a histogram, for all
//! plugins alike: a family of the exposition format has one type.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

use parking_lot::Mutex;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::Counter, histogram::Histogram},
};

/// Longest name of a metric, in bytes.
const LONGEST_NAME: usize = 100;
/// Most labels of a series, `plugin` not counted.
const MOST_LABELS: usize = 8;
/// Longest name of a label, in bytes.
const LONGEST_LABEL: usize = 64;
/// Longest value of a label, in bytes.
const LONGEST_VALUE: usize = 128;
/// Bounds that fit seconds as well as counts.
const BUCKETS: [f64; 20] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 50.0,
    100.0, 250.0, 1000.0, 10_000.0, 100_000.0,
];

/// Name and value, in the order of names.
type Labels = Vec<(String, String)>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Counter,
    Histogram,
}

/// What a plugin adds to one of its metrics.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Sample {
    Count(u64),
    Observe(f64),
}

impl Sample {
    fn kind(self) -> Kind {
        match self {
            Self::Count(_) => Kind::Counter,
            Self::Observe(_) => Kind::Histogram,
        }
    }
}

/// Why a sample is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Refusal {
    Name,
    Labels,
    Value,
    Kind,
    Series,
}

impl Refusal {
    pub(crate) const ALL: [Self; 5] =
        [Self::Name, Self::Labels, Self::Value, Self::Kind, Self::Series];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Labels => "labels",
            Self::Value => "value",
            Self::Kind => "kind",
            Self::Series => "series",
        }
    }

    /// What the author or the operator can do about it.
    pub(crate) fn advice(self) -> String {
        match self {
            Self::Name => format!(
                "a name has letters, digits and `_`, no digit first, and at most {LONGEST_NAME} bytes"
            ),
            Self::Labels => format!(
                "there are at most {MOST_LABELS} labels, each once, with names of letters, digits and \
                 `_` of at most {LONGEST_LABEL} bytes that are not `plugin` or `le` and do not begin \
                 with a digit or `__`, and values of at most {LONGEST_VALUE} bytes"
            ),
            Self::Value => "an observation is a finite number".into(),
            Self::Kind => {
                "this name is a counter here and a histogram there, be it in another plugin".into()
            }
            Self::Series => {
                "the plugin has as many series as limits.metric-series allows: labels are for few \
                 values, not for ids"
                    .into()
            }
        }
    }
}

/// The metrics that plugins make, of one host.
#[derive(Debug, Default, Clone)]
pub(crate) struct UserMetrics(Arc<Mutex<BTreeMap<String, Family>>>);

/// Who has a metric of this name.
#[derive(Debug)]
struct Family {
    kind: Kind,
    plugins: BTreeMap<String, Arc<Mutex<Series>>>,
}

/// All series of one metric of one plugin.
type Series = BTreeMap<Labels, Value>;

#[derive(Debug)]
enum Value {
    Counter(Counter),
    Histogram(Histogram),
}

impl Value {
    fn new(kind: Kind) -> Self {
        match kind {
            Kind::Counter => Self::Counter(Counter::default()),
            Kind::Histogram => Self::Histogram(Histogram::new(BUCKETS)),
        }
    }

    fn add(&self, sample: Sample) {
        match (self, sample) {
            (Self::Counter(counter), Sample::Count(delta)) => {
                counter.inc_by(delta);
            }
            (Self::Histogram(histogram), Sample::Observe(value)) => histogram.observe(value),
            // the family's kind was compared before
            _ => {}
        }
    }
}

impl UserMetrics {
    /// Those of one plugin, none to begin with.
    pub(crate) fn plugin(&self, name: &str) -> PluginMetrics {
        PluginMetrics { plugin: name.to_owned(), all: self.clone(), mine: Mutex::default() }
    }

    /// Takes out all series of a plugin.
    pub(crate) fn forget(&self, plugin: &str) {
        self.0.lock().retain(|_, family| {
            family.plugins.remove(plugin);
            !family.plugins.is_empty()
        });
    }
}

/// The metrics of one plugin. They outlive its versions, as all its counts do.
#[derive(Debug)]
pub(crate) struct PluginMetrics {
    plugin: String,
    all: UserMetrics,
    mine: Mutex<Mine>,
}

#[derive(Debug, Default)]
struct Mine {
    metrics: BTreeMap<String, (Kind, Arc<Mutex<Series>>)>,
    series: usize,
}

impl PluginMetrics {
    /// Adds `sample`, making the series where there are fewer than `most`.
    ///
    /// # Errors
    /// Why it is dropped.
    pub(crate) fn record(
        &self,
        name: &str,
        sample: Sample,
        mut labels: Labels,
        most: usize,
    ) -> Result<(), Refusal> {
        if !is_name(name, LONGEST_NAME) || name == "_total" {
            return Err(Refusal::Name);
        }
        labels.sort();
        if !are_labels(&labels) {
            return Err(Refusal::Labels);
        }
        if matches!(sample, Sample::Observe(value) if !value.is_finite()) {
            return Err(Refusal::Value);
        }
        // the suffix that every counter has when it is exported
        let name = match sample.kind() {
            Kind::Counter => name.strip_suffix("_total").unwrap_or(name),
            Kind::Histogram => name,
        };
        let mut mine = self.mine.lock();
        let Mine { metrics, series } = &mut *mine;
        let of_name = match metrics.get(name) {
            Some((kind, _)) if *kind != sample.kind() => return Err(Refusal::Kind),
            Some((_, of_name)) => Arc::clone(of_name),
            None if *series >= most => return Err(Refusal::Series),
            None => {
                let of_name = self.all.join(name, sample.kind(), &self.plugin)?;
                metrics.insert(name.to_owned(), (sample.kind(), Arc::clone(&of_name)));
                of_name
            }
        };
        let mut of_name = of_name.lock();
        match of_name.get(&labels) {
            Some(value) => value.add(sample),
            None if *series >= most => return Err(Refusal::Series),
            None => {
                *series += 1;
                of_name.entry(labels).or_insert_with(|| Value::new(sample.kind())).add(sample);
            }
        }
        Ok(())
    }
}

impl UserMetrics {
    fn join(&self, name: &str, kind: Kind, plugin: &str) -> Result<Arc<Mutex<Series>>, Refusal> {
        let mut families = self.0.lock();
        let family = families
            .entry(name.to_owned())
            .or_insert_with(|| Family { kind, plugins: BTreeMap::new() });
        if family.kind != kind {
            return Err(Refusal::Kind);
        }
        Ok(Arc::clone(family.plugins.entry(plugin.to_owned()).or_default()))
    }
}

fn is_name(name: &str, longest: usize) -> bool {
    let legal = |c: char| c.is_ascii_alphanumeric() || c == '_';
    name.len() <= longest
        && name.chars().all(legal)
        && name.starts_with(|c: char| !c.is_ascii_digit())
}

/// Of labels in the order of their names.
fn are_labels(labels: &Labels) -> bool {
    let names: BTreeSet<_> = labels.iter().map(|(name, _)| name).collect();
    names.len() == labels.len()
        && labels.len() <= MOST_LABELS
        && labels.iter().all(|(name, value)| {
            is_name(name, LONGEST_LABEL)
                && !name.starts_with("__")
                && name != "plugin"
                && name != "le"
                && value.len() <= LONGEST_VALUE
        })
}

impl Collector for UserMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for (name, family) in self.0.lock().iter() {
            let kind = match family.kind {
                Kind::Counter => MetricType::Counter,
                Kind::Histogram => MetricType::Histogram,
            };
            // a name says it all: nobody wrote a sentence about it
            let name = format!("plugin_user_{name}");
            let mut metrics = encoder.encode_descriptor(&name, "Made by plugins", None, kind)?;
            for (plugin, series) in &family.plugins {
                for (labels, value) in series.lock().iter() {
                    let plugin = [("plugin", plugin.as_str())];
                    let own = labels.iter().map(|(name, value)| (name.as_str(), value.as_str()));
                    let labels: Vec<_> = plugin.into_iter().chain(own).collect();
                    let encoder = metrics.encode_family(&labels)?;
                    match value {
                        Value::Counter(counter) => counter.encode(encoder)?,
                        Value::Histogram(histogram) => histogram.encode(encoder)?,
                    }
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::{encoding::text::encode, registry::Registry};

    use super::*;

    fn text(metrics: &UserMetrics) -> String {
        let mut registry = Registry::with_prefix("sandbar");
        registry.register_collector(Box::new(metrics.clone()));
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        text
    }

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn what_plugins_count_is_exported_by_plugin_and_labels() {
        let all = UserMetrics::default();
        let (a, b) = (all.plugin("a"), all.plugin("b"));
        a.record("orders", Sample::Count(2), labels(&[("to", "x\"y"), ("by", "z")]), 9).unwrap();
        a.record("orders", Sample::Count(3), labels(&[("by", "z"), ("to", "x\"y")]), 9).unwrap();
        b.record("orders_total", Sample::Count(1), Labels::new(), 9).unwrap();
        b.record("wait", Sample::Observe(0.3), Labels::new(), 9).unwrap();
        let exported = text(&all);
        for line in [
            "# TYPE sandbar_plugin_user_orders counter",
            r#"sandbar_plugin_user_orders_total{plugin="a",by="z",to="x\"y"} 5"#,
            r#"sandbar_plugin_user_orders_total{plugin="b"} 1"#,
            "# TYPE sandbar_plugin_user_wait histogram",
            r#"sandbar_plugin_user_wait_bucket{le="0.25",plugin="b"} 0"#,
            r#"sandbar_plugin_user_wait_bucket{le="0.5",plugin="b"} 1"#,
            r#"sandbar_plugin_user_wait_count{plugin="b"} 1"#,
        ] {
            assert!(exported.lines().any(|l| l == line), "no {line} in\n{exported}");
        }
        all.forget("b");
        let exported = text(&all);
        assert!(exported.contains(r#"plugin="a""#) && !exported.contains(r#"plugin="b""#));
    }

    #[test]
    fn s2_what_prometheus_would_not_take_or_would_drown_in_is_refused() {
        let all = UserMetrics::default();
        let a = all.plugin("a");
        let count =
            |name: &str, of: &[(&str, &str)]| a.record(name, Sample::Count(1), labels(of), 3);
        for name in ["", "1st", "a-b", "a b", "é", &"n".repeat(101)] {
            assert_eq!(count(name, &[]), Err(Refusal::Name), "{name:?}");
        }
        let long = "v".repeat(129);
        for bad in [
            &[("plugin", "other")][..],
            &[("le", "1")],
            &[("__name__", "x")],
            &[("a-b", "x")],
            &[("x", "1"), ("x", "2")],
            &[("x", long.as_str())],
        ] {
            assert_eq!(count("n", bad), Err(Refusal::Labels), "{bad:?}");
        }
        let many: Vec<_> = ["a", "b", "c", "d", "e", "f", "g", "h", "i"].map(|n| (n, "")).into();
        assert_eq!(count("n", &many), Err(Refusal::Labels));
        let odd = a.record("n", Sample::Observe(f64::NAN), Labels::new(), 3);
        assert_eq!(odd, Err(Refusal::Value));
        assert_eq!(text(&all), "# EOF\n", "what is refused leaves nothing behind");

        for id in ["1", "2", "3"] {
            count("n", &[("id", id)]).unwrap();
        }
        assert_eq!(count("n", &[("id", "4")]), Err(Refusal::Series));
        assert_eq!(count("m", &[]), Err(Refusal::Series));
        count("n", &[("id", "1")]).unwrap();
        // another plugin has its own bound, and the name's one kind
        let b = all.plugin("b");
        b.record("n", Sample::Count(1), Labels::new(), 3).unwrap();
        assert_eq!(b.record("n", Sample::Observe(1.0), Labels::new(), 3), Err(Refusal::Kind));
        all.forget("a");
        all.forget("b");
        b.record("m", Sample::Observe(1.0), Labels::new(), 3).unwrap();
    }
}
