//! Plugins whose handler is asynchronous: many events at a time in one instance.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use sandbar_core::{Call, ErrorClass, Event, Handler, Header, Outcome, Verdict};
use sandbar_wasm::{
    Concurrent, Generation, Grant, HandlerKind, HandlerSlot, Isolation, LoadError, LoadSpec,
};
use tokio::time::{Instant, sleep, timeout};

use crate::{
    beside::harms_only_its_own_event,
    support::{Bench, again, call, component, fails, only, program, run},
};

pub fn with_clocks(spec: &mut LoadSpec) {
    spec.grants.insert(Grant::Clocks);
    spec.concurrency = 10;
    spec.limits.cpu_time = Duration::from_millis(200);
}

/// Outcomes of events that begin together.
async fn together<const N: usize>(plugin: &Generation, payloads: [&str; N]) -> [Outcome; N] {
    plugin.call(&payloads.map(call)).await.results.try_into().expect("one outcome per event")
}

#[tokio::test(start_paused = true)]
async fn program_async_waits() {
    let bench = Bench::new();
    let plugin = bench.load_with("async-waits", with_clocks).await;
    assert_eq!(plugin.description().unwrap().version, "1.0.0");
    assert_eq!(plugin.max_batch(), 1, "no event waits for another of its batch");
    let began = Instant::now();
    let waited = together(&plugin, ["5000"; 10]).await;
    assert_eq!(began.elapsed().as_secs(), 5, "all of them at once");
    let said: Vec<_> = waited.iter().map(only).collect();
    let expected: Vec<_> = (1..=10).map(|n| format!("10 at once, the {n}.")).collect();
    assert_eq!(said, expected, "in one instance");

    // no more than it may have at once
    assert!(together(&plugin, ["1000"; 15]).await.iter().all(Result::is_ok));
    assert_eq!(began.elapsed().as_secs(), 7);
    assert_eq!(bench.stats("async-waits").instances_created(), 1);

    // what came in goes out
    let mut event = call("0");
    event.event.key = Some(Bytes::from_static(&[0xff]));
    event.event.headers =
        [Header::new("h", "1"), Header { name: "null".into(), value: None }].into();
    event.event.attributes = [("type".into(), "t".into())].into();
    let returned = run(&plugin, event).await.unwrap().outputs.remove(0);
    assert_eq!(returned.key.as_deref(), Some(&[0xff][..]));
    assert_eq!(returned.headers, [Header::new("h", "1"), Header::new("null", "")]);
    assert_eq!(returned.attributes, [("type".into(), "t".into())]);
}

#[tokio::test(start_paused = true)]
async fn each_outcome_is_known_by_itself() {
    let bench = Bench::new();
    let plugin = bench.load_with("async-waits", with_clocks).await;
    let began = Instant::now();
    let slow = tokio::spawn({
        let plugin = Arc::clone(&plugin);
        async move { run(&plugin, call("5000")).await }
    });
    assert!(only(&run(&plugin, call("1000")).await).starts_with("2 at once"));
    assert_eq!(began.elapsed().as_secs(), 1);
    assert!(!slow.is_finished());
    assert!(only(&slow.await.unwrap()).starts_with("2 at once"));
}

#[tokio::test(start_paused = true)]
async fn instances_are_replaced_and_can_be_one_per_event() {
    let bench = Bench::new();
    let short = |spec: &mut LoadSpec| {
        with_clocks(spec);
        spec.limits.instance_events = 3;
    };
    let plugin = bench.load_with("async-waits", short).await;
    for n in ["1", "2", "3", "1"] {
        let said = only(&run(&plugin, call("1")).await);
        assert_eq!(said, format!("1 at once, the {n}."));
    }
    assert_eq!(bench.stats("async-waits").instances_created(), 2);
    let apart = |spec: &mut LoadSpec| {
        with_clocks(spec);
        spec.isolation = Isolation::PerEvent;
    };
    let plugin = bench.load_with("async-waits", apart).await;
    for said in together(&plugin, ["1"; 3]).await {
        assert_eq!(only(&said), "1 at once, the 1.");
    }
}

#[tokio::test]
async fn s1_async_traps() {
    let (bench, error) = harms_only_its_own_event("async-traps", with_clocks).await;
    assert_eq!(error.class, ErrorClass::Trap);
    assert_eq!(bench.stats("async-traps").traps(), 2);
}

#[tokio::test]
async fn s1_async_loops() {
    // on a busy machine it may take long to get so much of a core
    let patient = |spec: &mut LoadSpec| {
        with_clocks(spec);
        spec.limits.wall_time = Duration::from_secs(100);
    };
    let (bench, error) = harms_only_its_own_event("async-loops", patient).await;
    assert_eq!(error.class, ErrorClass::CpuTime);
    insta::assert_snapshot!(error.message, @"used more than 200 ms of CPU time (limits.cpu-time)");
    assert_eq!(bench.stats("async-loops").limit_hits(ErrorClass::CpuTime), 2);
}

#[tokio::test]
async fn s2_async_hoards() {
    let (bench, error) = harms_only_its_own_event("async-hoards", with_clocks).await;
    assert_eq!(error.class, ErrorClass::Memory);
    assert!(error.message.ends_with("bytes of memory, more than 67108864 (limits.memory)"));
    assert_eq!(bench.stats("async-hoards").limit_hits(ErrorClass::Memory), 2);
}

/// The event that computes is known. Which one has trapped, or has taken too much of the memory
/// that all share, is found by calling each again alone.
#[tokio::test(start_paused = true)]
async fn s1_of_several_events_only_the_one_to_blame_fails() {
    let bench = Bench::new();
    let cases = [
        ("async-traps", ErrorClass::Trap, 3),
        ("async-hoards", ErrorClass::Memory, 3),
        ("async-loops", ErrorClass::CpuTime, 2),
    ];
    for (name, class, called_again) in cases {
        let plugin = bench.load_with(name, with_clocks).await;
        let [first, failed, last] = together(&plugin, ["well", "", "well"]).await;
        assert_eq!([first, last].map(|well| well.unwrap().outputs), [vec![], vec![]], "{name}");
        assert_eq!(failed.unwrap_err().class, class, "{name}");
        let stats = bench.stats(name);
        assert_eq!(stats.traps() + stats.limit_hits(class), 1, "{name} is counted once");
        assert_eq!(stats.instances_created(), 1 + called_again, "{name}");
    }
}

/// The instance ends with the event, since nothing else ends the event; another that is in it
/// by then is handled all the same.
#[tokio::test(start_paused = true)]
async fn s2_async_never_returns() {
    let bench = Bench::new();
    let plugin = bench.load_with("async-never-returns", with_clocks).await;
    let began = Instant::now();
    let late = tokio::spawn({
        let plugin = Arc::clone(&plugin);
        async move { fails(&plugin, "").await }
    });
    assert_eq!(run(&plugin, call("well")).await.unwrap().outputs, []);
    sleep(Duration::from_millis(9_997)).await;
    assert_eq!(run(&plugin, call("well")).await.unwrap().outputs, []);
    assert!(began.elapsed() > Duration::from_secs(10), "it was in there at the end");
    let error = late.await.unwrap();
    assert_eq!(
        (error.class, error.verdict),
        (ErrorClass::Deadline, Verdict::Retry { after: None })
    );
    insta::assert_snapshot!(error.message, @"took longer than 10 s (limits.wall-time)");
    let stats = bench.stats("async-never-returns");
    assert_eq!(stats.limit_hits(ErrorClass::Deadline), 1);
    assert_eq!(stats.instances_created(), 2, "the second one is the other event's own");
    assert_eq!(run(&plugin, again("")).await.unwrap().outputs, []);
}

/// An attempt that nobody waits for any more may be made again elsewhere: nothing of it goes on.
#[tokio::test(start_paused = true)]
async fn o1_an_attempt_that_is_given_up_leaves_nothing_running() {
    let bench = Bench::new();
    let plugin = bench.load_with("async-waits", with_clocks).await;
    let other = tokio::spawn({
        let plugin = Arc::clone(&plugin);
        async move { run(&plugin, call("5000")).await }
    });
    timeout(Duration::from_secs(1), run(&plugin, call("5000"))).await.unwrap_err();
    assert_eq!(only(&other.await.unwrap()), "1 at once, the 1.", "it was handled anew, alone");
    assert_eq!(bench.stats("async-waits").instances_created(), 2);
}

#[tokio::test(start_paused = true)]
async fn h2_events_in_flight_finish_in_the_instance_that_they_began_in() {
    let bench = Bench::new();
    let slot = Arc::new(HandlerSlot::new(bench.load_with("async-waits", with_clocks).await));
    let in_flight = tokio::spawn({
        let slot = Arc::clone(&slot);
        async move { slot.handle(&[&call("5000")]).await }
    });
    sleep(Duration::from_secs(1)).await;
    drop(slot.swap(bench.load_with("async-waits", with_clocks).await));
    let next = slot.handle(&[&call("1")]).await;
    assert_eq!(only(&next.results[0]), "1 at once, the 1.");
    assert!(!in_flight.is_finished());
    assert_eq!(only(&in_flight.await.unwrap().results[0]), "1 at once, the 1.");
    while bench.stats("async-waits").instances() > 1 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn program_wasmcloud_messaging_async() {
    let bench = Bench::new();
    let plugin = bench.load_with("wasmcloud-messaging-async", with_clocks).await;
    let mut event = call("text");
    event.event.headers = [Header::new("reply-to", "answers")].into();
    let returned = run(&plugin, event).await.unwrap().outputs.remove(0);
    assert_eq!((&*returned.topic, returned.payload), ("in.out", Some(Bytes::from("TEXT"))));
    assert_eq!(returned.headers, [Header::new("reply-to", "answers")]);

    let said = async |payload: &str| {
        let error = fails(&plugin, payload).await;
        (error.verdict, error.code, error.message)
    };
    let retry = Verdict::Retry { after: None };
    let expect = |verdict, code: &str, message: &str| (verdict, code.into(), message.into());
    let rejected = expect(Verdict::Reject, "other", "it cannot be done");
    assert_eq!(said("fail").await, rejected, "as its WIT has it");
    assert_eq!(said("retry").await, expect(retry, "handler", "the plugin says: retry"));
    assert_eq!(said("reject").await, expect(Verdict::Reject, "reject", "the plugin says: reject"));
    assert!(said("ask").await.2.starts_with("request/reply is not offered"));

    // each publishes on its own account, side by side
    let payloads = ["a", "fail", "b", "c"];
    let [a, failed, b, c] = together(&plugin, payloads).await;
    assert_eq!([a, b, c].map(|outcome| only(&outcome)), ["A", "B", "C"]);
    assert_eq!(failed.unwrap_err().verdict, Verdict::Reject);
    let large = "x".repeat(1 << 20);
    assert_eq!(only(&run(&plugin, call(&large)).await), large.to_ascii_uppercase());
    let tombstone = Call { event: Event { payload: None, ..call("").event }, attempt: 1 };
    assert_eq!(only(&run(&plugin, tombstone).await), "", "a tombstone has no body");
    assert_eq!(bench.stats("wasmcloud-messaging-async").instances_created(), 1);
}

/// Who publishes too much is known, and does not harm the others.
#[tokio::test]
async fn s2_what_events_publish_side_by_side_counts_for_each() {
    let bench = Bench::new();
    let plugin = bench.load_with("wasmcloud-messaging-async", with_clocks).await;
    let [a, flood, b, hoard] = together(&plugin, ["a", "flood", "b", "hoard"]).await;
    assert_eq!([a, b].map(|outcome| only(&outcome)), ["A", "B"]);
    let flood = flood.unwrap_err().to_string();
    assert_eq!(flood, "output: returned 1001 events, more than 1000 (limits.output-records)");
    let hoard = hoard.unwrap_err();
    assert_eq!(hoard.class, ErrorClass::Output, "{hoard}");
}

#[tokio::test]
async fn s3_what_belongs_to_one_event_is_not_linked() {
    let bench = Bench::new();
    let imports = r#"(component (import "sandbar:events/context@0.1.1" (instance))
        (component $c) (instance $i (instantiate $c))
        (export "sandbar:events-async/handler@0.1.0" (instance $i)))"#;
    let error = bench.refused(component(imports)).await;
    insta::assert_snapshot!(error, @"imports sandbar:events/context@0.1.1, which is not offered to a plugin that handles many events at a time, because it would not be certain for which of them it does what: build it without, or export sandbar:events/handler@0.1.1 instead");
    let error = bench.refused(program("async-waits")).await;
    insta::assert_snapshot!(error, @r#"not granted: wasi:clocks/monotonic-clock@0.3.0 (needs "clocks"); to allow it write `grants = ["clocks"]` in p.toml"#);
    let newer = imports.replace("(import \"sandbar:events/context@0.1.1\" (instance))", "");
    let newer = newer.replace("handler@0.1.0", "handler@0.2.0");
    let error = bench.refused(component(&newer)).await;
    insta::assert_snapshot!(error, @"built for sandbar:events-async 0.2, this host serves 0.1 (seen at sandbar:events-async/handler@0.2.0): rebuild the plugin or upgrade the host");
    let error = bench.refused(component(&newer.replace("@0.2.0", "@0.1.0"))).await;
    assert!(matches!(error, LoadError::Incompatible { .. }), "{error}");
}

#[tokio::test]
async fn inspection_says_that_a_plugin_takes_many_events_at_a_time() {
    let bench = Bench::new();
    let inspection = bench.host.inspect(program("async-waits")).await.unwrap();
    assert_eq!(inspection.api, "sandbar:events-async 0.1");
    assert_eq!(inspection.world(), "sandbar:events-async/event-plugin@0.1.0");
    assert_eq!(inspection.handler, HandlerKind::Concurrent(Concurrent::Events));
    assert_eq!(serde_json::to_value(inspection.handler).unwrap(), "async");
    assert_eq!(inspection.grants, [Grant::Clocks].into());
    let name = "wasmcloud-messaging-async";
    let inspection = bench.host.inspect(program(name)).await.unwrap();
    assert_eq!(inspection.api, "wasmcloud:messaging 0.3.0");
    assert_eq!(inspection.world(), "wasmcloud:messaging/handler@0.3.0");
    assert_eq!(serde_json::to_value(inspection.handler).unwrap(), name);
}
