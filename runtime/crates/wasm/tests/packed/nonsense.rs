//! Frames of outcomes that cannot be read are the plugin's error, and nobody else's.

use sandbar_core::{ErrorClass, Verdict};

use crate::support::{Bench, call, fails};

#[tokio::test]
async fn r4_packed_nonsense() {
    let bench = Bench::new();
    let plugin = bench.load("packed-nonsense").await;
    let mut said = Vec::new();
    for payload in ["empty", "version", "cut", "longer", "flood", "ones"] {
        let error = fails(&plugin, payload).await;
        assert_eq!((error.class, error.code.as_str()), (ErrorClass::Output, "packed-frame"));
        assert_eq!(error.verdict, Verdict::Retry { after: None });
        said.push(error.message);
    }
    insta::assert_snapshot!(said.join("\n"), @"
    the plugin's frame of outcomes cannot be read: an empty frame
    the plugin's frame of outcomes cannot be read: a frame of version 9, version 1 was expected
    the plugin's frame of outcomes cannot be read: the frame ends within the outputs at byte 6
    the plugin's frame of outcomes cannot be read: 1 bytes follow the last item
    the plugin's frame of outcomes cannot be read: the frame ends within the outputs at byte 6
    the plugin's frame of outcomes cannot be read: a frame of version 255, version 1 was expected
    ");

    // among others: the one to blame is found, the others are handled
    let outcomes = plugin.call(&["ok", "cut", "ok"].map(call)).await.results;
    let classes =
        outcomes.into_iter().map(|o| o.map_err(|e| e.class).map(|handled| handled.outputs.len()));
    assert_eq!(classes.collect::<Vec<_>>(), [Ok(0), Err(ErrorClass::Output), Ok(0)]);
    let hits = bench.stats("packed-nonsense").limit_hits(ErrorClass::Output);
    assert_eq!(hits, 6 + 2, "each frame that could not be read counts");
}

/// More than one frame holds, and events larger than a frame may be.
#[tokio::test]
async fn batches_of_any_size_come_through() {
    let bench = Bench::new();
    let echo = bench.load("echo").await;
    let kib = "x".repeat(1000);
    let huge = "y".repeat(600_000);
    let mut calls = vec![call(&kib); 700];
    calls[3] = call(&huge);
    calls[500] = call("");
    let outcomes = echo.call(&calls).await.results;
    assert_eq!(outcomes.len(), calls.len());
    for (call, outcome) in calls.iter().zip(outcomes) {
        assert_eq!(outcome.unwrap().outputs[0].payload, call.event.payload);
    }
    assert_eq!(bench.stats("echo").instances_created(), 1);
}
