//! More memory and larger tables than a plugin may have.

use super::{first_attempt, strict};
use crate::support::{Bench, call, run};

#[tokio::test]
async fn s1_grows_at_once() {
    let error = first_attempt("grows-at-once").await;
    assert_eq!(
        error,
        "memory: asked for 4294967296 bytes of memory, more than 67108864 (limits.memory)"
    );
}

#[tokio::test]
async fn s1_grows_in_steps() {
    let error = first_attempt("grows-in-steps").await;
    assert_eq!(
        error,
        "memory: asked for 67174400 bytes of memory, more than 67108864 (limits.memory)"
    );
}

#[tokio::test]
async fn s1_grows_a_table() {
    let error = first_attempt("grows-a-table").await;
    assert_eq!(error, "memory: asked for 100001 table entries, more than 100000");
}

/// An image of mostly zeros costs its size in address space, not in memory.
#[tokio::test]
async fn s2_spreads_its_data() {
    let bench = Bench::new();
    let plugin = bench.load_with("spreads-its-data", strict).await;
    assert_eq!(run(&plugin, call("")).await.unwrap().outputs, []);
}
