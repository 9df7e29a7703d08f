//! Plugins that take batches.

use sandbar_core::{Call, ErrorClass};

use crate::PACKED;
use crate::support::{Bench, call, only, run};

#[tokio::test(start_paused = true)]
async fn s1_batch() {
    let bench = Bench::new();
    let batch = bench.load("batch").await;
    assert_eq!(batch.max_batch(), 1, "nothing is known of how long it takes");
    for _ in 0..8 {
        batch.call(&vec![call("a"); batch.max_batch()]).await;
    }
    assert_eq!(batch.max_batch(), if PACKED { 128 } else { 64 }, "calls that take no time");

    let outcomes = batch.call(&["a", "skip", "b"].map(call)).await.results;
    assert_eq!([only(&outcomes[0]), only(&outcomes[2])], ["3", "3"], "handed over whole");
    assert_eq!(outcomes[1].as_ref().unwrap_err().message, "not mine");
    assert_eq!(bench.stats("batch").instances_created(), 1);

    // the batch traps; each event alone shows which one did it
    let outcomes = batch.call(&["a", "trap", "b", "skip"].map(call)).await.results;
    assert_eq!([only(&outcomes[0]), only(&outcomes[2])], ["1", "1"], "called again alone");
    assert_eq!(outcomes[1].as_ref().unwrap_err().class, ErrorClass::Trap);
    assert_eq!(outcomes[3].as_ref().unwrap_err().message, "not mine");
    assert_eq!(run(&batch, call("trap")).await.unwrap_err().class, ErrorClass::Trap);
    assert_eq!(only(&run(&batch, call("a")).await), "1");
    assert!(batch.call::<Call>(&[]).await.results.is_empty());
}

#[tokio::test]
async fn r4_batch_length() {
    let bench = Bench::new();
    let wrong = bench.load("batch-length").await;
    let outcomes = wrong.call(&["a", "b"].map(call)).await.results;
    assert_eq!(outcomes.len(), 2);
    for outcome in outcomes {
        let error = outcome.unwrap_err();
        assert_eq!((error.class, error.code.as_str()), (ErrorClass::Handler, "batch-length"));
        insta::allow_duplicates! { insta::assert_snapshot!(error.message, @"handle-batch returned 3 outcomes for 2 events"); }
    }
}
