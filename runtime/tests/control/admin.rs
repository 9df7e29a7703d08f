//! What the admin listener says.

use crate::support::{Runtime, guest::Guest, until};
use sandbar::supervisor::State;
use sandbar_core::Outgoing;
use serde_json::{Value, json};

/// What differs from run to run, by field.
fn redacted(mut value: Value) -> Value {
    fn walk(value: &mut Value) {
        match value {
            Value::Object(fields) => {
                for (name, value) in fields {
                    match name.as_str() {
                        "digest" | "loaded_at" | "load_ms" | "size" | "file" | "bytes"
                        | "timestamp" | "timestamp_ms" | "first_failed_at" | "last_failed_at"
                            if !value.is_null() =>
                        {
                            *value = json!("[redacted]");
                        }
                        // of the event: they hold times and digests too
                        "headers" => *value = json!("[redacted]"),
                        _ => walk(value),
                    }
                }
            }
            Value::Array(values) => values.iter_mut().for_each(walk),
            _ => {}
        }
    }
    walk(&mut value);
    value
}

async fn json_of(runtime: &Runtime, path: &str) -> (u16, Value) {
    let (status, body) = runtime.get(path).await;
    let value = serde_json::from_str(&body).unwrap_or_else(|e| panic!("{path}: {e}: {body}"));
    (status, redacted(value))
}

async fn with_events() -> Runtime {
    let runtime = Runtime::start("").await;
    runtime.copy("relay.wasm", Guest::new("1.2.3").build());
    runtime.copy("script.wasm", "#!/bin/sh\n");
    runtime.status("relay", "running", |s| s.state == State::Running).await;
    runtime.status("script", "failed", |s| s.state == State::Failed).await;
    let body = "{\"key\":\"a\",\"payload\":\"one\"}\n{\"payload\":\"!two\"}\n";
    let (status, answer) = runtime.post("/api/topics/in/events", body).await;
    assert_eq!((status, answer.as_str()), (200, "{\"published\":2,\"errors\":[]}"));
    until("both are done", async || {
        let plugin = runtime.plugin("relay").unwrap();
        let cursors = runtime.log().cursors("sandbar.relay").await.unwrap();
        let counts = plugin.counts();
        let done = counts.handled + counts.dead_lettered == 2 && plugin.in_flight() == 0;
        (done && cursors.iter().all(|(_, from, end)| from == end)).then_some(())
    })
    .await;
    runtime
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plugins_topics_and_dead_letters_are_listed() {
    let runtime = with_events().await;
    let (_, plugins) = json_of(&runtime, "/api/plugins").await;
    insta::assert_json_snapshot!("plugins", plugins);
    let (_, plugin) = json_of(&runtime, "/api/plugins/relay").await;
    insta::assert_json_snapshot!("plugin", plugin);
    let (_, topics) = json_of(&runtime, "/api/topics").await;
    insta::assert_json_snapshot!("topics", topics);
    let (_, dead_letters) = json_of(&runtime, "/api/plugins/relay/dead-letters").await;
    insta::assert_json_snapshot!("dead_letters", dead_letters);
    let (status, ready) = json_of(&runtime, "/readyz").await;
    assert_eq!((status, ready), (200, json!({ "ready": true })));
    assert_eq!(runtime.get("/livez").await, (200, "ok".to_owned()));
    runtime.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_are_text_with_each_family_once() {
    let runtime = with_events().await;
    let wanted = [
        "sandbar_plugin_state{plugin=\"relay\",state=\"running\"} 1",
        "sandbar_plugin_state{plugin=\"script\",state=\"failed\"} 1",
        "sandbar_plugin_reloads_total{plugin=\"relay\"} 0",
        "sandbar_plugin_refusals_total{plugin=\"script\"} 1",
        "sandbar_events_handled_total{plugin=\"relay\"} 1",
        "sandbar_plugin_instances{plugin=\"relay\"}",
        "sandbar_connection_up{connection=\"log\"} 1",
        "sandbar_subscription_lag{plugin=\"relay\",topic=\"in\",partition=\"0\"} 0",
    ];
    // the lag is measured now and then
    let text = until("all metrics", async || {
        let (status, text) = runtime.get("/metrics").await;
        assert_eq!(status, 200);
        wanted.iter().all(|line| text.contains(line)).then_some(text)
    })
    .await;
    let mut types: Vec<_> = text.lines().filter(|l| l.starts_with("# TYPE")).collect();
    let all = types.len();
    types.sort_unstable();
    types.dedup();
    assert_eq!(types.len(), all, "a family must not be written twice: {text}");
    assert!(text.ends_with("# EOF\n"));
    runtime.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_are_read_from_anywhere_and_followed() {
    let runtime = Runtime::start("").await;
    let publish = async |from: usize, to: usize| {
        let records: Vec<_> = (from..to).map(|n| Outgoing::new("t", n.to_string())).collect();
        runtime.publish(&records).await;
    };
    publish(0, 600).await;
    let payloads = |body: &str| -> Vec<usize> {
        let events = body.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        events.map(|e| e["payload"].as_str().unwrap().parse().unwrap()).collect()
    };
    let (_, all) = runtime.get("/api/topics/t/events").await;
    assert_eq!(payloads(&all), (0..600).collect::<Vec<_>>());
    let (_, some) = runtime.get("/api/topics/t/events?from=598&limit=5").await;
    assert_eq!(payloads(&some), [598, 599]);
    let (_, none) = runtime.get("/api/topics/t/events?limit=0").await;
    assert!(none.is_empty());

    let following = runtime.get("/api/topics/t/events?from=590&follow=true&limit=30");
    let (_, followed) = tokio::join!(publish(600, 700), following);
    assert_eq!(payloads(&followed.1), (590..620).collect::<Vec<_>>());

    // an endless answer must not hold up the end
    let mut endless =
        crate::support::Request::get(runtime.admin, "/api/topics/t/events?follow=true").await;
    endless.read_until("\"payload\":\"699\"").await;
    runtime.stop().await;
    endless.read_to_end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mistakes_are_told_with_status_and_reason() {
    let runtime = Runtime::start("").await;
    for (path, status, why) in [
        ("/api/nothing", 404, "no such page"),
        ("/api/plugins/nobody", 404, "no plugin `nobody`"),
        ("/api/plugins/nobody/dead-letters", 404, "no plugin `nobody`"),
        ("/api/topics/t/events?connection=x", 404, "unknown connection `x`; connections: `log`"),
        ("/api/topics/t/events?from=yesterday", 400, "is no place to begin"),
        ("/api/topics/nowhere/events", 400, "nowhere"),
    ] {
        let (code, body) = json_of(&runtime, path).await;
        let error = body["error"].as_str().unwrap_or_else(|| panic!("{path}: {body}"));
        assert!(code == status && error.contains(why), "{path}: {code} {error}");
    }
    runtime.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn publishing_says_which_lines_did_not_make_it() {
    let runtime = Runtime::start("").await;
    let post = async |body: &str| -> (u16, Value) {
        let (status, body) = runtime.post("/api/topics/t/events", body).await;
        (status, serde_json::from_str(&body).unwrap())
    };
    let (status, answer) = post("{\"payload\":\"1\"}\n\nno json\n{\"payload\":null}").await;
    assert_eq!(status, 207);
    assert_eq!((&answer["published"], &answer["errors"][0]["index"]), (&json!(2), &json!(2)));
    let events = runtime.events("t").await;
    assert_eq!(
        events.iter().map(|e| e.payload.as_deref()).collect::<Vec<_>>(),
        [Some(&b"1"[..]), None]
    );

    let (status, answer) = post("{}\n").await;
    assert_eq!((status, &answer["published"]), (400, &json!(0)));
    assert!(answer["error"].as_str().unwrap().starts_with("line 1: missing field `payload`"));

    let (status, answer) = post(&"x\n".repeat(200)).await;
    assert_eq!((status, answer["errors"].as_array().unwrap().len()), (400, 100));

    let large = format!("{{\"payload\":\"{}\"}}", "x".repeat(10 << 20));
    assert_eq!(post(&large).await.0, 200);
    let (status, answer) = post(&"x".repeat((16 << 20) + 1)).await;
    assert_eq!(status, 400);
    assert!(answer["error"].as_str().unwrap().contains("longer than"), "{answer}");
    assert_eq!(runtime.events("t").await.len(), 3);
    runtime.stop().await;
}

#[test]
fn a_broker_that_is_away_is_named_and_hides_nothing_else() {
    let threads = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    threads.block_on(without_kafka());
    // the client's threads wait for the broker some time longer
    threads.shutdown_background();
}

async fn without_kafka() {
    // port 9 is "discard": nobody listens
    let config = "default-connection = \"log\"\n[connections.log]\ntype = \"log\"\n\
                  [connections.kafka]\ntype = \"kafka\"\nbrokers = \"127.0.0.1:9\"\n";
    let runtime = Runtime::start(config).await;
    runtime.copy("relay.wasm", Guest::new("1").build());
    runtime.copy("away.toml", "connection = \"kafka\"\n");
    runtime.copy("away.wasm", Guest::new("1").build());
    let (status, _) = runtime.status("away", "waiting", |s| s.state == State::Waiting).await;
    assert!(status.reason.is_some());
    runtime.publish(&[Outgoing::new("in", "x")]).await;
    runtime.events_of("out", 1).await;
    let (code, ready) = json_of(&runtime, "/readyz").await;
    assert_eq!(code, 503);
    assert!(ready["waiting_for"][0].as_str().unwrap().starts_with("connection `kafka`"), "{ready}");
    let (_, topics) = json_of(&runtime, "/api/topics").await;
    assert_eq!(topics["unavailable"][0]["connection"], "kafka");
    let names: Vec<_> = topics["topics"].as_array().unwrap().iter().map(|t| &t["name"]).collect();
    assert_eq!(names, ["in", "out", "relay.dlq", "sandbar-inbox.sandbar.relay"]);
    runtime.stop().await;
}
