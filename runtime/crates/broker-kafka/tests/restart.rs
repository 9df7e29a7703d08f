//! A real broker that is killed and started again. In a file of its own, so that no
//! other test runs while the broker is away.

mod common;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use common::*;
use sandbar_core::{Connection, Outgoing, SubscriptionSpec};
use sandbar_testkit::{conformance::Switch, server::KAFKA_3};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn e1_a_broker_killed_and_started_again_loses_nothing_acknowledged_and_repeats_no_output() {
    let (Some(brokers), Some(node)) = (KAFKA_3.address(), KAFKA_3.killable()) else { return };
    let (topic, group) = (unique("killed"), unique("killed"));
    let kafka = Arc::new(connect(&brokers, 3, &[("message.timeout.ms", "5000")]));
    kafka.ensure_topics(std::slice::from_ref(&topic)).await.unwrap();
    let worker = Worker::start(kafka.subscribe(spec(&group, &topic)).await.unwrap());
    // e1: and one that copies each record in a transaction
    let (out, copiers) = (unique("killed-out"), unique("killed-copies"));
    kafka.ensure_topics(std::slice::from_ref(&out)).await.unwrap();
    let spec = SubscriptionSpec { exactly_once: true, ..spec(&copiers, &topic) };
    let stats = spec.stats.clone();
    let copier = Worker::copying(kafka.subscribe(spec).await.unwrap(), &out);

    // publishes numbers one after the other, each until it is acknowledged
    let (stop, acknowledged) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let refused = Arc::new(AtomicU64::new(0));
    let publisher = {
        let (kafka, topic) = (kafka.clone(), topic.clone());
        let (stop, acknowledged, refused) = (stop.clone(), acknowledged.clone(), refused.clone());
        tokio::spawn(async move {
            let mut next = 0_u64;
            while !stop.load(Ordering::Relaxed) {
                let batch: Vec<_> = (next..next + 20)
                    .map(|n| {
                        Outgoing::new(topic.as_str(), n.to_string()).with_key(format!("k{}", n % 9))
                    })
                    .collect();
                let results = kafka.sink().publish(&batch).await;
                if results.iter().all(Result::is_ok) {
                    next += 20;
                    acknowledged.store(next, Ordering::Relaxed);
                } else {
                    refused.fetch_add(1, Ordering::Relaxed);
                    let rejected = results
                        .iter()
                        .find(|r| matches!(r, Err(sandbar_core::PublishError::Rejected(_))));
                    assert!(rejected.is_none(), "{rejected:?}");
                }
            }
        })
    };
    let passed = |n: u64| acknowledged.load(Ordering::Relaxed) >= n;
    until("it runs", || passed(1_000) && worker.handled.lock().len() > 500).await;

    node.kill().await;
    let away = worker.away.clone();
    until("the source reports it", || away.load(Ordering::Relaxed) > 0).await;
    until("the sink reports it", || refused.load(Ordering::Relaxed) > 0).await;
    node.start().await;

    let before = acknowledged.load(Ordering::Relaxed);
    until("it runs again", || passed(before + 1_000)).await;
    stop.store(true, Ordering::Relaxed);
    publisher.await.unwrap();
    let total = acknowledged.load(Ordering::Relaxed);

    let count = |events: &[sandbar_core::Event]| {
        let mut seen: BTreeMap<u64, u32> = BTreeMap::new();
        events.iter().for_each(|e| *seen.entry(number(e)).or_default() += 1);
        seen
    };
    let stored = count(&read_all(&kafka, &topic).await);
    let lost: Vec<u64> = (0..total).filter(|n| !stored.contains_key(n)).collect();
    assert!(lost.is_empty(), "acknowledged and not stored: {lost:?}");
    until("all are handled", || count(&worker.handled.lock()).len() as u64 >= total).await;
    // as often as it is in the topic, which may be twice
    until("all are copied", || count(&copier.handled.lock()) == stored).await;
    copier.stop().await.unwrap();
    assert_eq!(counted(&kafka, &out).await, stored, "copied");
    println!(
        "{} transactions committed, {} aborted",
        stats.transactions_committed(),
        stats.transactions_aborted()
    );
    println!(
        "{total} acknowledged, {} stored twice (published again without an answer), {} reports",
        stored.values().filter(|n| **n > 1).count(),
        away.load(Ordering::Relaxed)
    );
    worker.stop().await.unwrap();
    kafka.close().await;
}
