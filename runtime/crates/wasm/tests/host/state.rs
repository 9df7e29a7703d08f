//! State as a plugin sees it: what a call writes, when it is kept, and what it may come to.

use std::sync::{Arc, atomic::Ordering};

use sandbar_core::{Expected, Outcome, StateChange};
use sandbar_wasm::{Generation, Grant, LoadError, LoadSpec};

use crate::{
    kept::Kept,
    support::{Bench, again, call, fails, only, program, run},
};

async fn load(
    bench: &Bench,
    name: &str,
    kept: &Arc<Kept>,
    change: impl FnOnce(&mut LoadSpec),
) -> Arc<Generation> {
    let configure = |spec: &mut LoadSpec| {
        spec.grants = [Grant::State, Grant::Publisher].into();
        spec.state = Some(kept.source());
        change(spec);
    };
    bench.load_with(name, configure).await
}

/// What the plugin answers to commands, which are then acknowledged.
async fn answers(plugin: &Generation, kept: &Kept, commands: &str) -> String {
    let outcome = run(plugin, call(commands)).await;
    kept.acknowledge(&outcome);
    only(&outcome)
}

#[tokio::test]
async fn t1_keeps() {
    let (bench, kept) = (Bench::new(), Arc::<Kept>::default());
    let plugin = load(&bench, "keeps", &kept, |_| {}).await;
    let said = answers(
        &plugin,
        &kept,
        "get a;set a 1;get a;delete a;get a;set a 2;add n 5;add n -1;get n",
    )
    .await;
    assert_eq!(said, "nothing\nOk(())\n1\nOk(())\nnothing\nOk(())\nOk(5)\nOk(4)\n4");
    assert_eq!(answers(&plugin, &kept, "get a;get n").await, "2\n4");
    // what is not acknowledged is not there, whoever asks
    let unacknowledged = run(&plugin, call("set a 3;add n 1")).await.unwrap();
    assert!(unacknowledged.state.is_some());
    assert_eq!(answers(&plugin, &kept, "get a;get n").await, "2\n4");
    // only reading changes nothing
    assert_eq!(run(&plugin, call("get a")).await.unwrap().state, None);
}

#[tokio::test]
async fn t1_what_a_failed_attempt_wrote_is_in_no_outcome_that_follows() {
    let (bench, kept) = (Bench::new(), Arc::<Kept>::default());
    let plugin = load(&bench, "keeps", &kept, |_| {}).await;
    for end in ["retry", "skip", "unheard-of", "trap"] {
        let failed = run(&plugin, call(&format!("set a 1;add n 1;{end}"))).await;
        assert!(failed.is_err(), "{end}");
        let next = run(&plugin, again("get a;get n")).await;
        assert_eq!(next.as_ref().unwrap().state, None, "after {end}");
        assert_eq!(only(&next), "nothing\nnothing", "after {end}");
    }
    // several events at once: each has its own
    let outcomes = plugin.call(&["add n 1", "add n 2;retry", "add n 4"].map(call)).await.results;
    let added = outcomes.iter().map(|outcome| {
        let changes = outcome.as_ref().ok()?.state.as_ref()?;
        Some(changes.ops[0].change.clone())
    });
    let expected = [Some(StateChange::Add(1)), None, Some(StateChange::Add(4))];
    assert_eq!(added.collect::<Vec<_>>(), expected);
}

#[tokio::test]
async fn t1_keeps_batch() {
    let (bench, kept) = (Bench::new(), Arc::<Kept>::default());
    let plugin = load(&bench, "keeps-batch", &kept, |_| {}).await;
    let outcomes = plugin.call(&["a", "trap", "b", "skip", "c"].map(call)).await.results;
    let changes = |outcome: &Outcome| outcome.as_ref().ok()?.state.as_ref().map(|c| c.ops.len());
    let changes: Vec<_> = outcomes.iter().map(changes).collect();
    // it must be known whose they are, so no batch is larger than one event
    assert_eq!(changes, [Some(1), None, Some(1), None, Some(1)]);
    outcomes.iter().for_each(|outcome| kept.acknowledge(outcome));
    assert_eq!(kept.keys.lock()["events"].value, "3");
}

#[tokio::test]
async fn t3_what_relies_on_what_was_read_says_so_and_what_does_not_does_not() {
    let (bench, kept) = (Bench::new(), Arc::<Kept>::default());
    let plugin = load(&bench, "keeps", &kept, |_| {}).await;
    answers(&plugin, &kept, "set a 1").await;
    let version = kept.keys.lock()["a"].version;
    let condition = async |commands: &str| {
        let outcome = run(&plugin, call(commands)).await.unwrap();
        outcome.state.unwrap().ops[0].only_if
    };
    assert_eq!(condition("get a;set a 2").await, None);
    assert_eq!(condition("add a 2").await, None);
    assert_eq!(condition("replace a 2").await, Some(Expected::Version(version)));
    assert_eq!(condition("replace b 2").await, Some(Expected::Absent));
    assert_eq!(condition("replace a 2;set a 3").await, Some(Expected::Version(version)));
    assert_eq!(condition("replace a 2;delete a").await, Some(Expected::Version(version)));
    // on what the call itself has written it relies on nobody
    assert_eq!(condition("set a 2;replace a 3").await, None);
    // but the sum of an increment is of what was there
    assert_eq!(condition("add a 2;replace a 9").await, Some(Expected::Version(version)));
    let said = answers(&plugin, &kept, "cas a 2 77;cas b 1 -;cas a 3 -").await;
    assert_eq!(said, "Err(StateError::Conflict)\nOk(())\nErr(StateError::Conflict)");
}

#[tokio::test]
async fn t3_a_counter_is_a_number_within_its_bounds() {
    let (bench, kept) = (Bench::new(), Arc::<Kept>::default());
    let plugin = load(&bench, "keeps", &kept, |_| {}).await;
    let max = i64::MAX;
    let said =
        answers(&plugin, &kept, &format!("set t text;add t 1;add n {max};add n 1;get n")).await;
    insta::assert_snapshot!(said, @r#"
    Ok(())
    Err(StateError::Other("the value of `t` is no number"))
    Ok(9223372036854775807)
    Err(StateError::Other("`n` would exceed a signed 64-bit number"))
    9223372036854775807
    "#);
}

#[tokio::test]
async fn t5_time_stands_still_for_a_call_and_goes_on_between_calls() {
    let (bench, kept) = (Bench::new(), Arc::<Kept>::default());
    let plugin = load(&bench, "keeps", &kept, |_| {}).await;
    kept.now_ms.store(1000, Ordering::Relaxed);
    answers(&plugin, &kept, "set a 1 500;set n 1 500;add n 1;set gone 1 0").await;
    assert_eq!(kept.keys.lock()["a"].expires_ms, Some(1500));
    assert_eq!(answers(&plugin, &kept, "get a;get n;get gone").await, "1\n2\nnothing");
    kept.now_ms.store(1499, Ordering::Relaxed);
    assert_eq!(answers(&plugin, &kept, "get a;get n").await, "1\n2");
    kept.now_ms.store(1500, Ordering::Relaxed);
    assert_eq!(answers(&plugin, &kept, "get a;add n 1").await, "nothing\nOk(1)");
}

#[tokio::test]
async fn t5_the_quota_is_known_while_writing() {
    let (bench, kept) = (Bench::new(), Arc::<Kept>::default());
    let limited = |spec: &mut LoadSpec| {
        (spec.limits.state_keys, spec.limits.state_bytes) = (2, 1000);
    };
    let plugin = load(&bench, "keeps", &kept, limited).await;
    let said =
        answers(&plugin, &kept, "set a 1;set b 1;set c 1;delete a;set c 1;fill c 1000;fill c 900")
            .await;
    insta::assert_snapshot!(said, @r#"
    Ok(())
    Ok(())
    Err(StateError::QuotaExceeded("more than 2 keys (limits.state-keys)"))
    Ok(())
    Ok(())
    Err(StateError::QuotaExceeded("more than 1000 bytes (limits.state-bytes)"))
    Ok(())
    "#);
    assert_eq!(answers(&plugin, &kept, "set d 1;get d").await.lines().last(), Some("nothing"));
    let long = "k".repeat(1025);
    let said = answers(&plugin, &kept, &format!("set {long} 1;set  1;fill b 2000000")).await;
    insta::assert_snapshot!(said, @r#"
    Err(StateError::Other("a key of 1025 bytes: one may have 1024 bytes at most"))
    Err(StateError::Other("a key may not be empty"))
    Err(StateError::QuotaExceeded("a value of 2000000 bytes: one may have 1048576 bytes at most"))
    "#);
}

#[tokio::test]
async fn t1_keys_are_listed_as_the_call_has_made_them() {
    let (bench, kept) = (Bench::new(), Arc::<Kept>::default());
    let plugin = load(&bench, "keeps", &kept, |_| {}).await;
    answers(&plugin, &kept, "set k/1 v;set k/2 v;set k/3 v;set k/5 v;set l v").await;
    let said = answers(
        &plugin,
        &kept,
        "delete k/1;set k/4 v;list k/ - 9;list k/ - 2;list k/ k/3 9;list k/ a 1;list m - 9;list k/ - 0",
    )
    .await;
    let lists: Vec<_> = said.lines().skip(2).collect();
    assert_eq!(lists, ["k/2,k/3,k/4,k/5", "k/2,k/3", "k/4,k/5", "k/2", "", ""][..lists.len()]);
}

#[tokio::test]
async fn t1_nothing_is_written_or_published_before_the_first_event() {
    let (bench, kept) = (Bench::new(), Arc::<Kept>::default());
    let spec = |commands: &str| {
        let mut spec = LoadSpec::new("keeps");
        spec.grants = [Grant::State, Grant::Publisher].into();
        spec.state = Some(kept.source());
        spec.config = [("init".into(), commands.into())].into();
        spec
    };
    let said = bench.host.load(program("keeps"), spec("get a;set a 1;publish t 1")).await;
    let Err(LoadError::Init { message, .. }) = said else { panic!("it loaded") };
    insta::assert_snapshot!(message, @r#"
    nothing
    Err(StateError::Other("state can be written only while an event is handled"))
    Err(PublishError::Unavailable("this host publishes nothing"))
    "#);
}

#[tokio::test]
async fn t2_a_store_that_is_away_is_an_error_of_the_call() {
    let (bench, kept) = (Bench::new(), Arc::<Kept>::default());
    let plugin = load(&bench, "keeps", &kept, |_| {}).await;
    *kept.away.lock() = true;
    let said = answers(&plugin, &kept, "get a;set a 1;list a - 1").await;
    insta::assert_snapshot!(said, @r#"
    StateError::Unavailable("disk on fire")
    Err(StateError::Unavailable("disk on fire"))
    StateError::Unavailable("disk on fire")
    "#);
    *kept.away.lock() = false;
    assert_eq!(answers(&plugin, &kept, "set a 1;get a").await, "Ok(())\n1");
}

#[tokio::test]
async fn s3_state_and_publisher_are_denied_by_default() {
    let bench = Bench::new();
    let refused = bench.refused(program("keeps")).await;
    insta::assert_snapshot!(refused, @r#"not granted: sandbar:events/publisher@0.1.1 (needs "publisher"), sandbar:events/state@0.1.1 (needs "state"); to allow it write `grants = ["state", "publisher"]` in p.toml"#);
    let inspection = bench.host.inspect(program("keeps")).await.unwrap();
    assert_eq!(inspection.grants, [Grant::State, Grant::Publisher].into());
    // granted, and nothing behind it
    let plugin = bench
        .load_with("keeps", |spec| spec.grants = [Grant::State, Grant::Publisher].into())
        .await;
    let said = only(&run(&plugin, call("get a;publish t 1")).await);
    insta::assert_snapshot!(said, @r#"
    StateError::Unavailable("this host keeps no state")
    Err(PublishError::Unavailable("this host publishes nothing"))
    "#);
    assert_eq!(fails(&plugin, "set a 1;trap").await.class, sandbar_core::ErrorClass::Trap);
}
