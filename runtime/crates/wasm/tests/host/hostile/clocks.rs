//! Waiting, handles and the rest of WASI, abused.

use std::time::Duration;

use sandbar_wasm::LoadSpec;

use super::{first_attempt, harms_only_its_own_event, strict};

#[tokio::test]
async fn s1_forges_a_handle() {
    let error = first_attempt("forges-a-handle").await;
    assert_eq!(error, "trap: unknown handle index 12345");
}

#[tokio::test]
async fn s1_drops_a_handle_twice() {
    let error = first_attempt("drops-a-handle-twice").await;
    assert_eq!(error, "trap: unknown handle index 1");
}

#[tokio::test]
async fn s1_hoards_handles() {
    let error = first_attempt("hoards-handles").await;
    assert_eq!(error, "trap: resource table has no free keys");
}

#[tokio::test]
async fn s1_sleeps_for_ages() {
    let hurried = |spec: &mut LoadSpec| {
        strict(spec);
        spec.limits.wall_time = Duration::from_millis(500);
    };
    let error = harms_only_its_own_event("sleeps-for-ages", hurried).await.1.to_string();
    assert_eq!(error, "deadline: took longer than 500 ms (limits.wall-time)");
}

#[tokio::test]
async fn s1_sleeps_without_rest() {
    let error = first_attempt("sleeps-without-rest").await;
    assert_eq!(error, "cpu-time: used more than 100 ms of CPU time (limits.cpu-time)");
}

#[tokio::test]
async fn s1_asks_for_too_much_chance() {
    let error = first_attempt("asks-for-too-much-chance").await;
    assert_eq!(error, "trap: requested len 17592186044416 exceeds limit 67108864");
}

#[tokio::test]
async fn s1_fills_stdout() {
    let error = first_attempt("fills-stdout").await;
    assert_eq!(error, "cpu-time: used more than 100 ms of CPU time (limits.cpu-time)");
}
