//! What a hostile program may not do to its neighbour.

use std::sync::Arc;

use sandbar_core::{HandlerError, Verdict};
use sandbar_wasm::LoadSpec;

use crate::support::{Bench, again, call, fails, only, run};

/// Runs a hostile program beside a neighbour. The neighbour must get its turns while
/// the hostile event runs and keep its instance; the hostile plugin's next event must
/// go well on a fresh instance.
pub async fn harms_only_its_own_event(
    name: &str,
    change: impl FnOnce(&mut LoadSpec),
) -> (Bench, HandlerError) {
    let bench = Bench::new();
    // it counts as long as it is asked, however quick the machine is
    let neighbour = bench.load_with("counts", |spec| spec.limits.instance_events = u64::MAX).await;
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
