//! The plugins folder of a running runtime: add, replace and remove, under load
//! and with changed settings (contract H1, H2).

use std::{
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};

use crate::support::{LIMIT, Runtime, Spy, guest::Guest, record, text, until, version};
use sandbar::supervisor::State;
use sandbar_core::Outgoing;

/// Issue's bound for a change to be visible; asserted generously, printed exactly.
const VISIBLE: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn add_replace_and_remove_are_visible_soon() {
    let runtime = Runtime::start("").await;
    let running = |version: &'static str| {
        move |s: &sandbar::supervisor::Status| {
            s.state == State::Running && s.version.as_ref().is_some_and(|v| v.version == version)
        }
    };

    runtime.copy("relay.wasm", Guest::new("1").build());
    let (_, added) = runtime.status("relay", "added", running("1")).await;

    runtime.rename("relay.wasm", Guest::new("2").build());
    let (_, renamed) = runtime.status("relay", "replaced by rename", running("2")).await;

    runtime.copy("relay.wasm", Guest::new("3").build());
    let (status, overwritten) = runtime.status("relay", "overwritten", running("3")).await;
    assert_eq!((status.reloads, status.restarts, status.refusals), (2, 0, 0));

    runtime.copy("relay.toml", "config = { a = \"1\" }\n");
    let (status, settings) = runtime.status("relay", "reloaded", |s| s.reloads == 3).await;
    assert_eq!(status.restarts, 0, "what only the sandbox sees needs no new subscription");

    runtime.remove("relay.wasm");
    let begun = Instant::now();
    until("it is gone", async || runtime.plugin("relay").is_none().then_some(())).await;
    let removed = begun.elapsed();

    println!(
        "visible after: add {added:?}, rename {renamed:?}, overwrite {overwritten:?}, \
         settings {settings:?}, remove {removed:?}"
    );
    for took in [added, renamed, overwritten, settings, removed] {
        assert!(took < VISIBLE, "{took:?}");
    }
    runtime.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_reloads_under_load_lose_repeat_and_reorder_nothing() {
    const RELOADS: u64 = 100;
    const KEYS: usize = 40;
    let runtime = Runtime::start("").await;
    runtime.copy("relay.wasm", Guest::new("0").build());
    runtime.status("relay", "running", |s| s.state == State::Running).await;

    // published for as long as there are reloads to come
    let (log, reloading) = (runtime.log().clone(), tokio_util::sync::CancellationToken::new());
    let load = tokio::spawn({
        let reloading = reloading.clone();
        async move {
            let mut round = 0_usize;
            while !reloading.is_cancelled() {
                let records: Vec<_> =
                    (0..KEYS).map(|k| record(&format!("key-{k}"), round.to_string())).collect();
                log.sink().publish(&records).await.into_iter().for_each(|r| r.unwrap());
                round += 1;
            }
            round
        }
    });
    for reload in 1..=RELOADS {
        let next = Guest::new(&reload.to_string()).build();
        match reload % 3 {
            0 => runtime.copy("relay.wasm", next),
            _ => runtime.rename("relay.wasm", next),
        }
        runtime.status("relay", "replaced", |s| s.reloads == reload).await;
    }
    reloading.cancel();
    let rounds = load.await.unwrap();

    let out = runtime.events_of("out", rounds * KEYS).await;
    let mut next: HashMap<&str, usize> = HashMap::new();
    for event in &out {
        let expected = next.entry(text(&event.key)).or_default();
        assert_eq!(text(&event.payload), expected.to_string(), "lost, repeated or out of order");
        *expected += 1;
    }
    assert_eq!(out.len(), rounds * KEYS);
    assert!(next.len() == KEYS && next.values().all(|n| *n == rounds));

    let versions: HashSet<_> = out.iter().map(version).collect();
    println!("{} events, handled by {} of {} versions", out.len(), versions.len(), RELOADS + 1);
    assert!(versions.len() as u64 > RELOADS / 2, "there was no load while reloading");
    let (status, _) = runtime.status("relay", "there", |_| true).await;
    assert_eq!((status.reloads, status.restarts, status.refusals), (RELOADS, 0, 0));
    let (_, summary) = runtime.stop().await;
    assert_eq!(summary.plugins[0].counts.handled as usize, rounds * KEYS);
    assert_eq!(summary.plugins[0].counts.retried, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h1_a_reload_does_not_touch_the_source() {
    let (spy, runtime) = Spy::runtime().await;
    runtime.copy("relay.wasm", Guest::new("1").build());
    runtime.status("relay", "running", |s| s.state == State::Running).await;
    for (reloads, version) in [(1, "2"), (2, "3")] {
        runtime.rename("relay.wasm", Guest::new(version).build());
        runtime.status("relay", "replaced", |s| s.reloads == reloads).await;
    }
    runtime.publish(&[record("k", "one")]).await;
    assert_eq!(version(&runtime.events_of("out", 1).await[0]), "3");
    assert_eq!((spy.subscribed(), spy.closed()), (1, 0));
    runtime.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h1_a_removed_plugin_that_is_put_back_resumes_its_cursor() {
    let (spy, runtime) = Spy::runtime().await;
    let plugin = Guest::new("1").build();
    runtime.copy("relay.wasm", &plugin);
    runtime.publish(&[record("k", "one")]).await;
    runtime.events_of("out", 1).await;
    runtime.remove("relay.wasm");
    until("the source is closed", async || (spy.closed() == 1).then_some(())).await;
    runtime.publish(&[record("k", "two")]).await;
    runtime.copy("relay.wasm", &plugin);
    let out = runtime.events_of("out", 2).await;
    assert_eq!(out.iter().map(|e| text(&e.payload)).collect::<Vec<_>>(), ["one", "two"]);
    assert_eq!(spy.groups(), ["sandbar.relay", "sandbar.relay"]);
    runtime.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h1_changed_topics_open_one_subscription_anew_with_the_same_group() {
    let (spy, runtime) = Spy::runtime().await;
    runtime.copy("relay.wasm", Guest::new("1").build());
    runtime.copy("other.wasm", Guest::new("1").to("other").build());
    for name in ["relay", "other"] {
        runtime.status(name, "running", |s| s.state == State::Running).await;
    }
    runtime.rename("relay.wasm", Guest::new("2").from("elsewhere").build());
    runtime.status("relay", "opened anew", |s| s.reloads == 1 && s.restarts == 1).await;
    runtime.publish(&[Outgoing::new("elsewhere", "here")]).await;
    assert_eq!(text(&runtime.events_of("out", 1).await[0].payload), "here");

    runtime.copy("relay.toml", "topics = [\"in\"]\n");
    runtime.status("relay", "opened anew", |s| s.restarts == 2).await;
    runtime.publish(&[record("k", "in again")]).await;
    assert_eq!(text(&runtime.events_of("out", 2).await[1].payload), "in again");

    let other = runtime.plugin("other").unwrap().status();
    assert_eq!((other.state, other.restarts), (State::Running, 0));
    assert_eq!(spy.groups().iter().filter(|g| *g == "sandbar.other").count(), 1);
    assert_eq!(spy.groups().iter().filter(|g| *g == "sandbar.relay").count(), 3);
    runtime.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h2_what_is_in_work_ends_on_the_old_version_and_the_next_runs_on_the_new() {
    let runtime = Runtime::start("").await;
    runtime.copy("relay.wasm", Guest::new("1").build());
    runtime.status("relay", "running", |s| s.state == State::Running).await;
    // one after the other: they share a key, and each takes its time
    let slow = |numbers: std::ops::Range<u64>| -> Vec<_> {
        numbers.map(|n| record("k", format!("?slow {n}"))).collect()
    };
    let mut sent = 20;
    runtime.publish(&slow(0..sent)).await;
    runtime.events_of("out", 1).await;
    runtime.rename("relay.wasm", Guest::new("2").build());
    // enough to do until the new version is there, however long that takes
    until("it is replaced", async || {
        let plugin = runtime.plugin("relay")?;
        if plugin.counts().handled + 10 > sent {
            runtime.publish(&slow(sent..sent + 20)).await;
            sent += 20;
        }
        (plugin.status().reloads == 1).then_some(())
    })
    .await;
    runtime.publish(&slow(sent..sent + 2)).await;
    sent += 2;
    let out = runtime.events_of("out", sent as usize).await;

    let payloads: Vec<_> = out.iter().map(|e| text(&e.payload).to_owned()).collect();
    let expected: Vec<_> = (0..sent).map(|n| format!("?slow {n}")).collect();
    assert_eq!(payloads, expected);
    let versions: Vec<_> = out.iter().map(version).collect();
    let swap = versions.iter().position(|v| *v == "2").expect("the new version took over");
    assert!(swap > 0, "the old version had begun");
    assert!(versions[swap..].iter().all(|v| *v == "2"), "the old one handles nothing after it");
    let counts = runtime.plugin("relay").unwrap().counts();
    assert_eq!((counts.retried, counts.released), (0, 0));
    runtime.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disabled_plugin_keeps_its_cursor_and_resumes() {
    let runtime = Runtime::start("").await;
    runtime.copy("relay.wasm", Guest::new("1").build());
    runtime.publish(&[record("k", "one")]).await;
    runtime.events_of("out", 1).await;
    runtime.copy("relay.toml", "enabled = false\n");
    runtime
        .status("relay", "disabled", |s| s.state == State::Disabled && s.version.is_none())
        .await;
    runtime.publish(&[record("k", "two")]).await;
    runtime.remove("relay.toml");
    let out = runtime.events_of("out", 2).await;
    assert_eq!(out.iter().map(|e| text(&e.payload)).collect::<Vec<_>>(), ["one", "two"]);
    runtime.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_halted_plugin_goes_on_when_it_is_replaced() {
    let runtime = Runtime::start("").await;
    runtime.copy("relay.toml", "dead-letter.on-exhausted = \"halt\"\n");
    runtime.copy("relay.wasm", Guest::new("1").build());
    runtime.publish(&[record("k", "!refuse me"), record("k", "fine")]).await;
    let (status, _) = runtime.status("relay", "halted", |s| s.state == State::Halted).await;
    assert!(status.reason.is_some());
    assert!(runtime.events("out").await.is_empty());

    runtime.copy("relay.toml", "dead-letter.on-exhausted = \"dead-letter\"\n");
    assert_eq!(text(&runtime.events_of("out", 1).await[0].payload), "fine");
    assert_eq!(text(&runtime.events_of("relay.dlq", 1).await[0].payload), "!refuse me");
    runtime.status("relay", "running", |s| s.state == State::Running).await;
    runtime.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscription_that_fails_is_opened_again() {
    let (spy, runtime) = Spy::runtime().await;
    spy.refuse(1);
    let begun = Instant::now();
    runtime.copy("relay.wasm", Guest::new("1").build());
    let (status, _) = runtime.status("relay", "failed", |s| s.state == State::Failed).await;
    assert_eq!(status.reason.as_deref(), Some("refused by the test"));
    runtime.publish(&[record("k", "one")]).await;
    runtime.events_of("out", 1).await;
    assert!(begun.elapsed() < LIMIT);
    assert_eq!(spy.groups().len(), 2);
    runtime.stop().await;
}
