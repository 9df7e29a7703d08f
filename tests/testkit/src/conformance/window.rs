//! Intake: how much, how long, until when.

use std::time::Duration;

use sandbar_core::{Guarantees, SubscriptionSpec};
use tokio::time::{sleep, timeout};

use super::{
    Bench,
    bench::spec,
    consumer::{Got, assert_order, numbers},
};

/// Whoever waits for deliveries may stop waiting at any moment.
pub async fn cancelled_calls_lose_nothing(bench: &Bench) {
    let connection = bench.connect().await;
    let topic = bench.topic(&connection, "cancelled").await;
    let spec = spec(&topic);
    let mut consumer = bench.open(&connection, &spec).await;
    let mut got: Vec<Got> = Vec::new();
    for n in 0..50 {
        bench.publish(&connection, &bench.numbered(&topic, n, 1)).await;
        // polled once, and for about as long as a delivery takes
        for patience in [0, 1] {
            let waited = timeout(Duration::from_millis(patience), consumer.step(3)).await;
            let some: Vec<Got> = waited.into_iter().flatten().flatten().collect();
            if bench.declared().locks_keys {
                consumer.done(&some).await.expect("settles");
            }
            got.extend(some);
        }
    }
    let held = if bench.declared().locks_keys { 0 } else { got.len() };
    let rest = 50 - got.len();
    got.extend(bench.handle(&mut consumer, rest).await);
    assert_eq!(numbers(&got), (0..50).collect::<Vec<_>>(), "each once");
    assert_order(bench.guarantees(), &got);
    consumer.done(&got[..held]).await.expect("settles");
    consumer.close().await;
    bench.nothing_left(&connection, &spec).await;
}

/// With as much in work as was asked for, more may come or not; nothing is lost, it goes
/// on with the first settlement, and what is not taken in is there for others.
pub async fn full_window(bench: &Bench) {
    let connection = bench.connect().await;
    let topic = bench.topic(&connection, "window").await;
    let spec = SubscriptionSpec { prefetch: 10, ..spec(&topic) };
    let mut consumer = bench.open(&connection, &spec).await;
    bench.publish(&connection, &bench.numbered_to_hold(&topic, 0, 100, 20)).await;
    let mut waiting = consumer.take(10).await;
    let mut all = taken_by_others(bench, &spec).await;
    let elsewhere = all.len();
    waiting.extend(consumer.listen(Duration::from_millis(300)).await);
    while !waiting.is_empty() {
        consumer.done(&waiting).await.expect("settles");
        all.append(&mut waiting);
        waiting = consumer.take(100_usize.saturating_sub(all.len()).min(1)).await;
    }
    assert_eq!(numbers(&all), (0..100).collect::<Vec<_>>(), "each once");
    assert_order(bench.guarantees(), &all[elsewhere..]);
    consumer.close().await;
    bench.nothing_left(&connection, &spec).await;
}

/// What a second process gets and settles while the first takes in nothing: most of it.
/// None where it is not free to take it, since partitions and keys have one owner.
async fn taken_by_others(bench: &Bench, spec: &SubscriptionSpec) -> Vec<Got> {
    let Guarantees { spread_over_processes, ordered, .. } = bench.guarantees();
    if !spread_over_processes || ordered || bench.partitions() > 1 {
        return Vec::new();
    }
    let connection = bench.connect_elsewhere().await.expect("another process");
    let mut other = bench.open(&connection, spec).await;
    let mut got = Vec::new();
    while got.len() < 50 {
        let some = other.take(spec.prefetch).await;
        other.done(&some).await.expect("settles");
        got.extend(some);
    }
    other.close().await;
    got
}

/// What is in work is lent for as long as that takes, and not delivered again meanwhile.
pub async fn long_handling(bench: &Bench) {
    let lease = bench.declared().lease.expect("demanded only where there is one");
    let connection = bench.connect().await;
    let topic = bench.topic(&connection, "long").await;
    let spec = spec(&topic);
    let mut consumer = bench.open(&connection, &spec).await;
    bench.publish(&connection, &bench.numbered(&topic, 0, 5)).await;
    let got = consumer.take(3).await;
    // the last two lie ready in the adapter, and are lent as well
    sleep(lease.mul_f32(2.5)).await;
    let rest = consumer.take(2).await;
    assert_eq!(numbers(got.iter().chain(&rest)), [0, 1, 2, 3, 4], "each once");
    assert!(consumer.listen(lease).await.is_empty(), "none came again");
    consumer.done(got.iter().chain(&rest)).await.expect("settles, late as it is");
    consumer.close().await;
    bench.nothing_left(&connection, &spec).await;
}

/// A subscription until the end gives what is there, and then says that it is at the end.
pub async fn until_end(bench: &Bench) {
    let connection = bench.connect().await;
    let topic = bench.topic(&connection, "until-end").await;
    let spec = spec(&topic);
    bench.open(&connection, &spec).await.close().await;
    let bounded = SubscriptionSpec { until_end: true, ..spec.clone() };
    let mut consumer = bench.subscribe(&connection, &bounded).await;
    assert!(bench.drain(&mut consumer).await.is_empty(), "of an empty topic");
    consumer.close().await;

    bench.publish(&connection, &bench.numbered(&topic, 0, 30)).await;
    let mut consumer = bench.subscribe(&connection, &bounded).await;
    let got = bench.drain(&mut consumer).await;
    assert_eq!(numbers(&got), (0..30).collect::<Vec<_>>(), "each once");
    assert_order(bench.guarantees(), &got);
    assert!(bench.drain(&mut consumer).await.is_empty(), "it is still at the end");
    if !bench.declared().locks_keys {
        consumer.done(&got).await.expect("settles at the end");
    }
    consumer.close().await;
    bench.nothing_left(&connection, &spec).await;
}
