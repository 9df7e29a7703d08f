//! A real broker that is killed and started again. In a file of its own, so that no
//! other test runs while the broker is away.

mod common;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use common::*;
use sandbar_core::{Connection, Outgoing, SubscriptionSpec};

/// The folder of a node that `scripts/kafka/start` started, which the test may kill.
fn node() -> Option<PathBuf> {
    let dir = std::env::var_os("SANDBAR_KAFKA_DIR").filter(|d| !d.is_empty());
    if dir.is_none() {
        let missing = "MISSING BROKER: an Apache Kafka that may be killed (set SANDBAR_KAFKA_DIR to \
                       the folder given to scripts/kafka/start)";
        assert!(std::env::var("CI").as_deref() != Ok("true"), "{missing}");
        println!("{missing}");
    }
    dir.map(PathBuf::from)
}

fn kill(dir: &Path) {
    let pid = std::fs::read_to_string(dir.join("kafka.pid")).unwrap();
    assert!(Command::new("kill").args(["-9", pid.trim()]).status().unwrap().success());
}

fn start(dir: &Path) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../scripts/kafka/start");
    let output = Command::new(script).arg(dir).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn e1_a_broker_killed_and_started_again_loses_nothing_acknowledged_and_repeats_no_output() {
    let Some(dir) = node() else { return };
    let brokers = std::fs::read_to_string(dir.join("address")).unwrap().trim().to_owned();
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

    kill(&dir);
    let away = worker.away.clone();
    until("the source reports it", || away.load(Ordering::Relaxed) > 0).await;
    until("the sink reports it", || refused.load(Ordering::Relaxed) > 0).await;
    let starting = dir.clone();
    tokio::task::spawn_blocking(move || start(&starting)).await.unwrap();

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
