//! Lanes, window and position under random outcomes, delays and stops.

use std::{ops::Range, time::Duration};

use proptest::{collection::vec, prelude::*, sample::select};
use sandbar_pipeline::{Ordering, SubscriptionConfig};
use tokio::time::sleep;

use crate::support::{
    Running, config, p, until,
    world::{Script, Step, World},
};

#[derive(Debug, Clone)]
struct Plan {
    events: Vec<(Option<u8>, u64, Script)>,
    ordering: Ordering,
    concurrency: usize,
    window: usize,
    batch: usize,
    atomic: bool,
    latency: u64,
    /// Runs that are stopped: after how long, and with how much time to drain.
    stops: Vec<(u64, u64)>,
}

fn script() -> impl Strategy<Value = Script> {
    let step = prop_oneof![
        4 => (0..3u8).prop_map(Step::Ok),
        2 => select(vec![Step::Retry, Step::Trap]),
        1 => select(vec![Step::Skip, Step::Reject, Step::Defer]),
    ];
    (vec(step, 1..4), 0..300u64).prop_map(|(steps, millis)| Script { steps, millis })
}

fn plan() -> impl Strategy<Value = Plan> {
    let key = prop_oneof![1 => Just(None), 4 => (0..4u8).prop_map(Some)];
    let gap = prop_oneof![5 => Just(0), 1 => 1..9u64];
    let small = |range: Range<usize>| range;
    (
        vec((key, gap, script()), 1..40),
        select(vec![Ordering::Key, Ordering::Partition, Ordering::None]),
        (small(1..6), small(1..20), small(1..5)),
        any::<bool>(),
        select(vec![0, 5, 200]),
        vec((0..3000u64, 1..2000u64), 0..4),
    )
        .prop_map(
            |(events, ordering, (concurrency, window, batch), atomic, latency, stops)| Plan {
                events,
                ordering,
                concurrency,
                window,
                batch,
                atomic,
                latency,
                stops,
            },
        )
}

async fn play(plan: &Plan) {
    let world = World::new(plan.atomic, Duration::from_millis(plan.latency), plan.ordering, 3);
    for (key, gap, script) in &plan.events {
        world.append(0, *key, *gap, script.clone());
    }
    let config = SubscriptionConfig {
        ordering: plan.ordering,
        concurrency: plan.concurrency,
        max_in_flight: plan.window,
        ..config()
    };
    for (after, drain) in &plan.stops {
        let running =
            Running::on_partition(&world.broker, config.clone(), world.handler(plan.batch)).await;
        sleep(Duration::from_millis(*after)).await;
        running.drain(Duration::from_millis(*drain)).await.unwrap();
    }
    let running = Running::on_partition(&world.broker, config, world.handler(plan.batch)).await;
    until("everything is committed", || {
        let snapshot = running.stats.snapshot();
        assert!(snapshot.in_flight <= plan.window as i64, "C4: {snapshot:?}");
        world.is_done()
    })
    .await;
    running.drain(Duration::from_secs(10)).await.unwrap();
    assert_eq!(world.broker.committed(&p(0)), world.broker.end(&p(0)));
    world.check();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn o1_o2_c1_c2_c4_hold_whatever_happens(plan in plan()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.unwrap().block_on(play(&plan));
    }
}
