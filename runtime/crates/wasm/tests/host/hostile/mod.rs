//! Programs that do whatever they can think of: the host lives, what they use is given back,
//! and only their own events, or their own loading, fail (S1).

mod batches;
mod calls;
mod clocks;
mod descriptions;
mod logs;
mod memory;
mod reallocs;
mod returns;
mod starts;

use std::{sync::Arc, time::Duration};

use sandbar_core::{HandlerError, Verdict};
use sandbar_wasm::{Grant, LoadSpec};

use crate::support::{Bench, again, call, fails, only, program, run};

/// Runs a hostile program beside a neighbour. The neighbour must get its turns while
/// the hostile event runs and keep its instance; the hostile plugin's next event must
/// go well on a fresh instance.
pub async fn harms_only_its_own_event(
    name: &str,
    change: impl FnOnce(&mut LoadSpec),
) -> (Bench, HandlerError) {
    let bench = Bench::new();
    let neighbour = bench.load("counts").await;
    let hostile = bench.load_with(name, change).await;

    let running = tokio::spawn({
        let hostile = Arc::clone(&hostile);
        async move { fails(&hostile, "").await }
    });
    let mut served = 0;
    while !running.is_finished() || served == 0 {
        served += 1;
        assert_eq!(only(&run(&neighbour, call("")).await), served.to_string());
        tokio::task::yield_now().await;
    }
    let error = running.await.unwrap();
    assert_eq!(error.verdict, Verdict::Retry { after: None });

    let stats = bench.stats(name);
    assert_eq!(stats.instances(), 0, "a broken instance must not be kept");
    assert_eq!(run(&hostile, again("")).await.unwrap().outputs, []);
    assert_eq!(stats.instances_created(), 2, "the next event needs a fresh instance");
    // and once more, so that nothing was used up
    assert_eq!(fails(&hostile, "").await.class, error.class);
    assert_eq!(only(&run(&neighbour, call("")).await), (served + 1).to_string());
    assert_eq!(bench.stats("counts").instances_created(), 1);
    (bench, error)
}

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
