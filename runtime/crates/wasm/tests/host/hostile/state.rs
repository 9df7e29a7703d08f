//! Writing more than one may keep, and reading it back for ever.

use std::sync::Arc;

use sandbar_core::{StateChange, StateOp};
use sandbar_wasm::{Grant, LoadSpec};

use super::strict;
use crate::{
    beside::harms_only_its_own_event,
    kept::Kept,
    support::{Bench, call, run},
};

/// Keys and bytes that the programs may keep.
const KEYS: u64 = 1000;
const BYTES: u64 = 1 << 20;

fn keeping(kept: &Arc<Kept>) -> impl FnOnce(&mut LoadSpec) {
    let source = kept.source();
    move |spec| {
        strict(spec);
        spec.grants.insert(Grant::State);
        spec.state = Some(source);
        (spec.limits.state_keys, spec.limits.state_bytes) = (KEYS, BYTES);
    }
}

/// How an event fails whose program takes no refusal. Nothing of what it wrote is left.
async fn does_not_end(name: &str) -> String {
    let kept = Arc::<Kept>::default();
    let error = harms_only_its_own_event(name, keeping(&kept)).await.1;
    assert!(kept.keys.lock().is_empty());
    error.to_string()
}

/// What a program changes that stops when it is refused, each time that it is called. What it
/// changes is acknowledged.
async fn changes(name: &str, kept: &Arc<Kept>) -> [Vec<StateOp>; 2] {
    let bench = Bench::new();
    let plugin = bench.load_with(name, keeping(kept)).await;
    let mut changes = Vec::new();
    for _ in 0..2 {
        let outcome = run(&plugin, call("")).await;
        kept.acknowledge(&outcome);
        changes.push(outcome.unwrap().state.map_or_else(Vec::new, |state| state.ops));
    }
    changes.try_into().expect("two calls")
}

#[tokio::test]
async fn t5_writes_many_keys() {
    let kept = Arc::<Kept>::default();
    let [first, second] = changes("writes-many-keys", &kept).await;
    // it goes on where it was, and the quota is used up
    assert_eq!((first.len() as u64, second.len()), (KEYS, 0));
    assert_eq!(kept.keys.lock().len() as u64, KEYS);
}

#[tokio::test]
async fn t5_writes_ever_larger_values() {
    let kept = Arc::<Kept>::default();
    let [first, second] = changes("writes-ever-larger-values", &kept).await;
    for ops in [first, second] {
        let [StateOp { change: StateChange::Put { value, .. }, .. }] = &ops[..] else {
            panic!("{ops:?}")
        };
        assert_eq!(value.len(), 512 << 10, "with its key a megabyte is too much");
    }
    assert_eq!(kept.keys.lock().len(), 1);
}

/// What is gone at once counts towards no quota, but the host has to remember it for the call.
#[tokio::test]
async fn t5_writes_what_is_gone_at_once() {
    let kept = Arc::<Kept>::default();
    for ops in changes("writes-what-is-gone-at-once", &kept).await {
        assert_eq!(ops.len() as u64, KEYS);
        assert!(ops.iter().all(|op| op.change == StateChange::Delete), "it keeps no value");
    }
    assert!(kept.keys.lock().is_empty());
}

#[tokio::test]
async fn t5_deletes_what_never_was() {
    let kept = Arc::<Kept>::default();
    for ops in changes("deletes-what-never-was", &kept).await {
        assert_eq!(ops.len() as u64, KEYS);
    }
}

#[tokio::test]
async fn s1_writes_without_end() {
    let error = does_not_end("writes-without-end").await;
    assert_eq!(error, "cpu-time: used more than 100 ms of CPU time (limits.cpu-time)");
}

#[tokio::test]
async fn s1_writes_huge_keys() {
    let error = does_not_end("writes-huge-keys").await;
    assert_eq!(error, "cpu-time: used more than 100 ms of CPU time (limits.cpu-time)");
}

#[tokio::test]
async fn s1_reads_its_state_without_end() {
    let error = does_not_end("reads-its-state-without-end").await;
    assert_eq!(error, "cpu-time: used more than 100 ms of CPU time (limits.cpu-time)");
}
