//! The settings of the delivery contract, from the configuration to what comes of it.

use serde_json::{Value, json};

use crate::support::{Runtime, Spy, guest::Guest, record, text, until};
use sandbar::supervisor::State;
use sandbar_core::{Event, Outgoing};
use sandbar_pipeline::{Parcel, Reason};

/// A running relay with `settings` beside it.
async fn relay(config: &str, settings: &str) -> Runtime {
    let runtime = Runtime::start(config).await;
    runtime.copy("relay.toml", settings);
    runtime.copy("relay.wasm", Guest::new("1").build());
    runtime.status("relay", "running", |s| s.state == State::Running).await;
    runtime
}

/// The relay's only subscription, as the admin listener shows it.
async fn subscription(runtime: &Runtime) -> Value {
    let (_, plugin) = runtime.get("/api/plugins/relay").await;
    serde_json::from_str::<Value>(&plugin).unwrap()["subscriptions"][0].clone()
}

/// Waits until everything that was published is settled.
async fn settled(runtime: &Runtime) {
    until("all is settled", async || {
        let cursors = runtime.log().cursors("sandbar.relay").await.unwrap();
        let in_flight = runtime.plugin("relay")?.in_flight();
        // a group that has settled nothing yet has no cursor
        let begun = cursors.iter().any(|(id, ..)| &*id.topic == "in");
        (begun && in_flight == 0 && cursors.iter().all(|(_, from, end)| from == end)).then_some(())
    })
    .await;
}

async fn shows(runtime: &Runtime, line: &str) {
    until(line, async || runtime.get("/metrics").await.1.contains(line).then_some(())).await;
}

fn payloads(events: &[Event]) -> Vec<&str> {
    events.iter().map(|e| text(&e.payload)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e1_the_source_is_asked_for_exactly_once_where_the_plugin_is_to_have_it() {
    let (spy, runtime) = Spy::runtime().await;
    runtime.copy("relay.toml", "delivery = \"exactly-once\"\n");
    runtime.copy("relay.wasm", Guest::new("1").build());
    runtime.copy("other.wasm", Guest::new("1").from("elsewhere").build());
    runtime.publish(&[record("k", "one"), record("k", "two")]).await;
    assert_eq!(payloads(&runtime.events_of("out", 2).await), ["one", "two"]);
    runtime.status("other", "running", |s| s.state == State::Running).await;
    let asked = |group: &str| {
        let spec = spy.specs().into_iter().find(|spec| spec.group == group).unwrap();
        (spec.exactly_once, spec.topics)
    };
    let topics = |own: &str, inbox: &str| vec![own.to_owned(), inbox.to_owned()];
    assert_eq!(asked("sandbar.relay"), (true, topics("in", "sandbar-inbox.sandbar.relay")));
    assert_eq!(asked("sandbar.other"), (false, topics("elsewhere", "sandbar-inbox.sandbar.other")));
    assert_eq!(subscription(&runtime).await["delivery"], "exactly-once");

    // another delivery is another subscription, a better limit of redrives is not
    runtime.copy("relay.toml", "delivery = \"at-least-once\"\n");
    runtime.status("relay", "opened anew", |s| s.restarts == 1).await;
    runtime.copy("relay.toml", "dead-letter.max-redrives = 9\n");
    let (status, _) = runtime.status("relay", "reloaded", |s| s.reloads == 2).await;
    assert_eq!(status.restarts, 1);
    assert!(!spy.specs().last().unwrap().exactly_once);
    runtime.stop().await;
}

/// A CloudEvent that tells its own identity.
fn identified(id: &str, payload: &str) -> Outgoing {
    let attributes = [("id", id), ("source", "/test"), ("type", "t"), ("specversion", "1.0")]
        .map(|(n, v)| (n.into(), v.into()));
    Outgoing { attributes: attributes.into(), ..record("k", payload) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i1_i3_an_event_that_comes_again_within_the_window_is_passed_over_and_counted() {
    let runtime = relay("", "dedup.window = \"1h\"\n").await;
    runtime.publish(&[identified("1", "one"), identified("2", "two")]).await;
    runtime.publish(&[identified("1", "one again"), record("k", "without identity")]).await;
    settled(&runtime).await;
    assert_eq!(payloads(&runtime.events("out").await), ["one", "two", "without identity"]);
    shows(&runtime, "sandbar_dedup_hits_total{plugin=\"relay\"} 1").await;
    assert_eq!(subscription(&runtime).await["dedup_window_ms"], 3_600_000);
    assert_eq!(runtime.plugin("relay").unwrap().counts().duplicates, 1);

    let (folder, _) = runtime.stop().await;
    let runtime = Runtime::start_in(folder, "").await;
    runtime.status("relay", "running", |s| s.state == State::Running).await;
    runtime.publish(&[identified("2", "two again"), record("k", "last")]).await;
    settled(&runtime).await;
    let out = runtime.events("out").await;
    assert_eq!(payloads(&out), ["one", "two", "without identity", "last"], "marks are durable");

    // without the setting nothing is known
    runtime.remove("relay.toml");
    runtime.status("relay", "opened anew", |s| s.restarts == 1).await;
    runtime.publish(&[identified("2", "two at last")]).await;
    assert_eq!(text(&runtime.events_of("out", 5).await[4].payload), "two at last");
    runtime.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r8_the_breaker_is_set_by_its_key_and_shown() {
    let breaker = "breaker = { failures = 2, pause = \"1h\", max-pause = \"1h\" }\n";
    let runtime =
        relay("", &format!("{breaker}retry.max-attempts = 9\nretry.initial-delay = \"1ms\"\n"))
            .await;
    assert_eq!(subscription(&runtime).await["breaker"], "closed");
    runtime.publish(&[record("k", "~traps")]).await;
    shows(&runtime, "sandbar_breaker_state{plugin=\"relay\",state=\"open\"} 1").await;
    assert_eq!(subscription(&runtime).await["breaker"], "open");
    // held back, whatever it is: nothing is tried before the pause is over
    runtime.publish(&[record("other", "fine")]).await;
    until("taken in", async || (runtime.plugin("relay")?.in_flight() == 2).then_some(())).await;
    assert_eq!(runtime.plugin("relay").unwrap().counts().retried, 2);
    assert!(runtime.events("out").await.is_empty() && runtime.events("relay.dlq").await.is_empty());
    runtime.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r5_retries_through_topics_are_refused_with_an_order() {
    let runtime = Runtime::start("").await;
    runtime.copy("relay.toml", "retry.through = \"topics\"\n");
    runtime.copy("relay.wasm", Guest::new("1").build());
    let (status, _) = runtime.status("relay", "refused", |s| s.state == State::Failed).await;
    let reason = status.reason.unwrap();
    assert!(
        reason.contains("relay.toml:1:17: plugin `relay`: `retry.through = \"topics\"` needs"),
        "{reason}"
    );
    assert!(reason.contains("overtaken by later ones of its key"), "{reason}");
    runtime.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r5_a_retry_that_is_long_enough_waits_in_a_topic_and_comes_back() {
    let config = "[connections.log]\ntype = \"log\"\nretry-tiers = [\"1s\", \"1h\"]\n";
    let settings = "ordering = \"none\"\n[retry]\nthrough = \"topics\"\nmax-attempts = 2\n\
                    initial-delay = \"1s\"\njitter = 0\n";
    let runtime = relay(config, settings).await;
    runtime.publish(&[record("k", "~traps")]).await;
    let letter = runtime.events_of("relay.dlq", 1).await.remove(0);
    assert_eq!(text(&letter.payload), "~traps");
    assert_eq!(runtime.events("sandbar-retry.sandbar.1000ms").await.len(), 1);
    shows(&runtime, "sandbar_events_delayed_total{plugin=\"relay\"} 1").await;
    let (_, letters) = runtime.get("/api/plugins/relay/dead-letters").await;
    let letters: Value = serde_json::from_str(&letters).unwrap();
    assert_eq!(letters["dead_letters"][0]["attempts"], 2, "{letters}");
    assert_eq!(letters["dead_letters"][0]["topic"], "in", "{letters}");
    shows(&runtime, "sandbar_courier_moved_total{connection=\"log\"} 1").await;
    runtime.stop().await;
}

/// The plugin that sent it there is gone for now, and so is the setting.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r5_what_waits_in_a_topic_is_brought_back_after_a_restart_without_the_setting() {
    let config = "[connections.log]\ntype = \"log\"\nretry-tiers = [\"1s\"]\n";
    let settings = "ordering = \"none\"\n[retry]\nthrough = \"topics\"\nmax-attempts = 2\n\
                    initial-delay = \"2s\"\njitter = 0\n";
    let runtime = relay(config, settings).await;
    runtime.publish(&[record("k", "~traps")]).await;
    runtime.events_of("sandbar-retry.sandbar.1000ms", 1).await;
    runtime.remove("relay.wasm");
    runtime.remove("relay.toml");
    until("it is gone", async || runtime.plugin("relay").is_none().then_some(())).await;
    let (folder, _) = runtime.stop().await;

    let runtime = Runtime::start_in(folder, config).await;
    runtime.events_of("sandbar-inbox.sandbar.relay", 1).await;
    runtime.copy("relay.wasm", Guest::new("1").build());
    let letter = runtime.events_of("relay.dlq", 1).await.remove(0);
    assert_eq!(text(&letter.payload), "~traps");
    runtime.stop().await;
}

fn parcel(to: &str, payload: &str) -> Outgoing {
    let event = Event {
        topic: "in".into(),
        partition: 0,
        position: 7,
        key: Some("k".into()),
        payload: Some(payload.to_owned().into()),
        headers: [].into(),
        timestamp_ms: 1,
        attributes: [].into(),
    };
    let parcel = Parcel {
        to: to.into(),
        reason: Reason::Redrive,
        attempt: 1,
        redrives: 1,
        first_failed_ms: 1,
        began_ms: None,
        due_ms: 0,
        event,
    };
    parcel.record(sandbar_core::reserved::inbox(to))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d3_what_lies_in_an_inbox_is_handled_by_its_owner_alone() {
    let runtime = relay("", "").await;
    runtime.copy("twin.wasm", Guest::new("1").to("other").build());
    runtime.status("twin", "running", |s| s.state == State::Running).await;
    runtime.publish(&[record("k", "for both"), parcel("sandbar.relay", "for one")]).await;
    let mut out = runtime.events_of("out", 2).await;
    out.sort_by(|a, b| a.payload.cmp(&b.payload));
    assert_eq!(payloads(&out), ["for both", "for one"]);
    until("the twin is done", async || {
        let cursors = runtime.log().cursors("sandbar.twin").await.unwrap();
        cursors.iter().all(|(_, from, end)| from == end).then_some(())
    })
    .await;
    assert_eq!(payloads(&runtime.events_of("other", 1).await), ["for both"]);
    runtime.stop().await;
}

/// Where its start is `latest` and it has no cursor, what lies in the inbox is still its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d4_an_inbox_is_read_from_its_beginning() {
    let runtime = Runtime::start("").await;
    runtime.publish(&[record("k", "too early"), parcel("sandbar.relay", "sent before")]).await;
    runtime.copy("relay.toml", "start = \"latest\"\n");
    runtime.copy("relay.wasm", Guest::new("1").build());
    assert_eq!(payloads(&runtime.events_of("out", 1).await), ["sent before"]);
    runtime.publish(&[record("k", "in time")]).await;
    assert_eq!(payloads(&runtime.events_of("out", 2).await), ["sent before", "in time"]);
    runtime.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d3_a_plugin_runs_without_an_inbox_where_none_can_be_had() {
    let (spy, runtime) = Spy::forbidding("sandbar-inbox.").await;
    runtime.copy("relay.wasm", Guest::new("1").build());
    runtime.publish(&[record("k", "one")]).await;
    runtime.events_of("out", 1).await;
    assert_eq!(spy.specs()[0].topics, ["in"]);
    // retries through topics come back through it: then it is needed
    runtime.copy("relay.toml", "ordering = \"none\"\nretry.through = \"topics\"\n");
    let (status, _) = runtime.status("relay", "refused", |s| s.last_error.is_some()).await;
    assert_eq!(status.state, State::Degraded, "the old subscription serves on");
    assert_eq!(
        status.last_error.as_deref(),
        Some("sandbar-inbox.sandbar.relay may not be created")
    );
    runtime.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn o4_a_dead_letter_halts_its_key_where_the_plugin_is_told_so() {
    let runtime = relay("", "dead-letter.on-dead-letter = \"halt-key\"\n").await;
    runtime.publish(&[record("a", "!refuse"), record("a", "behind it"), record("b", "fine")]).await;
    let letters = runtime.events_of("relay.dlq", 2).await;
    assert_eq!(payloads(&letters), ["!refuse", "behind it"]);
    assert_eq!(payloads(&runtime.events_of("out", 1).await), ["fine"]);
    let by = letters[1].header("sandbar-dlq-blocked-by").unwrap();
    assert_eq!(text(&by.value), "in/0/0");
    shows(&runtime, "sandbar_halted_keys{plugin=\"relay\"} 1").await;
    assert_eq!(subscription(&runtime).await["halted_keys"], json!(1));

    let (folder, _) = runtime.stop().await;
    let runtime = Runtime::start_in(folder, "").await;
    runtime.publish(&[record("a", "after a restart"), record("b", "fine, too")]).await;
    assert_eq!(payloads(&runtime.events_of("out", 2).await), ["fine", "fine, too"]);
    assert_eq!(runtime.events_of("relay.dlq", 3).await.len(), 3, "it is still halted");
    runtime.stop().await;
}

/// Where an operator chooses the delivery, and where the promises are listed.
#[test]
fn e3_what_exactly_once_leaves_out_is_said_where_it_is_chosen_and_promised() {
    let flat =
        |text: &str| text.split_whitespace().filter(|w| *w != "#").collect::<Vec<_>>().join(" ");
    let settings = flat(include_str!("../../src/commands/init.toml"));
    assert!(settings.contains("Calls to other systems may still repeat."));
    let guarantees = flat(include_str!("../../../docs/guarantees.md"));
    let (_, outside) = guarantees.split_once("## Not guaranteed").expect("a section of its own");
    assert!(outside.contains("**Calls to other systems** from a handler"));
}
