//! Replacing a generation while it serves.

use std::{sync::Arc, time::Duration};

use sandbar_core::Handler;
use sandbar_wasm::{Generation, Grant, HandlerSlot, LoadError, LoadSpec};

use crate::support::{Bench, call, component, only, program};

async fn tagged(bench: &Bench, ms: u64, tag: &str) -> Arc<Generation> {
    let configure = |spec: &mut LoadSpec| {
        spec.grants.insert(Grant::Clocks);
        spec.config = [("ms".into(), ms.to_string()), ("tag".into(), tag.into())].into();
    };
    bench.load_with("sleeps", configure).await
}

#[tokio::test(start_paused = true)]
async fn h2_calls_in_flight_finish_on_the_old_version_and_the_next_uses_the_new() {
    let bench = Bench::new();
    let slot = Arc::new(HandlerSlot::new(tagged(&bench, 5_000, "old").await));
    let in_flight = tokio::spawn({
        let slot = Arc::clone(&slot);
        async move { slot.handle(&[&call("")]).await }
    });
    // until the call waits in the host
    tokio::time::sleep(Duration::from_secs(1)).await;

    let old = slot.swap(tagged(&bench, 0, "new").await);
    let gone = Arc::downgrade(&old);
    drop(old);
    assert_eq!(only(&slot.handle(&[&call("")]).await.results[0]), "new");
    assert!(!in_flight.is_finished(), "the old call still waits");
    assert!(gone.upgrade().is_some());
    let finished = in_flight.await.unwrap();
    assert_eq!(only(&finished.results[0]), "old");
    assert!(gone.upgrade().is_none(), "the old version goes with its last call");
}

#[tokio::test]
async fn h3_init_fails() {
    let bench = Bench::new();
    let slot = HandlerSlot::new(bench.load("counts").await);
    assert_eq!(only(&slot.handle(&[&call("")]).await.results[0]), "1");

    let attempt = async |how: &str| -> LoadError {
        let mut spec = LoadSpec::new("counts");
        spec.limits.init_time = Duration::from_millis(200);
        spec.config = [("how".into(), how.into())].into();
        bench.host.load(program("init-fails"), spec).await.expect_err("init fails")
    };
    insta::assert_snapshot!(attempt("error").await, @"init failed (handler): no key to work with");
    insta::assert_snapshot!(attempt("trap").await, @"init failed (trap): wasm trap: wasm `unreachable` instruction executed");
    insta::assert_snapshot!(attempt("loop").await, @"init failed (deadline): took longer than 200 ms (limits.init-time)");
    // what served goes on serving, on the instance that it had
    assert_eq!(only(&slot.handle(&[&call("")]).await.results[0]), "2");
    let works = bench.host.load(program("init-fails"), LoadSpec::new("p")).await.unwrap();
    assert!(works.description().is_some(), "it can also work");
}

#[tokio::test]
async fn h3_files_that_do_not_load_leave_the_old_version_serving() {
    let bench = Bench::new();
    let slot = HandlerSlot::new(bench.load("counts").await);
    let whole = program("counts");
    for wasm in
        [whole.slice(..whole.len() / 2), component("(component)"), program("describe-traps")]
    {
        bench.refused(wasm).await;
    }
    assert_eq!(only(&slot.handle(&[&call("")]).await.results[0]), "1");
    assert_eq!(slot.current().handled_by().plugin, "counts");
}
