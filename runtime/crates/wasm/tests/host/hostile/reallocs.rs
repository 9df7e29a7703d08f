//! What goes wrong while the host passes an event in, or gives back what was returned.

use super::each_event;

#[tokio::test]
async fn s1_reallocs_outside() {
    let error = each_event("reallocs-outside").await;
    assert_eq!(error, "trap: realloc return: beyond end of memory");
}

#[tokio::test]
async fn s1_reallocs_misaligned() {
    let error = each_event("reallocs-misaligned").await;
    assert_eq!(error, "trap: realloc return: result not aligned");
}

#[tokio::test]
async fn s1_reallocs_the_same() {
    let error = each_event("reallocs-the-same").await;
    assert_eq!(error, "trap: invalid expected discriminant");
}

#[tokio::test]
async fn s1_reallocs_with_a_trap() {
    let error = each_event("reallocs-with-a-trap").await;
    assert_eq!(error, "trap: wasm trap: wasm `unreachable` instruction executed");
}

#[tokio::test]
async fn s1_reallocs_with_a_loop() {
    let error = each_event("reallocs-with-a-loop").await;
    assert_eq!(error, "cpu-time: used more than 100 ms of CPU time (limits.cpu-time)");
}

#[tokio::test]
async fn s1_reallocs_with_a_bomb() {
    let error = each_event("reallocs-with-a-bomb").await;
    assert_eq!(
        error,
        "memory: asked for 134283264 bytes of memory, more than 67108864 (limits.memory)"
    );
}

#[tokio::test]
async fn s1_reallocs_by_the_host() {
    let error = each_event("reallocs-by-the-host").await;
    assert_eq!(error, "trap: wasm trap: cannot leave component instance");
}

#[tokio::test]
async fn s1_cleans_up_with_a_loop() {
    let error = each_event("cleans-up-with-a-loop").await;
    assert_eq!(error, "cpu-time: used more than 100 ms of CPU time (limits.cpu-time)");
}

#[tokio::test]
async fn s1_cleans_up_with_a_trap() {
    let error = each_event("cleans-up-with-a-trap").await;
    assert_eq!(error, "trap: wasm trap: wasm `unreachable` instruction executed");
}

#[tokio::test]
async fn s1_cleans_up_by_the_host() {
    let error = each_event("cleans-up-by-the-host").await;
    assert_eq!(error, "trap: wasm trap: cannot leave component instance");
}
