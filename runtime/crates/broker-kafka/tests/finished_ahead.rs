//! Against a real Apache Kafka broker: events finished beyond the committed position
//! (contract C3), where positions are not committed in transactions.

mod common;

use std::{collections::BTreeSet, time::Duration};

use common::*;
use rdkafka::{
    ClientConfig, Offset, TopicPartitionList,
    consumer::{BaseConsumer, CommitMode, Consumer},
};
use sandbar_core::{Connection, Source, SubscriptionSpec};

/// A member of `group` that never joins it.
fn bystander(brokers: &str, group: &str) -> BaseConsumer {
    ClientConfig::new().set("bootstrap.servers", brokers).set("group.id", group).create().unwrap()
}

/// What the broker has for partition 0 of `topic`.
fn committed_metadata(consumer: &BaseConsumer, topic: &str) -> (Offset, String) {
    let mut list = TopicPartitionList::new();
    list.add_partition(topic, 0);
    let found = consumer.committed_offsets(list, PATIENCE).unwrap();
    let element = &found.elements()[0];
    (element.offset(), element.metadata().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn c3_finished_events_are_committed_while_the_position_stands_still() {
    let Some(brokers) = broker() else { return };
    let (topic, group) = (unique("c3"), unique("c3"));
    let kafka = connect(&brokers, 1, &[]);
    publish(&kafka, &numbered(&topic, 20, 1)).await;
    let mut source = kafka.subscribe(spec(&group, &topic)).await.unwrap();
    let mut partition = assigned(&mut source).await;
    recv_all(&mut partition, 20).await;
    let bystander = bystander(&brokers, &group);
    // one after the other: each is committed although the position moves with none of them
    let mut before = String::new();
    for position in [5, 6, 19] {
        partition.settle(&[done_at(position)]).await.unwrap();
        until("the metadata moved", || {
            let (offset, metadata) = committed_metadata(&bystander, &topic);
            offset == Offset::Offset(0) && !metadata.is_empty() && metadata != before
        })
        .await;
        before = committed_metadata(&bystander, &topic).1;
    }
    // a position of its own does not lose them
    partition.settle(&[done_at(0)]).await.unwrap();
    committed(&kafka, &group, &topic, 0, 1).await;
    assert!(!committed_metadata(&bystander, &topic).1.is_empty());
    // as much as a killed process leaves behind: nothing is settled on the way out
    drop(partition);
    source.close().await.unwrap();

    let mut source = kafka.subscribe(spec(&group, &topic)).await.unwrap();
    let mut partition = assigned(&mut source).await;
    let again = recv_all(&mut partition, 16).await;
    let finished = [0, 5, 6, 19];
    assert_eq!(positions(&again), (0..20).filter(|p| !finished.contains(p)).collect::<Vec<_>>());
    partition.settle(&again.iter().map(done).collect::<Vec<_>>()).await.unwrap();
    // behind them the position passes what is never delivered here
    let more = tokio::time::timeout(Duration::from_millis(500), partition.recv(10)).await;
    assert!(more.is_err(), "19 was finished");
    committed(&kafka, &group, &topic, 0, 20).await;
    assert_eq!(committed_metadata(&bystander, &topic).1, "");
    drop(partition);
    source.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn c3_metadata_of_other_programs_changes_nothing() {
    let Some(brokers) = broker() else { return };
    let (topic, group) = (unique("c3"), unique("c3"));
    let kafka = connect(&brokers, 1, &[]);
    publish(&kafka, &numbered(&topic, 6, 1)).await;
    {
        let stranger = bystander(&brokers, &group);
        let mut list = TopicPartitionList::new();
        let mut element = list.add_partition(&topic, 0);
        element.set_offset(Offset::Offset(2)).unwrap();
        element.set_metadata("sb1:from host-7");
        stranger.commit(&list, CommitMode::Sync).unwrap();
    }
    let mut source = kafka.subscribe(spec(&group, &topic)).await.unwrap();
    let mut partition = assigned(&mut source).await;
    assert_eq!(positions(&recv_all(&mut partition, 4).await), [2, 3, 4, 5]);
    drop(partition);
    source.close().await.unwrap();
}

/// Every second event of a long topic waits for its retry.
async fn fill_up(spec: SubscriptionSpec) -> Option<()> {
    const COUNT: u64 = 40_000;
    let brokers = broker()?;
    let (topic, group) = (spec.topics[0].clone(), spec.group.clone());
    // evicted within two seconds, were it not for the polling
    let properties = [
        ("session.timeout.ms", "2000"),
        ("max.poll.interval.ms", "2000"),
        ("heartbeat.interval.ms", "500"),
    ];
    let kafka = connect(&brokers, 1, &properties);
    publish(&kafka, &numbered(&topic, COUNT, 50)).await;
    let stats = spec.stats.clone();
    let mut source = kafka.subscribe(spec.clone()).await.unwrap();
    let mut partition = assigned(&mut source).await;
    let mut waiting = BTreeSet::new();
    let quiet = Duration::from_secs(3);
    while let Ok(ready) = tokio::time::timeout(quiet, partition.recv(500)).await {
        let (finished, open): (Vec<_>, Vec<_>) =
            positions(&ready.unwrap()).into_iter().partition(|p| p % 2 == 1);
        waiting.extend(open);
        let finished: Vec<_> = finished.into_iter().map(done_at).collect();
        partition.settle(&finished).await.unwrap();
    }
    // it stopped by itself, at three quarters and not at the brokers' limit
    let taken = waiting.last().unwrap() + 2;
    assert!(taken < COUNT, "all was taken in");
    until("the fill is told", || (0.75..0.85).contains(&stats.metadata_fill())).await;
    let bystander = bystander(&brokers, &group);
    until("all of it is committed", || {
        let (offset, metadata) = committed_metadata(&bystander, &topic);
        offset == Offset::Offset(0) && (3072..=4096).contains(&metadata.len())
    })
    .await;
    assert!(
        tokio::time::timeout(Duration::from_millis(100), source.next()).await.is_err(),
        "the member was evicted, or told of trouble"
    );
    // what waits goes on to be finished, and makes room
    let first: Vec<u64> = waiting.iter().copied().take(waiting.len() / 2).collect();
    for chunk in first.chunks(500) {
        partition.settle(&chunk.iter().copied().map(done_at).collect::<Vec<_>>()).await.unwrap();
        waiting.retain(|p| !chunk.contains(p));
    }
    let more = recv(&mut partition, 100).await;
    assert_eq!(more[0].event.position, taken);
    drop(partition);
    source.close().await.unwrap();

    // a restart repeats what waited and what was not settled, and nothing else
    let mut source = kafka.subscribe(spec).await.unwrap();
    let mut partition = assigned(&mut source).await;
    let again = recv_all(&mut partition, waiting.len() + 10).await;
    let expected: Vec<u64> = waiting.into_iter().chain(taken..taken + 10).collect();
    assert_eq!(positions(&again), expected);
    drop(partition);
    source.close().await.unwrap();
    Some(())
}

#[tokio::test(flavor = "multi_thread")]
async fn c3_at_three_quarters_intake_stops_and_the_member_stays() {
    fill_up(spec(&unique("c3-full"), &unique("c3-full"))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn c3_at_three_quarters_intake_stops_in_transactions_too() {
    let spec = spec(&unique("c3-full"), &unique("c3-full"));
    fill_up(SubscriptionSpec { exactly_once: true, ..spec }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_glob_matches_no_reserved_topic() {
    let Some(brokers) = broker() else { return };
    let name = unique("reserved");
    let [own, other] =
        ["own", "other"].map(|g| sandbar_core::reserved::inbox(&format!("{name}.{g}")));
    let plain = format!("plain-{name}");
    let kafka = connect(&brokers, 2, &[]);
    for topic in [&own, &other, &plain] {
        publish(&kafka, &numbered(topic, 40, 20)).await;
    }
    let spec = SubscriptionSpec {
        topics: vec![format!("*{name}*"), own.clone()],
        ..spec(&unique("reserved"), &own)
    };
    let mut source = kafka.subscribe(spec).await.unwrap();
    let mut partitions = Vec::new();
    for _ in 0..4 {
        partitions.push(assigned(&mut source).await);
    }
    let topics: BTreeSet<String> = partitions.iter().map(|p| p.id().topic.to_string()).collect();
    assert_eq!(topics, BTreeSet::from([own, plain]));
    for partition in &mut partitions {
        assert_eq!(positions(&recv_all(partition, 5).await), [0, 1, 2, 3, 4]);
    }
    // the other inbox was assigned to this member too, and says nothing
    quiet(&mut source).await;
    drop(partitions);
    source.close().await.unwrap();
}

/// Nothing is assigned, revoked or reported.
async fn quiet(source: &mut Box<dyn Source>) {
    let event = tokio::time::timeout(Duration::from_secs(1), source.next()).await;
    assert!(event.is_err(), "something happened");
}
