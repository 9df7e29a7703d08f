//! Traps, loops and recursion in a call.

use super::first_attempt;

#[tokio::test]
async fn s1_recurses_in_turns() {
    let error = first_attempt("recurses-in-turns").await;
    assert_eq!(error, "trap: wasm trap: call stack exhausted");
}

#[tokio::test]
async fn s1_recurses_through_a_table() {
    let error = first_attempt("recurses-through-a-table").await;
    assert_eq!(error, "trap: wasm trap: call stack exhausted");
}

#[tokio::test]
async fn s1_calls_the_host_without_end() {
    let error = first_attempt("calls-the-host-without-end").await;
    assert_eq!(error, "cpu-time: used more than 100 ms of CPU time (limits.cpu-time)");
}

#[tokio::test]
async fn s1_divides_by_zero() {
    let error = first_attempt("divides-by-zero").await;
    assert_eq!(error, "trap: wasm trap: integer divide by zero");
}

#[tokio::test]
async fn s1_reads_outside() {
    let error = first_attempt("reads-outside").await;
    assert_eq!(error, "trap: wasm trap: out of bounds memory access");
}

#[tokio::test]
async fn s1_calls_nothing() {
    let error = first_attempt("calls-nothing").await;
    assert_eq!(error, "trap: wasm trap: uninitialized element");
}

#[tokio::test]
async fn s1_calls_by_another_type() {
    let error = first_attempt("calls-by-another-type").await;
    assert_eq!(error, "trap: wasm trap: indirect call type mismatch");
}

#[tokio::test]
async fn s1_exits() {
    let error = first_attempt("exits").await;
    assert_eq!(error, "trap: the plugin called exit(1)");
}
