//! Dead letters on their way back, through the admin API.

use std::collections::BTreeMap;

use sandbar::supervisor::State;
use sandbar_core::{Event, Outgoing};
use serde_json::{Value, json};

use crate::support::{Runtime, guest::Guest, record, text, until};

const REDRIVE: &str = "/api/dead-letters/relay.dlq/redrive";

/// `relay`, which may publish to `out` or not. Without that, every event is a dead letter.
async fn relay(runtime: &Runtime, may_publish: bool) {
    let reloads = runtime.plugin("relay").map(|p| p.status().reloads);
    let publish = if may_publish { "out" } else { "elsewhere" };
    runtime.rename("relay.toml", format!("publish = [\"{publish}\"]\n"));
    match reloads {
        None => runtime.copy("relay.wasm", Guest::new("1.2.3").build()),
        Some(before) => drop(runtime.status("relay", "reloaded", |s| s.reloads > before).await),
    }
    runtime.status("relay", "running", |s| s.state == State::Running).await;
}

fn payloads(events: &[Event]) -> Vec<&str> {
    events.iter().map(|e| text(&e.payload)).collect()
}

/// Starts a redrive of everything and waits for its end.
async fn redrive(runtime: &Runtime, request: Value) -> Value {
    let (status, begun) = runtime.call("POST", REDRIVE, &request).await;
    assert_eq!(status, 202, "{begun}");
    let job = begun["job"].as_str().unwrap().to_owned();
    until("the redrive has ended", async || {
        let (_, body) = runtime.get(&format!("{REDRIVE}/{job}")).await;
        let job: Value = serde_json::from_str(&body).unwrap();
        (job["state"] != "running").then_some(job)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d3_a_redriven_event_reaches_the_subscription_that_failed_and_no_other() {
    let runtime = Runtime::start("").await;
    relay(&runtime, false).await;
    runtime.copy("twin.wasm", Guest::new("2").to("out-twin").build());
    // a glob is not to match what only one group may handle
    runtime.copy("nosy.toml", "topics = [\"sandbar-*\"]\n");
    runtime.copy("nosy.wasm", Guest::new("3").to("out-nosy").build());
    runtime.status("nosy", "running", |s| s.state == State::Running).await;
    runtime.publish(&[record("a", "one"), record("b", "two"), record("a", "three")]).await;
    runtime.events_of("relay.dlq", 3).await;
    runtime.events_of("out-twin", 3).await;

    relay(&runtime, true).await;
    let job = redrive(&runtime, json!({})).await;
    assert_eq!((&job["state"], &job["progress"]["sent"]), (&json!("done"), &json!(3)), "{job}");
    let target = json!({
        "connection": "log", "inbox": "sandbar-inbox.sandbar.relay", "plugin": "relay",
        "known": true, "letters": 3,
    });
    assert_eq!(job["progress"]["targets"], json!([target]));
    let out = runtime.events_of("out", 3).await;
    let mut by_key: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for event in &out {
        by_key.entry(text(&event.key)).or_default().push(text(&event.payload));
    }
    assert_eq!(by_key, [("a", vec!["one", "three"]), ("b", vec!["two"])].into());

    // who comes after all of them has seen everything that was to be seen
    runtime.publish(&[record("c", "last")]).await;
    assert_eq!(runtime.events_of("out", 4).await.len(), 4);
    let twin = runtime.events_of("out-twin", 4).await;
    let mut twin = payloads(&twin);
    twin.sort_unstable();
    assert_eq!(twin, ["last", "one", "three", "two"], "each once");
    assert_eq!(runtime.events("in").await.len(), 4);
    assert_eq!(runtime.plugin("nosy").unwrap().counts().received, 0);
    runtime.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d5_an_event_that_fails_again_and_again_is_quarantined() {
    let runtime = Runtime::start("[defaults]\ndead-letter.max-redrives = 2\n").await;
    relay(&runtime, false).await;
    runtime.publish(&[record("a", "one")]).await;
    for round in 0..2 {
        runtime.events_of("relay.dlq", round + 1).await;
        assert_eq!(redrive(&runtime, json!({})).await["progress"]["sent"], 1);
    }
    let letters = runtime.events_of("relay.dlq", 3).await;
    assert_eq!(payloads(&letters), ["one", "one", "one"]);
    let job = redrive(&runtime, json!({})).await;
    let progress = &job["progress"];
    assert_eq!((&progress["sent"], &progress["quarantined"]), (&json!(0), &json!(1)), "{job}");
    let (_, list) = runtime.get("/api/dead-letters?plugin=relay").await;
    let list: Value = serde_json::from_str(&list).unwrap();
    let group = &list["groups"][0];
    assert_eq!((&group["count"], &group["quarantined"]), (&json!(3), &json!(1)), "{list}");
    let redrives: Vec<_> =
        list["letters"].as_array().unwrap().iter().map(|l| &l["letter"]["redrives"]).collect();
    assert_eq!(redrives, [&json!(0), &json!(1), &json!(2)]);
    runtime.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d4_a_job_can_be_watched_and_stopped_and_goes_on() {
    let runtime = Runtime::start("").await;
    relay(&runtime, false).await;
    let records: Vec<_> = (0..5).map(|n| record("a", n.to_string())).collect();
    runtime.publish(&records).await;
    runtime.events_of("relay.dlq", 5).await;
    relay(&runtime, true).await;

    let slow = json!({ "filter": { "plugin": "relay" }, "rate": 1 });
    let (status, begun) = runtime.call("POST", REDRIVE, &slow).await;
    assert_eq!((status, &begun["cursor"]), (202, &json!("sandbar.relay.redrive.all")), "{begun}");
    let (status, twice) = runtime.call("POST", REDRIVE, &slow).await;
    assert_eq!(status, 409, "{twice}");
    assert!(twice["error"].as_str().unwrap().contains("is running already"), "{twice}");
    until("one is sent", async || {
        let (_, body) = runtime.get(&format!("{REDRIVE}/all")).await;
        let job: Value = serde_json::from_str(&body).unwrap();
        (job["progress"]["sent"] == 1).then_some(())
    })
    .await;
    let (status, stopped) = runtime.call("DELETE", &format!("{REDRIVE}/all"), &json!({})).await;
    assert_eq!((status, &stopped["state"]), (200, &json!("stopped")), "{stopped}");
    let sent = stopped["progress"]["sent"].as_u64().unwrap();
    assert_eq!(stopped["progress"]["left"], 5 - sent);

    // a filter by plugin is the same job as its name says
    let rest = redrive(&runtime, json!({ "filter": { "plugin": "relay" } })).await;
    assert_eq!((&rest["state"], &rest["progress"]["sent"]), (&json!("done"), &json!(5 - sent)));
    assert_eq!(payloads(&runtime.events_of("out", 5).await), ["0", "1", "2", "3", "4"]);
    let (_, jobs) = runtime.get(REDRIVE).await;
    let jobs: Value = serde_json::from_str(&jobs).unwrap();
    assert_eq!(jobs["redrives"].as_array().unwrap().len(), 1);
    // one that runs does not hold up the end
    let again = json!({ "rate": 1, "restart": true, "job": "again" });
    assert_eq!(runtime.call("POST", REDRIVE, &again).await.0, 202);
    runtime.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_letters_are_shown_edited_and_purged() {
    let runtime = Runtime::start("").await;
    relay(&runtime, false).await;
    runtime.publish(&[record("a", "bad"), record("a", "worse")]).await;
    runtime.events_of("relay.dlq", 2).await;
    relay(&runtime, true).await;
    let letter = "/api/dead-letters/relay.dlq/0/0";
    let (status, shown) = runtime.call("GET", letter, &json!({})).await;
    assert_eq!((status, &shown["event"]["payload"]), (200, &json!("bad")), "{shown}");
    assert_eq!(shown["error_class"], "denied");

    let edit = json!({ "payload": "good", "set_headers": [["by", "hand"]] });
    let (status, edited) = runtime.call("POST", &format!("{letter}/edit"), &edit).await;
    assert_eq!((status, &edited["event"]), (200, &json!("in/0/0")), "{edited}");
    let out = runtime.events_of("out", 1).await;
    assert_eq!((payloads(&out), text(&out[0].key)), (vec!["good"], "a"));

    let purge = "/api/dead-letters/relay.dlq/purge";
    let (_, dry) = runtime.call("POST", purge, &json!({ "all": true, "dry_run": true })).await;
    let cut = json!([{ "partition": 0, "first": 0, "before": 2, "end": 2 }]);
    assert_eq!(dry["partitions"], cut);
    assert_eq!(runtime.events("relay.dlq").await.len(), 2);
    let (status, _) = runtime.call("POST", purge, &json!({ "before": 1 })).await;
    assert_eq!((status, payloads(&runtime.events("relay.dlq").await)), (200, vec!["worse"]));
    let (_, old) = runtime.call("POST", purge, &json!({ "older_than": "1h" })).await;
    assert_eq!(old["partitions"], json!([]));
    let (status, _) = runtime.call("POST", purge, &json!({ "older_than": "0s" })).await;
    assert_eq!((status, runtime.events("relay.dlq").await.len()), (200, 0));
    runtime.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_done_to_dead_letters_is_told() {
    let runtime = Runtime::start("").await;
    runtime.publish(&[Outgoing::new("relay.dlq", "put there by somebody")]).await;
    for (method, path, body, status, why) in [
        ("GET", "/api/dead-letters/relay.dlq/0/7", json!({}), 404, "no event at relay.dlq/0/7"),
        ("GET", "/api/dead-letters/relay.dlq/0/0", json!({}), 404, "no dead letter"),
        ("GET", "/api/dead-letters?class=x", json!({}), 400, "no error class `x`"),
        (
            "POST",
            "/api/dead-letters/relay.dlq/0/0/edit",
            json!({ "payload": "x" }),
            400,
            "no dead letter",
        ),
        ("POST", REDRIVE, json!({ "filter": { "where": "1 +" } }), 400, "line 1, column 4"),
        ("POST", REDRIVE, json!({ "job": "a b" }), 400, "no name of a job"),
        ("GET", "/api/dead-letters/relay.dlq/redrive/none", json!({}), 404, "no redrive `none`"),
        ("DELETE", "/api/dead-letters/relay.dlq/redrive/none", json!({}), 404, "no redrive `none`"),
        ("POST", "/api/dead-letters/relay.dlq/purge", json!({}), 400, "say how much"),
        ("POST", "/api/dead-letters/relay.dlq/purge", json!({ "before": 9 }), 400, "ends at 1"),
        ("POST", "/api/dead-letters/none.dlq/purge", json!({ "all": true }), 400, "none.dlq"),
        ("POST", "/api/plugins/relay/release", json!({ "all": true }), 404, "no plugin `relay`"),
    ] {
        let (code, answer) = runtime.call(method, path, &body).await;
        let error = answer["error"].as_str().unwrap_or_else(|| panic!("{path}: {answer}"));
        assert!(code == status && error.contains(why), "{method} {path}: {code} {error}");
    }
    // what is nobody's letter is passed over
    let job = redrive(&runtime, json!({})).await;
    let progress = &job["progress"];
    assert_eq!((&progress["foreign"], &progress["sent"]), (&json!(1), &json!(0)), "{job}");
    runtime.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn o4_a_released_key_goes_on() {
    let runtime = Runtime::start("").await;
    runtime.copy("relay.toml", "dead-letter.on-dead-letter = \"halt-key\"\n");
    runtime.copy("relay.wasm", Guest::new("1").build());
    runtime.status("relay", "running", |s| s.state == State::Running).await;
    runtime.publish(&[record("a", "!bad"), record("a", "behind"), record("b", "free")]).await;
    runtime.events_of("relay.dlq", 2).await;
    assert_eq!(payloads(&runtime.events_of("out", 1).await), ["free"]);

    let release = "/api/plugins/relay/release";
    let (status, none) = runtime.call("POST", release, &json!({ "key": "c" })).await;
    assert_eq!((status, &none["released"]), (200, &json!([])), "{none}");
    let (status, released) = runtime.call("POST", release, &json!({ "key": "a" })).await;
    let halted = json!([{ "topic": "in", "partition": 0, "position": 0, "key": "a" }]);
    assert_eq!((status, &released["released"]), (200, &halted), "{released}");
    // the note is followed, so the plugin learns of it soon
    until("the key goes on", async || {
        runtime.publish(&[record("a", "new")]).await;
        runtime.events("out").await.iter().any(|e| text(&e.payload) == "new").then_some(())
    })
    .await;
    runtime.stop().await;
}
