//! Hostile programs harm only their own event (S1), each limit has its own error and
//! counter (S2), and kinds of failure are told apart (R4).

use std::{sync::Arc, time::Duration};

use sandbar_core::ErrorClass;
use sandbar_wasm::{Generation, Grant, LoadSpec};

use crate::{
    beside::harms_only_its_own_event,
    support::{Bench, call, fails, only, program, run},
};

#[tokio::test]
async fn s1_loops() {
    let cpu_time = Duration::from_millis(200);
    let (bench, error) =
        harms_only_its_own_event("loops", |spec| spec.limits.cpu_time = cpu_time).await;
    assert_eq!(error.class, ErrorClass::CpuTime);
    insta::assert_snapshot!(error.message, @"used more than 200 ms of CPU time (limits.cpu-time)");
    assert!(error.backtrace.unwrap().contains("handle"), "it says where it looped");
    assert_eq!(bench.stats("loops").limit_hits(ErrorClass::CpuTime), 2);
}

/// One worker, two plugins: the loop gives way at every tick, so the neighbour gets
/// at least about one turn per tick of the loop's CPU time.
#[tokio::test(flavor = "current_thread")]
async fn s1_a_loop_shares_its_core_fairly() {
    let bench = Bench::new();
    let neighbour = bench.load("echo").await;
    let cpu_time = Duration::from_millis(400);
    let hostile = bench.load_with("loops", |spec| spec.limits.cpu_time = cpu_time).await;
    let running = tokio::spawn(async move { fails(&hostile, "").await });
    let mut turns = 0;
    while !running.is_finished() {
        run(&neighbour, call("x")).await.unwrap();
        turns += 1;
        tokio::task::yield_now().await;
    }
    // 200 ticks of 2 ms; a loop that kept its core would leave one or two
    assert!(turns >= 100, "only {turns} turns beside a loop of {cpu_time:?}");
}

#[tokio::test]
async fn s1_allocates() {
    let (bench, error) = harms_only_its_own_event("allocates", |_| {}).await;
    assert_eq!(error.class, ErrorClass::Memory);
    assert!(error.message.ends_with("bytes of memory, more than 67108864 (limits.memory)"));
    assert_eq!(bench.stats("allocates").limit_hits(ErrorClass::Memory), 2);
    assert_eq!(bench.stats("allocates").traps(), 0);
}

#[tokio::test]
async fn s1_recurses() {
    let (bench, error) = harms_only_its_own_event("recurses", |_| {}).await;
    assert_eq!(error.class, ErrorClass::Trap);
    insta::assert_snapshot!(error.message, @"wasm trap: call stack exhausted");
    let backtrace = error.backtrace.unwrap();
    assert!(backtrace.contains("recurses::down"), "{backtrace}");
    assert!(backtrace.lines().count() < 100, "a backtrace is capped");
    assert_eq!(bench.stats("recurses").traps(), 2);
}

#[tokio::test]
async fn s1_traps() {
    let (bench, error) = harms_only_its_own_event("traps", |_| {}).await;
    assert_eq!(error.class, ErrorClass::Trap);
    insta::assert_snapshot!(error.message, @"wasm trap: wasm `unreachable` instruction executed");
    assert_eq!(bench.stats("traps").traps(), 2);
}

#[tokio::test]
async fn r4_panics() {
    let (bench, error) = harms_only_its_own_event("panics", |_| {}).await;
    assert_eq!(error.class, ErrorClass::Trap);
    insta::assert_snapshot!(error.message, @"
    panicked at tests/programs/examples/panics.rs:28:5:
    cannot go on at 7
    ");
    let backtrace = error.backtrace.unwrap();
    assert!(backtrace.contains("panics::fall_over"), "{backtrace}");
    assert!(bench.log.lines()[0].starts_with("panics Critical panic: panicked at"));
}

#[tokio::test(start_paused = true)]
async fn s1_floods() {
    let bench = Bench::new();
    let flood = bench.load("floods").await;
    assert_eq!(run(&flood, call("")).await.unwrap().outputs, [], "logging too much is no failure");
    let stats = bench.stats("floods");
    assert_eq!(bench.log.lines().len(), 100, "one second's worth at once");
    assert_eq!((stats.log_lines(), stats.log_lines_dropped()), (100, 9_900));

    tokio::time::sleep(Duration::from_millis(1_001)).await;
    let lines = bench.log.lines();
    insta::assert_snapshot!(lines[100..].join("\n"), @"floods Warn host: 9900 log lines dropped (limits.log-lines-per-second)");
}

#[tokio::test]
async fn s2_too_many_outputs() {
    let (bench, error) = harms_only_its_own_event("too-many-outputs", |_| {}).await;
    assert_eq!(error.class, ErrorClass::Output);
    insta::assert_snapshot!(error.message, @"returned 1001 events, more than 1000 (limits.output-records)");
    assert_eq!(bench.stats("too-many-outputs").limit_hits(ErrorClass::Output), 2);
}

#[tokio::test]
async fn s2_too_many_bytes() {
    let (bench, error) = harms_only_its_own_event("too-many-bytes", |_| {}).await;
    assert_eq!(error.class, ErrorClass::Output);
    insta::assert_snapshot!(error.message, @"returned 4194305 bytes, more than 4194304 (limits.output-bytes)");
    assert_eq!(bench.stats("too-many-bytes").limit_hits(ErrorClass::Output), 2);
}

/// 60 records that share 2 MiB: 120 MiB on the host, if it copied them to count them.
#[tokio::test]
async fn s2_amplifies() {
    let bench = Bench::new();
    let amplifies = LoadSpec::new("amplifies");
    let amplifies = bench.host.load(program("amplifies"), amplifies).await.unwrap();
    let error = fails(&amplifies, "").await;
    assert_eq!(error.class, ErrorClass::Output);
    insta::assert_snapshot!(error.message, @"passed far more to the host than it may (limits.output-bytes)");
}

async fn sleeper(bench: &Bench, ms: u64, tag: &str, concurrency: usize) -> Arc<Generation> {
    let configure = |spec: &mut LoadSpec| {
        spec.grants.insert(Grant::Clocks);
        spec.concurrency = concurrency;
        spec.config = [("ms".into(), ms.to_string()), ("tag".into(), tag.into())].into();
    };
    bench.load_with("sleeps", configure).await
}

#[tokio::test(start_paused = true)]
async fn s2_sleeps() {
    let bench = Bench::new();
    let short = sleeper(&bench, 9_000, "done", 1).await;
    assert_eq!(only(&run(&short, call("")).await), "done");
    let long = sleeper(&bench, 11_000, "never", 1).await;
    let began = tokio::time::Instant::now();
    let error = fails(&long, "").await;
    assert_eq!(error.class, ErrorClass::Deadline);
    insta::assert_snapshot!(error.message, @"took longer than 10 s (limits.wall-time)");
    assert_eq!(began.elapsed().as_secs(), 10);
    assert_eq!(bench.stats("sleeps").limit_hits(ErrorClass::Deadline), 1);
}

/// Each limit counts for itself alone.
#[tokio::test(start_paused = true)]
async fn s2_each_limit_has_its_own_class_and_counter() {
    let bench = Bench::new();
    let cases = [
        ("loops", ErrorClass::CpuTime),
        ("sleeps", ErrorClass::Deadline),
        ("allocates", ErrorClass::Memory),
        ("too-many-bytes", ErrorClass::Output),
        ("traps", ErrorClass::Trap),
    ];
    for (name, class) in cases {
        let configure = |spec: &mut LoadSpec| {
            spec.limits.cpu_time = Duration::from_millis(100);
            spec.grants.insert(Grant::Clocks);
            spec.config = [("ms".into(), "60000".into())].into();
        };
        let generation = bench.load_with(name, configure).await;
        let error = fails(&generation, "").await;
        assert_eq!((error.class, error.code.as_str()), (class, class.as_str()), "{name}");
        let stats = bench.stats(name);
        let hits = ErrorClass::ALL.map(|class| stats.limit_hits(class));
        let counted: u64 = hits.iter().sum();
        assert_eq!((counted + stats.traps(), stats.host_errors()), (1, 0), "{name}");
        let own = if class == ErrorClass::Trap { stats.traps() } else { stats.limit_hits(class) };
        assert_eq!(own, 1, "{name}");
    }
}
