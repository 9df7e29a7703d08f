//! `docs/metrics.md` and `/metrics` say the same, and both of what there is.

use std::collections::{BTreeMap, BTreeSet};

use crate::support::{Runtime, guest::Guest, record, until};
use sandbar::supervisor::State;
use serde_json::json;

const DOCS: &str = include_str!("../../../docs/metrics.md");

/// A metric as it is scraped.
#[derive(Default)]
struct Metric {
    kind: String,
    help: String,
    labels: BTreeSet<String>,
}

/// All metrics by the name they have in a query.
fn parse(text: &str) -> BTreeMap<String, Metric> {
    let mut metrics: BTreeMap<String, Metric> = BTreeMap::new();
    for line in text.lines() {
        let words: Vec<_> = line.splitn(4, ' ').collect();
        match words[..] {
            ["#", "HELP", name, help] => {
                metrics.entry(name.to_owned()).or_default().help =
                    help.trim_end_matches('.').to_owned();
            }
            ["#", "TYPE", name, kind] => {
                metrics.entry(name.to_owned()).or_default().kind = kind.to_owned();
            }
            ["#", ..] => {}
            _ => {
                let (sample, _) = line.rsplit_once(' ').unwrap();
                let (name, labels) = sample.split_once('{').unwrap_or((sample, "}"));
                let family = ["_total", "_bucket", "_sum", "_count"]
                    .iter()
                    .find_map(|end| name.strip_suffix(end).filter(|n| metrics.contains_key(*n)));
                let metric = metrics.get_mut(family.unwrap_or(name)).unwrap();
                let names =
                    labels.trim_end_matches('}').split("\",").filter_map(|l| l.split_once('='));
                metric.labels.extend(names.map(|(n, _)| n.to_owned()).filter(|n| n != "le"));
            }
        }
    }
    let queried = |(name, metric): (String, Metric)| {
        let name = if metric.kind == "counter" { format!("{name}_total") } else { name };
        (name, metric)
    };
    metrics.into_iter().map(queried).collect()
}

async fn metrics(runtime: &Runtime) -> String {
    let (status, text) = runtime.get("/metrics").await;
    assert_eq!(status, 200);
    text
}

/// Waits until the lag, which is measured now and then, is among the metrics.
async fn complete(runtime: &Runtime) -> String {
    until("a lag", async || {
        let text = metrics(runtime).await;
        text.contains("sandbar_subscription_lag{plugin=\"relay\"").then_some(text)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_metric_is_in_the_documentation_and_the_other_way_around() {
    let runtime = Runtime::start("").await;
    // so that there is a courier
    runtime.copy(
        "relay.toml",
        "ordering = \"none\"\nretry.through = \"topics\"\nhttp.allow = [\"example.com\"]\n",
    );
    runtime.copy("relay.wasm", Guest::new("1").build());
    let refused: Vec<_> = (0..9).map(|n| record("k", format!("!{n}"))).collect();
    runtime.publish(&refused).await;
    runtime.events_of("relay.dlq", refused.len()).await;
    complete(&runtime).await;
    // slow enough to be seen at it
    let redrive = "/api/dead-letters/relay.dlq/redrive";
    let (status, job) = runtime.call("POST", redrive, &json!({ "rate": 1 })).await;
    assert_eq!(status, 202, "{job}");
    let text = until("a redrive", async || {
        let text = metrics(&runtime).await;
        text.contains("sandbar_redrive_letters{").then_some(text)
    })
    .await;
    runtime.stop().await;

    let row = |(name, metric): (&String, &Metric)| {
        let labels: Vec<_> = metric.labels.iter().map(|l| format!("`{l}`")).collect();
        format!("| `{name}` | {} | {} | {} |", metric.kind, labels.join(", "), metric.help)
    };
    let scraped: Vec<_> = parse(&text).iter().map(row).collect();
    let documented: Vec<_> = DOCS.lines().filter(|line| line.starts_with("| `")).collect();
    assert!(
        scraped == documented,
        "the table of docs/metrics.md should be\n{}",
        scraped.join("\n")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plugin_that_is_gone_leaves_no_series_and_comes_back_with_new_ones() {
    let runtime = Runtime::start("").await;
    runtime.copy("stays.wasm", Guest::new("1").from("elsewhere").build());
    runtime.copy("relay.wasm", Guest::new("1").build());
    runtime.publish(&[record("k", "one")]).await;
    runtime.events_of("out", 1).await;
    complete(&runtime).await;

    runtime.remove("relay.wasm");
    until("it is gone", async || runtime.plugin("relay").is_none().then_some(())).await;
    let text = metrics(&runtime).await;
    let left: Vec<_> = text.lines().filter(|line| line.contains("plugin=\"relay\"")).collect();
    assert!(left.is_empty(), "{left:#?}");
    assert!(text.contains("sandbar_events_handled_total{plugin=\"stays\"}"));
    let (_, listed) = runtime.get("/api/plugins").await;
    let is_listed = |name: &str| listed.contains(&format!("\"name\":\"{name}\""));
    assert!(!is_listed("relay") && is_listed("stays"), "{listed}");

    runtime.copy("relay.wasm", Guest::new("2").build());
    runtime.status("relay", "back", |s| s.state == State::Running).await;
    runtime.publish(&[record("k", "two")]).await;
    runtime.events_of("out", 2).await;
    let handled = "sandbar_events_handled_total{plugin=\"relay\"} 1";
    until(handled, async || metrics(&runtime).await.contains(handled).then_some(())).await;
    runtime.stop().await;
}
