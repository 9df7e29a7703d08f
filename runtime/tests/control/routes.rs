//! Routes: events that pass from one connection to another without a plugin.

use std::sync::Arc;

use sandbar::supervisor::State;
use sandbar_core::{Outgoing, cloudevents};
use serde_json::{Value, json};

use crate::support::{Runtime, guest::Guest};

const CONFIG: &str = r#"
default-connection = "there"
[connections.here]
type = "log"
[connections.there]
type = "log"
[[route]]
name = "orders"
from = { connection = "here", topics = ["orders"] }
to = { topic = "eu.{topic}" }
"#;

async fn publish(runtime: &Runtime, records: &[Outgoing]) {
    let sink = runtime.connections.get("here").unwrap().sink();
    sink.publish(records).await.into_iter().for_each(|result| result.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn o1_a_route_passes_events_on_whole_in_order_and_goes_on_after_a_restart() {
    let runtime = Runtime::start(CONFIG).await;
    runtime.status("route.orders", "running", |s| s.state == State::Running).await;
    let envelope = Outgoing::new("orders", "no envelope")
        .with_header("content-type", "application/cloudevents+json");
    let mut attributed = Outgoing::new("orders", "1").with_key("k").with_header("x", "y");
    attributed.attributes = vec![("id".into(), "7".into())];
    let plain = |n: u32| Outgoing::new("orders", n.to_string()).with_key((n % 7).to_string());
    let records: Vec<_> = [attributed, envelope].into_iter().chain((2..500).map(plain)).collect();
    publish(&runtime, &records).await;
    let arrived = runtime.events_of("eu.orders", records.len()).await;
    assert_eq!(arrived.len(), records.len());
    for key in 0..7 {
        let of_key =
            |e: &&sandbar_core::Event| e.key.as_deref() == Some(key.to_string().as_bytes());
        let numbers: Vec<u32> = arrived
            .iter()
            .filter(of_key)
            .map(|e| std::str::from_utf8(e.payload.as_ref().unwrap()).unwrap().parse().unwrap())
            .collect();
        assert!(numbers.len() > 70 && numbers.is_sorted(), "{key}: {numbers:?}");
    }
    let first = arrived.iter().find(|e| e.key.as_deref() == Some(b"k")).unwrap();
    assert_eq!(first.attribute("id"), Some("7"));
    assert_eq!(first.attribute("causationid"), None, "passed on, not caused");
    let others: Vec<_> = first.headers.iter().filter(|h| !cloudevents::is_attribute(h)).collect();
    assert_eq!((&*others[0].name, &*others[1].name), ("x", "sandbar-timestamp-ms"));
    assert!(arrived.iter().any(|e| e.payload.as_deref() == Some(b"no envelope")), "not unpacked");

    let (folder, summary) = runtime.stop().await;
    assert_eq!(
        (&*summary.plugins[0].name, summary.plugins[0].counts.handled),
        ("route.orders", 500)
    );
    let runtime = Runtime::start_in(Arc::clone(&folder), CONFIG).await;
    publish(&runtime, &[Outgoing::new("orders", "last")]).await;
    let arrived = runtime.events_of("eu.orders", 501).await;
    assert_eq!(arrived.last().unwrap().payload.as_deref(), Some(&b"last"[..]));
    runtime.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_route_is_listed_and_no_plugin_can_have_its_name() {
    let runtime = Runtime::start(CONFIG).await;
    runtime.status("route.orders", "running", |s| s.state == State::Running).await;
    runtime.copy("route.orders.wasm", Guest::new("1.0.0").build());
    runtime.copy("relay.wasm", Guest::new("1.0.0").build());
    runtime.status("relay", "running", |s| s.state == State::Running).await;
    let (_, body) = runtime.get("/api/plugins").await;
    let plugins: Value = serde_json::from_str(&body).unwrap();
    let listed: Vec<_> =
        plugins["plugins"].as_array().unwrap().iter().map(|p| (&p["name"], &p["kind"])).collect();
    let routes = listed.iter().filter(|(name, _)| **name == json!("route.orders"));
    assert_eq!(routes.collect::<Vec<_>>(), [&(&json!("route.orders"), &json!("route"))]);
    assert!(listed.contains(&(&json!("relay"), &json!("plugin"))), "{listed:?}");
    let (_, body) = runtime.get("/metrics").await;
    assert!(body.contains("plugin=\"route.orders\""), "{body}");
    runtime.stop().await;
}
