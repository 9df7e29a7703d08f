//! Returned values that lie, and values that are too much.

use std::{collections::BTreeSet, time::Duration};

use sandbar_core::Verdict;

use super::{first_attempt, strict};
use crate::support::{Bench, call, fails, run};

#[tokio::test]
async fn s1_returns_nowhere() {
    let error = first_attempt("returns-nowhere").await;
    assert_eq!(error, "trap: pointer out of bounds of memory");
}

#[tokio::test]
async fn s1_returns_misaligned() {
    let error = first_attempt("returns-misaligned").await;
    assert_eq!(error, "trap: return pointer not aligned");
}

#[tokio::test]
async fn s1_returns_no_case() {
    let error = first_attempt("returns-no-case").await;
    assert_eq!(error, "trap: invalid expected discriminant");
}

#[tokio::test]
async fn s1_returns_no_failure() {
    let error = first_attempt("returns-no-failure").await;
    assert_eq!(error, "trap: unexpected discriminant: 9");
}

#[tokio::test]
async fn s1_returns_a_list_outside() {
    let error = first_attempt("returns-a-list-outside").await;
    assert_eq!(error, "trap: list pointer/length out of bounds of memory");
}

#[tokio::test]
async fn s1_returns_a_list_misaligned() {
    let error = first_attempt("returns-a-list-misaligned").await;
    assert_eq!(error, "trap: list pointer is not aligned");
}

#[tokio::test]
async fn s1_returns_a_list_without_end() {
    let error = first_attempt("returns-a-list-without-end").await;
    assert_eq!(error, "trap: list pointer/length out of bounds of memory");
}

#[tokio::test]
async fn s1_returns_a_topic_outside() {
    let error = first_attempt("returns-a-topic-outside").await;
    assert_eq!(error, "trap: string pointer/length out of bounds of memory");
}

#[tokio::test]
async fn s1_returns_a_topic_without_end() {
    let error = first_attempt("returns-a-topic-without-end").await;
    assert_eq!(error, "trap: string pointer/length out of bounds of memory");
}

#[tokio::test]
async fn s1_returns_a_topic_that_is_no_text() {
    let error = first_attempt("returns-a-topic-that-is-no-text").await;
    assert_eq!(error, "trap: invalid utf-8 sequence of 1 bytes from index 1");
}

#[tokio::test]
async fn s1_returns_a_long_topic() {
    let error = first_attempt("returns-a-long-topic").await;
    assert_eq!(error, "output: returned a topic of 30000 bytes, more than 255");
}

#[tokio::test]
async fn s1_returns_no_option() {
    let error = first_attempt("returns-no-option").await;
    assert_eq!(error, "trap: invalid option discriminant");
}

#[tokio::test]
async fn s1_returns_many_headers() {
    let error = first_attempt("returns-many-headers").await;
    assert_eq!(
        error,
        "output: returned an event with 100000 headers and attributes, more than 1000"
    );
}

#[tokio::test]
async fn s1_returns_many_attributes() {
    let error = first_attempt("returns-many-attributes").await;
    assert_eq!(
        error,
        "output: returned an event with 100000 headers and attributes, more than 1000"
    );
}

#[tokio::test]
async fn s1_returns_headers_that_are_itself() {
    let error = first_attempt("returns-headers-that-are-itself").await;
    assert_eq!(error, "output: returned an event with 4096 headers and attributes, more than 1000");
}

#[tokio::test]
async fn s2_returns_a_thousand_keys() {
    let bench = Bench::new();
    let plugin = bench.load_with("returns-a-thousand-keys", strict).await;
    let returned = run(&plugin, call("")).await.unwrap().outputs;
    let keys: BTreeSet<_> = returned.iter().map(|event| event.key.clone().unwrap()).collect();
    assert_eq!((returned.len(), keys.len()), (1000, 1000));
}

/// The pipeline clamps it to the longest delay of the policy.
#[tokio::test]
async fn r3_retries_in_ages() {
    let bench = Bench::new();
    let plugin = bench.load_with("retries-in-ages", strict).await;
    let after = Some(Duration::from_millis(u64::MAX));
    assert_eq!(fails(&plugin, "").await.verdict, Verdict::Retry { after });
}

#[tokio::test]
async fn r8_defers_for_ages() {
    let bench = Bench::new();
    let plugin = bench.load_with("defers-for-ages", strict).await;
    let pause = Duration::from_millis(u64::MAX);
    assert_eq!(fails(&plugin, "").await.verdict, Verdict::Defer { pause });
}

/// What goes into a dead letter is cut to what a broker takes.
#[tokio::test]
async fn r3_rejects_at_length() {
    let bench = Bench::new();
    let error = fails(&*bench.load_with("rejects-at-length", strict).await, "").await;
    assert_eq!(error.verdict, Verdict::Reject);
    assert_eq!((error.code.len(), error.message.len()), (128, 16 << 10));
    assert_eq!(bench.stats("rejects-at-length").instances_created(), 1);
}
