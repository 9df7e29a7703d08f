//! What goes wrong before an instance is made, or while it begins.

use std::collections::BTreeSet;

use sandbar_wasm::LoadSpec;

use super::{loading, strict};
use crate::support::{Bench, call, program, run};

#[tokio::test]
async fn s1_begins_too_large() {
    let error = loading("begins-too-large").await;
    assert_eq!(
        error,
        "cannot make an instance (memory): asked for 131072000 bytes of memory, more than 67108864 (limits.memory)"
    );
}

#[tokio::test]
async fn s1_begins_with_a_huge_table() {
    let error = loading("begins-with-a-huge-table").await;
    assert_eq!(
        error,
        "the component is not valid: module table does not fit in pooling allocator requirements: table index 0 has a minimum element size of 1000000 which exceeds the limit of 100000; build it anew with a current toolchain"
    );
}

#[tokio::test]
async fn s1_places_data_outside() {
    let error = loading("places-data-outside").await;
    assert_eq!(error, "cannot make an instance (trap): wasm trap: out of bounds memory access");
}

#[tokio::test]
async fn s1_has_a_second_memory() {
    let error = loading("has-a-second-memory").await;
    assert_eq!(
        error,
        "the component is not valid: module memory does not fit in pooling allocator requirements: defined memories count of 2 exceeds the per-instance limit of 1; build it anew with a current toolchain"
    );
}

/// There are no threads, so nothing could ever wake it.
#[tokio::test]
async fn s1_waits_on_an_address() {
    let error = loading("waits-on-an-address").await;
    assert!(error.contains("threads support is not enabled"), "{error}");
}

#[tokio::test]
async fn s1_starts_with_a_loop() {
    let error = loading("starts-with-a-loop").await;
    assert_eq!(
        error,
        "cannot make an instance (deadline): took longer than 1 s (limits.init-time)"
    );
}

#[tokio::test]
async fn s1_starts_with_a_trap() {
    let error = loading("starts-with-a-trap").await;
    assert_eq!(
        error,
        "cannot make an instance (trap): wasm trap: wasm `unreachable` instruction executed"
    );
}

#[tokio::test]
async fn s1_starts_with_a_bomb() {
    let error = loading("starts-with-a-bomb").await;
    assert_eq!(
        error,
        "cannot make an instance (memory): asked for 67174400 bytes of memory, more than 67108864 (limits.memory)"
    );
}

#[tokio::test]
async fn s1_inits_with_a_bomb() {
    let error = loading("inits-with-a-bomb").await;
    assert_eq!(
        error,
        "init failed (memory): asked for 67174400 bytes of memory, more than 67108864 (limits.memory)"
    );
}

#[tokio::test]
async fn s1_inits_in_ages() {
    let error = loading("inits-in-ages").await;
    assert_eq!(error, "init failed (deadline): took longer than 1 s (limits.init-time)");
}

#[tokio::test]
async fn s1_inits_at_length() {
    let error = loading("inits-at-length").await;
    assert_eq!(error.len(), "init failed (handler): ".len() + (16 << 10));
}

#[tokio::test]
async fn s1_inits_with_an_exit() {
    let error = loading("inits-with-an-exit").await;
    assert_eq!(error, "init failed (trap): the plugin called exit(0)");
}

/// A generation whose later instances cannot be made fails by event, not as a whole.
#[tokio::test]
async fn s1_inits_every_other_time() {
    let bench = Bench::new();
    let plugin = loop {
        let mut spec = LoadSpec::new("p");
        strict(&mut spec);
        spec.limits.instance_events = 1;
        match bench.host.load(program("inits-every-other-time"), spec).await {
            Ok(plugin) => break plugin,
            Err(error) => assert_eq!(error.to_string(), "init failed (handler): "),
        }
    };
    let mut outcomes = BTreeSet::new();
    for _ in 0..64 {
        let outcome = run(&plugin, call("")).await;
        outcomes.insert(outcome.map_or_else(|error| error.to_string(), |_| "done".into()));
    }
    assert_eq!(outcomes.into_iter().collect::<Vec<_>>(), ["done", "handler: init failed: "]);
}
