//! What a plugin has counted by itself, read from what the runtime exports.

use std::collections::BTreeMap;

/// What every metric of a plugin's own begins with.
const PREFIX: &str = "sandbar_plugin_user_";

/// The plugin's counters and histograms in a text of OpenMetrics, under the names that the
/// plugin has for them.
pub(crate) fn by(plugin: &str, text: &str) -> BTreeMap<String, f64> {
    text.lines().filter_map(|line| sample(plugin, line)).collect()
}

/// What `after` has more than `before`.
pub(crate) fn since(
    before: &BTreeMap<String, f64>,
    mut after: BTreeMap<String, f64>,
) -> BTreeMap<String, f64> {
    after.iter_mut().for_each(|(name, value)| *value -= before.get(name).unwrap_or(&0.0));
    after.retain(|_, value| *value != 0.0);
    after
}

/// `sandbar_plugin_user_NAME_total{plugin="PLUGIN",label="value"} 3`
fn sample(plugin: &str, line: &str) -> Option<(String, f64)> {
    let (series, value) = line.strip_prefix(PREFIX)?.rsplit_once(' ')?;
    let (name, labels) = series.strip_suffix('}')?.split_once('{')?;
    let own = labels.strip_prefix(&format!("plugin=\"{plugin}\""))?;
    if name.ends_with("_bucket") && own.contains("le=\"") {
        return None;
    }
    let name = name.strip_suffix("_total").unwrap_or(name);
    let series = match own.strip_prefix(',') {
        Some(labels) => format!("{name}{{{labels}}}"),
        None => name.to_owned(),
    };
    Some((series, value.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plugin_knows_its_metrics_by_its_own_names() {
        let text = "\
# TYPE sandbar_plugin_user_events counter
sandbar_plugin_user_events_total{plugin=\"p\",kind=\"a b\"} 2
sandbar_plugin_user_seen_total{plugin=\"p\"} 1
sandbar_plugin_user_seen_total{plugin=\"other\"} 7
sandbar_plugin_user_size_sum{plugin=\"p\"} 1.5
sandbar_plugin_user_size_count{plugin=\"p\"} 1
sandbar_plugin_user_size_bucket{plugin=\"p\",le=\"+Inf\"} 1
sandbar_plugin_traps_total{plugin=\"p\"} 3
";
        let all = by("p", text);
        let expected =
            [("events{kind=\"a b\"}", 2.0), ("seen", 1.0), ("size_count", 1.0), ("size_sum", 1.5)];
        assert_eq!(all, expected.map(|(name, value)| (name.to_owned(), value)).into());
        let before = [("seen".to_owned(), 1.0), ("size_sum".to_owned(), 1.0)].into();
        let more = since(&before, all);
        assert_eq!(more["size_sum"], 0.5);
        assert!(!more.contains_key("seen"));
    }
}
