//! Components that were built for other hosts, against their public WIT, run unchanged.

use std::sync::Arc;

use bytes::Bytes;
use sandbar_core::{Call, ErrorClass, Header, Verdict};
use sandbar_wasm::{ForeignError, Generation, HandlerKind, OnError};

use crate::support::{Bench, again, call, fails, only, program, run};

const RETRY: Verdict = Verdict::Retry { after: None };

#[tokio::test]
async fn program_wasi_messaging() {
    let bench = Bench::new();
    let plugin = bench.load("wasi-messaging").await;
    assert_eq!(plugin.max_batch(), 1, "nothing is known of how long it takes");
    let mut event = call("some text");
    event.event.key = Some("k".into());
    let returned = run(&plugin, event).await.unwrap().outputs.remove(0);
    assert_eq!((&*returned.topic, returned.key), ("in.out", Some(Bytes::from("k"))));
    assert_eq!(returned.payload, Some(Bytes::from("SOME TEXT")));
    let headers = [("x", "3"), ("content-type", "text/plain")].map(|(n, v)| Header::new(n, v));
    assert_eq!(returned.headers, headers);

    // key, bytes, headers and attributes survive the way through the component
    let mut event = call("pass on");
    event.event.key = Some(Bytes::from_static(&[0xff]));
    event.event.headers = [Header::new("h", "1")].into();
    event.event.attributes = [("type".into(), "t".into())].into();
    let returned = run(&plugin, event).await.unwrap().outputs.remove(0);
    assert_eq!(returned.key.as_deref(), Some(&[0xff][..]));
    assert_eq!(returned.headers, [Header::new("h", "1")]);
    assert_eq!(returned.attributes, [("type".into(), "t".into())]);

    let asked = only(&run(&plugin, call("ask")).await);
    assert_eq!(
        asked,
        "request/reply is not offered: events of a topic are not answered; publish to a topic \
         instead; true"
    );
    assert_eq!(bench.stats("wasi-messaging").instances_created(), 1);
}

async fn error(plugin: &Arc<Generation>, payload: &str) -> (Verdict, String, String) {
    let error = fails(plugin, payload).await;
    assert_eq!(error.class, ErrorClass::Handler);
    (error.verdict, error.code, error.message)
}

/// What was published in an attempt that failed is not published, by a warm instance either.
#[tokio::test]
async fn r3_errors_of_wasi_messaging_are_retried_or_rejected() {
    let bench = Bench::new();
    let plugin = bench.load("wasi-messaging").await;
    let said = |verdict, code: &str, message: &str| (verdict, code.to_owned(), message.to_owned());
    assert_eq!(
        error(&plugin, "fail once").await,
        said(RETRY, "timeout", "the plugin says: timeout")
    );
    assert_eq!(only(&run(&plugin, again("fail once")).await), "attempt 2");
    assert_eq!(error(&plugin, "connection").await, said(RETRY, "connection", "it is cut"));
    let rejected = said(Verdict::Reject, "permission-denied", "not mine");
    assert_eq!(error(&plugin, "forbidden").await, rejected);
    assert_eq!(error(&plugin, "other").await, said(RETRY, "other", "something else"));
    assert_eq!(bench.stats("wasi-messaging").instances_created(), 1);

    let stern = |spec: &mut sandbar_wasm::LoadSpec| {
        spec.on_errors = [(ForeignError::Other, OnError::Reject)].into();
    };
    let plugin = bench.load_with("wasi-messaging", stern).await;
    assert_eq!(error(&plugin, "other").await.0, Verdict::Reject);
}

#[tokio::test]
async fn s2_messages_count_as_outputs_while_they_are_made() {
    let bench = Bench::new();
    let plugin = bench.load("wasi-messaging").await;
    let flood = fails(&plugin, "flood").await.to_string();
    assert_eq!(flood, "output: returned 1001 events, more than 1000 (limits.output-records)");
    let hoard = fails(&plugin, "hoard").await.to_string();
    assert_eq!(hoard, "output: passed far more to the host than it may (limits.output-bytes)");
    assert_eq!(fails(&plugin, "trap").await.class, ErrorClass::Trap);
    assert_eq!(only(&run(&plugin, call("a")).await), "A");
}

#[tokio::test]
async fn program_wasmcloud_messaging() {
    let bench = Bench::new();
    let plugin = bench.load("wasmcloud-messaging").await;
    let mut event = call("text");
    event.event.headers = [Header::new("reply-to", "answers")].into();
    let returned = run(&plugin, event).await.unwrap().outputs.remove(0);
    assert_eq!((&*returned.topic, returned.payload), ("in.out", Some(Bytes::from("TEXT"))));
    assert_eq!(returned.headers, [Header::new("reply-to", "answers")]);

    let failed = (RETRY, "other".to_owned(), "it cannot be done".to_owned());
    assert_eq!(error(&plugin, "fail").await, failed);
    assert_eq!(only(&run(&plugin, call("a")).await), "A", "nothing of the failed attempt is left");
    assert!(error(&plugin, "ask").await.2.starts_with("request/reply is not offered"));

    let tombstone =
        Call { event: sandbar_core::Event { payload: None, ..call("").event }, attempt: 1 };
    assert_eq!(only(&run(&plugin, tombstone).await), "", "a tombstone has no body");
}

#[tokio::test]
async fn inspection_says_what_a_foreign_component_was_built_for() {
    let bench = Bench::new();
    for (name, api) in [
        ("wasi-messaging", "wasi:messaging 0.2.0-draft"),
        ("wasmcloud-messaging", "wasmcloud:messaging 0.2.0"),
    ] {
        let inspection = bench.host.inspect(program(name)).await.unwrap();
        assert_eq!(inspection.api, api);
        assert!(matches!(inspection.handler, HandlerKind::Foreign(_)));
        assert_eq!(serde_json::to_value(inspection.handler).unwrap(), name);
        assert!(inspection.grants.is_empty());
    }
}
