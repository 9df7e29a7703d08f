//! The program under the fault harness does what its events ask for.

use std::sync::Arc;

use sandbar_core::{ErrorClass, Verdict};
use sandbar_wasm::{Generation, Grant};

use crate::support::{Bench, call, fails, only, run};

async fn load(bench: &Bench, name: &str) -> Arc<Generation> {
    let configure = |spec: &mut sandbar_wasm::LoadSpec| {
        spec.grants.insert(Grant::Clocks);
        spec.config = [("topic".into(), "out".into()), ("tell".into(), "yes".into())].into();
    };
    bench.load_with(name, configure).await
}

#[tokio::test]
async fn program_chaos() {
    let bench = Bench::new();
    let chaos = load(&bench, "chaos").await;
    let output = only(&run(&chaos, call("7 1 ok")).await);
    let words: Vec<&str> = output.split(' ').collect();
    let ["7", "3", "1", "1", "1.0.0", began, ended] = words[..] else { panic!("{output}") };
    assert!(began.parse::<u64>().unwrap() < ended.parse::<u64>().unwrap(), "{output}");

    for (payload, verdict, class) in [
        ("8 0 reject", Verdict::Reject, ErrorClass::Handler),
        ("8 0 exhaust", Verdict::Retry { after: None }, ErrorClass::Handler),
        ("8 0 trap", Verdict::Retry { after: None }, ErrorClass::Trap),
        ("not ours", Verdict::Reject, ErrorClass::Handler),
    ] {
        let error = fails(&chaos, payload).await;
        assert_eq!((error.verdict, error.class), (verdict, class), "{payload}");
    }
    let mut again = call("9 0 retry 1 40");
    assert!(run(&chaos, again.clone()).await.is_err(), "the first attempt fails");
    again.attempt = 2;
    assert!(only(&run(&chaos, again).await).starts_with("9 3 1 2 "));
    assert!(bench.log.lines().iter().any(|line| line.contains("attempt: failed  9 ")));
}

#[tokio::test]
async fn program_chaos_v2() {
    let bench = Bench::new();
    let chaos = load(&bench, "chaos-v2").await;
    assert!(only(&run(&chaos, call("7 0 ok")).await).contains(" 2.0.0 "));
}
