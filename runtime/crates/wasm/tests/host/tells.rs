//! Secrets stay where they belong, and a plugin's own metrics within bounds (S2, S3).

use std::sync::Arc;

use sandbar_wasm::{Generation, Grant, LoadSpec, SecretValue, Secrets};

use crate::support::{Bench, call, fails, only, program_of, run};

const SECRET: &str = "open-sesame-42";

async fn load(bench: &Bench) -> Arc<Generation> {
    let mut spec = LoadSpec::new("tells");
    spec.grants.insert(Grant::Metrics);
    spec.secrets = Secrets::from([("token".into(), SecretValue::new(SECRET))]);
    spec.limits.metric_series = 10;
    bench.host.load(program_of("sdk-tells"), spec).await.unwrap()
}

#[tokio::test]
async fn s3_a_plugin_gets_the_secrets_that_were_granted_and_no_others() {
    let bench = Bench::new();
    let error = bench.host.load(program_of("sdk-tells"), LoadSpec::new("p")).await.unwrap_err();
    insta::assert_snapshot!(error, @r#"not granted: sandbar:events/secrets@0.1.1 (needs "secrets"), sandbar:events/metrics@0.1.1 (needs "metrics"); to allow it write `grants = ["metrics"]` and `secrets = { NAME = { env = "VARIABLE" } }` in p.toml"#);
    let plugin = load(&bench).await;
    assert_eq!(only(&run(&plugin, call("length")).await), SECRET.len().to_string());
    let error = fails(&plugin, "other").await;
    assert_eq!(
        error.message,
        "secret `other` is not granted: add it under `secrets` of this plugin"
    );
}

#[tokio::test]
async fn s3_a_secret_is_taken_out_of_whatever_the_plugin_says() {
    let bench = Bench::new();
    let plugin = load(&bench).await;
    run(&plugin, call("log")).await.unwrap();
    run(&plugin, call("label")).await.unwrap();
    let errors = [
        fails(&plugin, "retry").await,
        fails(&plugin, "reject").await,
        fails(&plugin, "panic").await,
    ];
    assert_eq!(errors[0].message, "it is [redacted]");
    assert_eq!(errors[1].code, "[redacted]");
    assert!(errors[2].message.starts_with("it is [redacted] ("), "{}", errors[2].message);
    let lines = bench.log.lines().join("\n");
    assert!(lines.contains("it is [redacted]"), "{lines}");
    let said = format!("{lines}\n{errors:?}\n{}\n{plugin:?}", bench.host.stats().text());
    assert!(said.contains(r#"plugin_user_told_total{plugin="tells",it="[redacted]"} 1"#), "{said}");
    assert!(!said.contains(SECRET), "{said}");
}

#[tokio::test]
async fn a_plugins_own_metrics_count_failed_attempts_too() {
    let bench = Bench::new();
    let plugin = load(&bench).await;
    for _ in 0..3 {
        fails(&plugin, "retry").await;
    }
    let text = bench.host.stats().text();
    for line in [
        r#"sandbar_plugin_user_events_total{plugin="tells",kind="retry"} 3"#,
        r#"sandbar_plugin_user_payload_bytes_sum{plugin="tells"} 15.0"#,
    ] {
        assert!(text.contains(line), "no {line} in {text}");
    }
}

#[tokio::test]
async fn s2_series_beyond_the_bound_are_dropped_counted_and_told_once() {
    let bench = Bench::new();
    let plugin = load(&bench).await;
    run(&plugin, call("500")).await.unwrap();
    run(&plugin, call("bad")).await.unwrap();
    run(&plugin, call("bad")).await.unwrap();
    let text = bench.host.stats().text();
    assert_eq!(text.matches("sandbar_plugin_user_many_total{").count(), 8, "{text}");
    let dropped = |reason: &str| {
        format!("plugin_metrics_dropped_total{{plugin=\"tells\",reason=\"{reason}\"}}")
    };
    // of each "bad" its own `events` series finds no room either
    assert!(text.contains(&format!("{} 494", dropped("series"))), "{text}");
    assert!(text.contains(&format!("{} 2", dropped("name"))), "{text}");
    let told = bench.log.lines();
    assert_eq!(told.len(), 2, "{told:#?}");
    assert!(told[0].contains("limits.metric-series"), "{told:#?}");
}
