//! Warm instances: what they are told, how long they live, and how many there are.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use sandbar_core::{ErrorClass, Header, Verdict};
use sandbar_wasm::{Grant, Isolation, LoadSpec};

use crate::PACKED;
use crate::support::{Bench, attributes, call, fails, only, run};

#[tokio::test]
async fn program_echo() {
    let bench = Bench::new();
    let echo = bench.load("echo").await;
    let mut call = call("x");
    call.event.key = Some(Bytes::from_static(&[0xff, 0]));
    call.event.headers = [
        Header::new("h", vec![0xfe]),
        Header { name: "null".into(), value: None },
        Header::new("h", ""),
    ]
    .into();
    call.event.attributes = [("id".into(), "1".into())].into();
    let returned = run(&echo, call.clone()).await.unwrap().outputs.remove(0);
    assert_eq!(&*returned.topic, "in.out");
    assert_eq!(returned.key, call.event.key);
    assert_eq!(returned.payload, call.event.payload);
    let headers: Vec<_> =
        returned.headers.iter().map(|h| (&*h.name, h.value.as_deref().unwrap())).collect();
    let expected: [(&str, &[u8]); 3] = [("h", &[0xfe]), ("null", &[]), ("h", &[])];
    assert_eq!(headers, expected);
    assert_eq!(returned.attributes, [("id".to_owned(), "1".to_owned())]);

    call.event.payload = None;
    let tombstone = run(&echo, call.clone()).await.unwrap().outputs.remove(0);
    assert_eq!(tombstone.payload, None, "a tombstone is no empty payload");
    call.event.payload = Some(Bytes::new());
    assert_eq!(run(&echo, call).await.unwrap().outputs[0].payload, Some(Bytes::new()));
}

#[tokio::test(start_paused = true)]
async fn program_facts() {
    let bench = Bench::new();
    let configure = |spec: &mut LoadSpec| {
        spec.connection = "kafka".into();
        spec.config = [("color".into(), "blue".into())].into();
    };
    let facts = bench.load_with("facts", configure).await;
    let by = facts.handled_by();
    assert_eq!((by.plugin.as_str(), by.version.as_str()), ("facts", "1.2.3"));
    insta::assert_json_snapshot!(facts.description(), @r#"
    {
      "name": "facts",
      "version": "1.2.3",
      "description": "for tests",
      "subscriptions": [
        {
          "connection": "log",
          "topics": [
            "in.*"
          ],
          "options": {
            "ordering": "none"
          }
        }
      ],
      "publishes": [],
      "config_schema": null,
      "annotations": {}
    }
    "#);
    let told = attributes(&run(&facts, call("")).await);
    let told: Vec<_> = told.iter().map(|(k, v)| format!("{k} = {v}")).collect();
    insta::assert_snapshot!(told.join("\n"), @"
    name = facts
    version = 1.2.3
    connection = kafka
    remaining-ms = 10000
    color = blue
    ");
}

#[tokio::test]
async fn r3_fails() {
    let bench = Bench::new();
    let plugin = bench.load("fails").await;
    let mut said = Vec::new();
    for payload in ["retry", "reject", "skip", "defer"] {
        let error = fails(&plugin, payload).await;
        assert_eq!(error.class, ErrorClass::Handler);
        said.push((error.verdict, error.code, error.message));
    }
    let after = Some(Duration::from_millis(1500));
    let expected = [
        (Verdict::Retry { after }, "handler", "not yet"),
        (Verdict::Reject, "bad-input", "cannot be read"),
        (Verdict::Skip, "handler", "not mine"),
        (
            Verdict::Defer { pause: Duration::from_secs(2) },
            "handler",
            "a dependency of the plugin is down",
        ),
    ];
    assert_eq!(said, expected.map(|(v, c, m)| (v, c.to_owned(), m.to_owned())));
    assert_eq!(bench.stats("fails").instances_created(), 1, "an error breaks no instance");
}

/// A trapped instance is never used again; the events around the trap lose nothing.
#[tokio::test]
async fn s1_counts() {
    let bench = Bench::new();
    let counts = bench.load("counts").await;
    let calls = ["a", "b", "trap", "c", "d"].map(call);
    let outcomes = counts.call(&calls).await.results;
    let count = |at: usize| only(&outcomes[at]);
    assert_eq!([count(0), count(1)], ["1", "2"]);
    assert_eq!(outcomes[2].as_ref().unwrap_err().class, ErrorClass::Trap);
    assert_eq!([count(3), count(4)], ["1", "2"], "a fresh instance counts from the start");
    let stats = bench.stats("counts");
    // the batch that was packed trapped once, too, before its events were called alone
    let made = if PACKED { 3 } else { 2 };
    assert_eq!((stats.instances_created(), stats.instances()), (made, 1));
}

#[tokio::test]
async fn isolation_says_for_how_many_events_an_instance_lives() {
    let bench = Bench::new();
    let (mut seen, mut loaded) = (Vec::new(), Vec::new());
    for isolation in [Isolation::Warm, Isolation::PerBatch, Isolation::PerEvent] {
        let counts = bench.load_with("counts", |spec| spec.isolation = isolation).await;
        assert_eq!(counts.isolation(), isolation);
        for _ in 0..2 {
            let outcomes = counts.call(&["a", "b"].map(call)).await.results;
            seen.extend(outcomes.iter().map(only));
        }
        loaded.push(counts);
    }
    assert_eq!(seen, ["1", "2", "3", "4", "1", "2", "1", "2", "1", "1", "1", "1"]);
    // the first instance of each was made when it was loaded
    assert_eq!(bench.stats("counts").instances_created(), 1 + 2 + 4);
    assert_eq!(bench.stats("counts").instances(), 1, "only a warm one is kept");
}

#[tokio::test]
async fn instances_are_replaced_after_so_many_events() {
    let bench = Bench::new();
    let counts = bench.load_with("counts", |spec| spec.limits.instance_events = 3).await;
    let mut seen = Vec::new();
    for _ in 0..7 {
        seen.push(only(&run(&counts, call("")).await));
    }
    assert_eq!(seen, ["1", "2", "3", "1", "2", "3", "1"]);
}

/// A slow leak is cured by a fresh instance before it becomes an error.
#[tokio::test]
async fn s2_grows() {
    let bench = Bench::new();
    let grows = bench.load_with("grows", |spec| spec.limits.memory = 16 << 20).await;
    for _ in 0..60 {
        run(&grows, call("")).await.unwrap();
    }
    let stats = bench.stats("grows");
    assert_eq!(stats.limit_hits(ErrorClass::Memory), 0);
    let made = stats.instances_created();
    assert!((4..=8).contains(&made), "{made} instances for 60 MiB in 16 MiB");
}

#[tokio::test(start_paused = true)]
async fn no_more_instances_than_concurrency_and_a_dropped_call_costs_its_own() {
    let bench = Bench::new();
    let configure = |spec: &mut LoadSpec| {
        spec.grants.insert(Grant::Clocks);
        spec.concurrency = 2;
        spec.config = [("ms".into(), "5000".into())].into();
    };
    let sleeps = bench.load_with("sleeps", configure).await;
    let began = tokio::time::Instant::now();
    let calls: Vec<_> = (0..4)
        .map(|_| {
            let sleeps = Arc::clone(&sleeps);
            tokio::spawn(async move { run(&sleeps, call("")).await })
        })
        .collect();
    for call in calls {
        call.await.unwrap().unwrap();
    }
    assert_eq!(began.elapsed().as_secs(), 10, "two at a time");
    let stats = bench.stats("sleeps");
    assert_eq!((stats.instances_created(), stats.instances()), (2, 2));

    let dropped = run(&sleeps, call(""));
    assert!(tokio::time::timeout(Duration::from_secs(1), dropped).await.is_err());
    assert_eq!(stats.instances(), 1, "nothing is known of an instance left in mid-call");
    run(&sleeps, call("")).await.unwrap();
    assert_eq!(stats.limit_hits(ErrorClass::Deadline), 0, "to be cancelled is no failure");
}

#[tokio::test]
async fn r4_a_full_host_is_told_apart_from_a_failing_plugin() {
    let bench = Bench::new();
    let mut held = Vec::new();
    let error = loop {
        match bench.host.load(crate::support::program("echo"), LoadSpec::new("p")).await {
            Ok(generation) => held.push(generation),
            Err(error) => break error,
        }
        assert!(held.len() <= 16, "sixteen instances are all there is room for");
    };
    insta::assert_snapshot!(error, @"cannot make an instance (host): maximum concurrent limit of 16 for component instances reached: raise `max-instances` in `[engine]`");
    assert_eq!(bench.stats("p").host_errors(), 1);
}

/// Without an instance no event is to blame: they all fail at once, and go well when
/// there is room again.
#[tokio::test]
async fn r4_a_plugin_left_without_an_instance_fails_by_the_host_and_recovers() {
    let bench = Bench::new();
    let counts = bench.load("counts").await;
    let echo = async || {
        let load = bench.host.load(crate::support::program("echo"), LoadSpec::new("echo"));
        load.await.ok()
    };
    let mut held = Vec::new();
    while let Some(generation) = echo().await {
        held.push(generation);
    }
    assert_eq!(fails(&counts, "trap").await.class, ErrorClass::Trap);
    held.push(echo().await.expect("the trapped instance left its place"));

    let outcomes = counts.call(&["a", "b", "c"].map(call)).await.results;
    let classes: Vec<_> = outcomes.into_iter().map(|o| o.unwrap_err().class).collect();
    assert_eq!(classes, [ErrorClass::Host; 3]);
    assert_eq!(bench.stats("counts").host_errors(), 1, "one failure, not one per event");
    held.clear();
    assert_eq!(only(&run(&counts, call("")).await), "1");
}
