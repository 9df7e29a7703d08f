//! Deliveries and what becomes of them.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    Bench,
    bench::spec,
    consumer::{assert_order, number, numbers},
};

pub async fn declares_what_it_promises(bench: &Bench) {
    let connection = bench.connect().await;
    let topic = bench.topic(&connection, "promises").await;
    assert_eq!(connection.guarantees(), bench.guarantees(), "of the connection");
    let consumer = bench.open(&connection, &spec(&topic)).await;
    assert_eq!(consumer.guarantees(), bench.guarantees(), "of its source");
    consumer.close().await;
}

pub async fn order(bench: &Bench) {
    let connection = bench.connect().await;
    let topic = bench.topic(&connection, "order").await;
    let spec = spec(&topic);
    let mut consumer = bench.open(&connection, &spec).await;
    for batch in 0..10 {
        bench.publish(&connection, &bench.numbered(&topic, batch * 20, 20)).await;
    }
    let mut got = Vec::new();
    while got.len() < 200 {
        got.extend(bench.handle(&mut consumer, 50).await);
    }
    assert_eq!(numbers(&got), (0..200).collect::<Vec<_>>(), "each once");
    assert_order(bench.guarantees(), &got);
    consumer.close().await;
    bench.nothing_left(&connection, &spec).await;
}

/// What was not settled comes again to the next subscription of the group.
pub async fn redelivery(bench: &Bench) {
    let connection = bench.connect().await;
    let topic = bench.topic(&connection, "redelivery").await;
    let spec = spec(&topic);
    let mut consumer = bench.open(&connection, &spec).await;
    let held = if bench.declared().locks_keys { 5 } else { 10 };
    bench.publish(&connection, &bench.numbered(&topic, 0, 10)).await;
    let first = consumer.take(held).await;
    assert!(first.iter().all(|g| g.delivery.redeliveries == 0), "none was delivered before");
    consumer.close().await;

    let mut consumer = bench.open(&connection, &spec).await;
    let again = bench.handle(&mut consumer, 10).await;
    assert_eq!(numbers(&again), (0..10).collect::<Vec<_>>());
    assert_order(bench.guarantees(), &again);
    for got in again.iter().filter(|got| first.iter().any(|f| number(f) == number(got))) {
        let counted = got.delivery.redeliveries > 0;
        assert_eq!(counted, bench.guarantees().redelivery_counted, "{:?}", got.delivery);
    }
    consumer.close().await;
    bench.nothing_left(&connection, &spec).await;
}

pub async fn settle_out_of_order(bench: &Bench) {
    let connection = bench.connect().await;
    let topic = bench.topic(&connection, "out-of-order").await;
    let spec = spec(&topic);
    let mut consumer = bench.open(&connection, &spec).await;
    bench.publish(&connection, &bench.numbered_to_hold(&topic, 0, 20, 20)).await;
    let got = consumer.take(20).await;
    let third = |rest: u64| got.iter().rev().filter(move |g| number(g) % 3 == rest);
    consumer.done(third(1)).await.expect("settles backwards");
    consumer.done(third(0)).await.expect("settles backwards again");
    consumer.close().await;

    let left = bench.left(&connection, &spec).await;
    assert_eq!(numbers(&left), numbers(third(2)), "those that were not settled, and no others");
    assert_order(bench.guarantees(), &left);
}

/// What is given back comes again, to this subscription or the next of the group.
pub async fn release(bench: &Bench) {
    let connection = bench.connect().await;
    let topic = bench.topic(&connection, "release").await;
    let spec = spec(&topic);
    let mut consumer = bench.open(&connection, &spec).await;
    bench.publish(&connection, &bench.numbered_to_hold(&topic, 0, 10, 10)).await;
    let got = consumer.take(10).await;
    let odd = got.iter().filter(|g| number(g) % 2 == 1);
    consumer.release(odd.clone(), Duration::ZERO).await.expect("gives back");
    consumer.done(got.iter().filter(|g| number(g).is_multiple_of(2))).await.expect("settles");
    consumer.close().await;
    assert_eq!(numbers(&bench.left(&connection, &spec).await), numbers(odd));
}

/// The broker delivers it to the same subscription, no sooner than was asked for.
pub async fn release_with_delay(bench: &Bench) {
    let delay = Duration::from_millis(1500);
    let connection = bench.connect().await;
    let topic = bench.topic(&connection, "delay").await;
    let spec = spec(&topic);
    let mut consumer = bench.open(&connection, &spec).await;
    // of one key, and of one partition
    let mut records = bench.numbered(&topic, 0, 2);
    records.iter_mut().for_each(|r| r.key = None);
    bench.publish(&connection, &records).await;
    let got = consumer.take(2).await;
    let late = got.iter().find(|g| number(g) == 0).expect("the first");
    let since = Instant::now();
    consumer.release([late], delay).await.expect("gives back");
    consumer.done(got.iter().filter(|g| number(g) == 1)).await.expect("settles");
    let again = consumer.take(1).await;
    assert!(since.elapsed() >= delay, "it came after {:?}", since.elapsed());
    assert_eq!(numbers(&again), [0]);
    assert_eq!(again[0].delivery.redeliveries > 0, bench.guarantees().redelivery_counted);
    // without delay, at once
    consumer.release(&again, Duration::ZERO).await.expect("gives back");
    let again = consumer.take(1).await;
    consumer.done(&again).await.expect("settles");
    consumer.close().await;
    bench.nothing_left(&connection, &spec).await;
}

/// What lies ready in the adapter when it is closed is given back.
pub async fn close_without_loss(bench: &Bench) {
    let connection = bench.connect().await;
    let topic = bench.topic(&connection, "close").await;
    let spec = spec(&topic);
    bench.open(&connection, &spec).await.close().await;
    bench.publish(&connection, &bench.numbered(&topic, 0, 100)).await;
    let mut all = Vec::new();
    // something is left of whatever was fetched together
    for count in [18, 21, 19, 23, 19] {
        let mut consumer = bench.open(&connection, &spec).await;
        let got = bench.handle(&mut consumer, count).await;
        assert_order(bench.guarantees(), &got);
        consumer.close().await;
        all.extend(got);
    }
    assert_eq!(numbers(&all), (0..100).collect::<Vec<_>>(), "each once");
    bench.nothing_left(&connection, &spec).await;
}

/// Some of a batch are settled, some given back, some neither, and an intake waits.
pub async fn shutdown_in_mid_batch(bench: &Bench) {
    let connection = bench.connect().await;
    let topic = bench.topic(&connection, "shutdown").await;
    let spec = spec(&topic);
    let mut consumer = bench.open(&connection, &spec).await;
    bench.publish(&connection, &bench.numbered_to_hold(&topic, 0, 60, 60)).await;
    let got = consumer.take(50).await;
    let part = |n: usize| got.iter().skip(n).step_by(3);
    consumer.done(part(0)).await.expect("settles");
    let stopped = Instant::now() + Duration::from_millis(5);
    let mut late = Vec::new();
    while Instant::now() < stopped {
        late.extend(consumer.listen(Duration::from_millis(1)).await);
    }
    consumer.release(part(1), Duration::ZERO).await.expect("gives back");
    consumer.close().await;

    let settled = numbers(part(0));
    let expected: Vec<_> = (0..60).filter(|n| !settled.contains(n)).collect();
    let left = bench.left(&connection, &spec).await;
    assert_eq!(numbers(&left), expected);
    assert_order(bench.guarantees(), &left);
    assert!(late.iter().all(|g| !settled.contains(&number(g))), "settled, and came again");
}
