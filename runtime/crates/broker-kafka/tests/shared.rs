//! Groups of one process that read a partition together: each still meets every record once, in order.

mod common;

use std::{sync::Arc, time::Duration};

use common::*;
use sandbar_broker_kafka::Kafka;
use sandbar_core::{Connection, Outgoing, Partition, PartitionId, ResumeFrom, SubscriptionSpec};
use tokio::task::JoinHandle;

/// Records of 2 KiB; all of a partition are more than is kept for those who read together.
const RECORDS: u64 = 4_000;
const SIZE: usize = 2 << 10;

fn records(topic: &str, from: u64, to: u64) -> Vec<Outgoing> {
    let payload = |n: u64| format!("{n:0>SIZE$}");
    (from..to).map(|n| Outgoing::new(topic, payload(n)).with_key("one partition")).collect()
}

/// Takes `count` records, `batch` at once with `pause` after each, and expects their numbers from `first` on.
fn taking(
    mut partition: Box<dyn Partition>,
    (first, count): (u64, u64),
    batch: usize,
    pause: Duration,
) -> JoinHandle<Box<dyn Partition>> {
    tokio::spawn(async move {
        let mut next = first;
        while next < first + count {
            let ready = recv(&mut partition, batch).await;
            for delivery in &ready {
                assert_eq!(number(&delivery.event), next);
                next += 1;
            }
            partition.settle(&ready.iter().map(done).collect::<Vec<_>>()).await.unwrap();
            tokio::time::sleep(pause).await;
        }
        partition
    })
}

async fn shared(kafka: &Kafka, partitions: usize) {
    until("partitions are shared", || kafka.shared_partitions() == partitions).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn o1_c1_groups_that_read_together_miss_nothing_at_any_pace() {
    let Some(brokers) = broker() else { return };
    let topic = unique("shared");
    let kafka = Arc::new(connect(&brokers, 1, &[]));
    publish(&kafka, &records(&topic, 0, 10)).await;

    let mut sources = Vec::new();
    let mut takers = Vec::new();
    let groups: Vec<String> = (0..6).map(|_| unique("shared")).collect();
    for group in &groups {
        // with effects and positions in transactions, too
        let exactly_once = takers.len() == 1;
        let spec = SubscriptionSpec { exactly_once, ..spec(group, &topic) };
        let mut source = kafka.subscribe(spec).await.unwrap();
        let partition = assigned(&mut source).await;
        takers.push(taking(partition, (0, 10), 100, Duration::ZERO).await.unwrap());
        sources.push(source);
    }
    shared(&kafka, 1).await;

    let published = tokio::spawn({
        let (kafka, topic) = (kafka.clone(), topic.clone());
        async move {
            for at in (10..RECORDS).step_by(100) {
                publish(&kafka, &records(&topic, at, RECORDS.min(at + 100))).await;
            }
        }
    });
    let paces = [(500, 0), (500, 0), (7, 1), (100, 20), (500, 0), (100, 60)];
    let takers = takers.into_iter().zip(paces).enumerate().map(|(n, (partition, (batch, ms)))| {
        tokio::spawn(async move {
            if n == 4 {
                // has nothing of it until all is there
                tokio::time::sleep(Duration::from_secs(3)).await;
            }
            taking(partition, (10, RECORDS - 10), batch, Duration::from_millis(ms)).await.unwrap()
        })
    });
    let takers: Vec<_> = takers.collect();
    let mut partitions = Vec::new();
    for taker in takers {
        partitions.push(taker.await.unwrap());
    }
    published.await.unwrap();
    // whoever had to read by itself has caught up
    shared(&kafka, 1).await;
    for group in &groups {
        committed(&kafka, group, &topic, 0, RECORDS).await;
    }

    // one is left in the end, which goes on by itself
    let last = partitions.pop().unwrap();
    let own = sources.pop().unwrap();
    drop(partitions);
    for source in sources {
        source.close().await.unwrap();
    }
    shared(&kafka, 0).await;
    publish(&kafka, &records(&topic, RECORDS, RECORDS + 50)).await;
    drop(taking(last, (RECORDS, 50), 10, Duration::ZERO).await.unwrap());
    own.close().await.unwrap();
    committed(&kafka, groups.last().unwrap(), &topic, 0, RECORDS + 50).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn c1_a_position_that_is_gone_is_no_shared_one() {
    let Some(brokers) = broker() else { return };
    let topic = unique("gone");
    let kafka = connect(&brokers, 1, &[]);
    publish(&kafka, &records(&topic, 0, 30)).await;
    let id = PartitionId { topic: topic.as_str().into(), partition: 0 };
    let groups = [unique("gone"), unique("gone")];
    for group in &groups {
        kafka.move_cursor(group, &id, ResumeFrom(5)).await.unwrap();
    }
    kafka.trim(&id, ResumeFrom(20)).await.unwrap();

    let mut held = Vec::new();
    for group in &groups {
        let mut source = kafka.subscribe(spec(group, &topic)).await.unwrap();
        let partition = assigned(&mut source).await;
        held.push((taking(partition, (20, 10), 10, Duration::ZERO), source));
    }
    for ((taker, source), group) in held.into_iter().zip(&groups) {
        drop(taker.await.unwrap());
        source.close().await.unwrap();
        committed(&kafka, group, &topic, 0, 30).await;
    }
}
