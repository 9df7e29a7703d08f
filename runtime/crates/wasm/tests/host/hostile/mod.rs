//! Programs that do whatever they can think of: the host lives, what they use is given back,
//! and only their own events, or their own loading, fail (S1).

mod batches;
mod calls;
mod clocks;
mod descriptions;
mod logs;
mod memory;
mod reallocs;
mod requests;
mod returns;
mod starts;
mod state;

use std::time::Duration;

use sandbar_wasm::{Grant, LoadSpec};

use crate::{
    beside::harms_only_its_own_event,
    support::{Bench, call, fails, only, program, run},
};

/// Little time on a core, so that the tests take little, and all the power there is.
fn strict(spec: &mut LoadSpec) {
    spec.limits.cpu_time = Duration::from_millis(100);
    spec.limits.init_time = Duration::from_secs(1);
    spec.grants.insert(Grant::Wasi);
}

/// How the first attempt at an event fails; the second one goes well.
async fn first_attempt(name: &str) -> String {
    harms_only_its_own_event(name, strict).await.1.to_string()
}

/// How each event fails, one as the other.
async fn each_event(name: &str) -> String {
    let bench = Bench::new();
    let neighbour = bench.load("counts").await;
    let hostile = bench.load_with(name, strict).await;
    let error = fails(&hostile, "").await.to_string();
    assert_eq!(fails(&hostile, "x").await.to_string(), error);
    assert!(bench.stats(name).instances() <= 1);
    assert_eq!(only(&run(&neighbour, call("")).await), "1");
    error
}

/// Why it does not load.
async fn loading(name: &str) -> String {
    let bench = Bench::new();
    let neighbour = bench.load("counts").await;
    let mut spec = LoadSpec::new(name);
    strict(&mut spec);
    let refused = bench.host.load(program(name), spec).await.expect_err("it must not load");
    assert_eq!(bench.stats(name).instances(), 0);
    assert_eq!(only(&run(&neighbour, call("")).await), "1");
    refused.to_string()
}
