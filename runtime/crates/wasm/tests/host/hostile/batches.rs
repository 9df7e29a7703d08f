//! Batches that are answered by the wrong number of outcomes, or not at all.

use sandbar_core::ErrorClass;

use super::strict;
use crate::support::{Bench, call, run};

/// How two events fail that are passed together.
async fn together(name: &str) -> [String; 2] {
    let bench = Bench::new();
    let plugin = bench.load_with(name, strict).await;
    let outcomes = plugin.call(&["a", "b"].map(call)).await.results;
    let errors = outcomes.into_iter().map(|outcome| outcome.unwrap_err().to_string());
    errors.collect::<Vec<_>>().try_into().expect("one outcome per event")
}

#[tokio::test]
async fn s1_batches_nothing() {
    assert_eq!(
        together("batches-nothing").await,
        ["handler: handle-batch returned 0 outcomes for 2 events"; 2]
    );
}

#[tokio::test]
async fn s1_batches_without_end() {
    assert_eq!(
        together("batches-without-end").await,
        ["trap: list pointer/length out of bounds of memory"; 2]
    );
}

/// The first batch of one is answered by one outcome, the second by two; then it is a new
/// instance's turn.
#[tokio::test]
async fn s1_batches_one_more_each_time() {
    let bench = Bench::new();
    let plugin = bench.load_with("batches-one-more-each-time", strict).await;
    let mut outcomes = Vec::new();
    for _ in 0..4 {
        let outcome = run(&plugin, call("")).await;
        outcomes.push(outcome.map_or_else(|error| error.to_string(), |_| "done".into()));
    }
    let wrong = "handler: handle-batch returned 2 outcomes for 1 events";
    assert_eq!(outcomes, ["done", wrong, "done", wrong]);
}

/// The batch is cut off; each of its events alone goes well.
#[tokio::test]
async fn s1_batches_with_a_loop() {
    let bench = Bench::new();
    let plugin = bench.load_with("batches-with-a-loop", strict).await;
    let outcomes = plugin.call(&["a", "b"].map(call)).await.results;
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    assert_eq!(bench.stats("batches-with-a-loop").limit_hits(ErrorClass::CpuTime), 1);
}
