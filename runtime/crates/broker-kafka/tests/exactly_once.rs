//! Against a real Apache Kafka broker: outputs and positions in one transaction.

mod common;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use common::*;
use rdkafka::{
    ClientConfig, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    producer::{BaseProducer, Producer},
};
use sandbar_broker_kafka::Kafka;
use sandbar_core::{
    AckToken, Connection, Disposition, Outgoing, SourceError, SourceEvent, SourceStats,
    SubscriptionSpec,
};

/// An exactly-once subscription of `group` to `topic`.
fn exactly_once(group: &str, topic: &str) -> SubscriptionSpec {
    SubscriptionSpec { exactly_once: true, ..spec(group, topic) }
}

fn name(what: &str) -> Arc<str> {
    unique(what).into()
}

fn once(numbers: impl IntoIterator<Item = u64>) -> BTreeMap<u64, u32> {
    numbers.into_iter().map(|n| (n, 1)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn e1_outputs_and_positions_become_visible_together_and_a_restart_goes_on_behind_them() {
    let Some(brokers) = broker() else { return };
    let (topic, out, group) = (unique("e1"), name("e1-out"), unique("e1"));
    let kafka = connect(&brokers, 1, &[]);
    publish(&kafka, &numbered(&topic, 10, 3)).await;
    let spec = exactly_once(&group, &topic);
    let stats: Arc<SourceStats> = spec.stats.clone();
    let mut source = kafka.subscribe(spec).await.unwrap();
    assert!(source.guarantees().atomic_effects && !source.guarantees().atomic_marks);
    let mut partition = assigned(&mut source).await;
    let all = recv_all(&mut partition, 10).await;
    let settle: Vec<_> = [0, 1, 4, 7].iter().map(|&n| copy(&all[n], &out)).collect();
    partition.settle(&settle).await.unwrap();
    // settled means committed: no waiting
    assert_eq!(counted(&kafka, &out).await, once([0, 1, 4, 7]));
    assert_eq!(kafka.cursors(&group).await.unwrap()[0].1.0, 2);
    assert_eq!((stats.transactions_committed() > 0, stats.transactions_aborted()), (true, 0));
    drop(partition);
    source.close().await.unwrap();

    // c3: 4 and 7 are finished, although the position is before them
    let mut source = kafka.subscribe(exactly_once(&group, &topic)).await.unwrap();
    let mut partition = assigned(&mut source).await;
    let rest = recv_all(&mut partition, 6).await;
    assert_eq!(positions(&rest), [2, 3, 5, 6, 8, 9]);
    partition.settle(&rest.iter().map(|d| copy(d, &out)).collect::<Vec<_>>()).await.unwrap();
    assert_eq!(counted(&kafka, &out).await, once(0..10));
    assert_eq!(kafka.cursors(&group).await.unwrap()[0].1.0, 10);
    drop(partition);
    source.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn e1_a_call_that_was_dropped_and_made_again_writes_once() {
    let Some(brokers) = broker() else { return };
    let (topic, out, group) = (unique("e1"), name("e1-out"), unique("e1"));
    let kafka = connect(&brokers, 1, &[]);
    publish(&kafka, &numbered(&topic, 40, 3)).await;
    let mut source = kafka.subscribe(exactly_once(&group, &topic)).await.unwrap();
    let mut partition = assigned(&mut source).await;
    let all = recv_all(&mut partition, 40).await;
    for (n, delivery) in all.iter().enumerate() {
        let settle = [copy(delivery, &out)];
        // dropped after a different time each, so also in the middle of a transaction
        let patience = Duration::from_micros(500 * n as u64);
        let _ = tokio::time::timeout(patience, partition.settle(&settle)).await;
        partition.settle(&settle).await.unwrap();
    }
    assert_eq!(counted(&kafka, &out).await, once(0..40));
    drop(partition);
    source.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn e1_a_record_that_can_never_be_written_is_named_and_the_others_are_written_once() {
    let Some(brokers) = broker() else { return };
    let (topic, out, group) = (unique("e1"), name("e1-out"), unique("e1"));
    let kafka = connect(&brokers, 1, &[]);
    publish(&kafka, &numbered(&topic, 9, 3)).await;
    let spec = exactly_once(&group, &topic);
    let stats = spec.stats.clone();
    let mut source = kafka.subscribe(spec).await.unwrap();
    let mut partition = assigned(&mut source).await;
    let all = recv_all(&mut partition, 9).await;
    let mut settle: Vec<_> = all.iter().map(|d| copy(d, &out)).collect();
    // more than a broker takes by default
    let large = vec![Outgoing::new(out.clone(), vec![b'7'; 3 << 20])];
    settle[5].disposition = Disposition::done(large);
    let refused = partition.settle(&settle).await;
    let Err(SourceError::Rejected { token, reason }) = refused else { panic!("{refused:?}") };
    assert_eq!(token, AckToken(5));
    assert!(reason.contains("too large") && reason.contains(&*out), "{reason}");
    assert!(stats.transactions_aborted() > 0);
    settle.remove(5);
    partition.settle(&settle).await.unwrap();
    assert_eq!(counted(&kafka, &out).await, once((0..9).filter(|n| *n != 5)));
    assert_eq!(kafka.cursors(&group).await.unwrap()[0].1.0, 5);

    // and a topic that may not be made
    let strict = Kafka::connect(
        "strict",
        sandbar_broker_kafka::KafkaConfig { brokers, ..Default::default() },
    )
    .unwrap();
    drop(partition);
    source.close().await.unwrap();
    let mut source = strict.subscribe(exactly_once(&group, &topic)).await.unwrap();
    let mut partition = assigned(&mut source).await;
    let fifth = recv_all(&mut partition, 1).await;
    assert_eq!(positions(&fifth), [5]);
    let refused = partition.settle(&[copy(&fifth[0], &name("missing"))]).await;
    let Err(SourceError::Rejected { token, reason }) = refused else { panic!("{refused:?}") };
    assert_eq!(token, AckToken(5));
    assert!(reason.contains("does not exist"), "{reason}");
    drop(partition);
    source.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn e1_one_transaction_takes_in_all_partitions_that_wait() {
    let Some(brokers) = broker() else { return };
    let (topic, out, group) = (unique("e1"), name("e1-out"), unique("e1"));
    let kafka = connect(&brokers, 8, &[]);
    publish(&kafka, &numbered(&topic, 800, 97)).await;
    let spec = exactly_once(&group, &topic);
    let stats = spec.stats.clone();
    let mut source = kafka.subscribe(spec).await.unwrap();
    let mut tasks = Vec::new();
    for _ in 0..8 {
        let (mut partition, out) = (assigned(&mut source).await, out.clone());
        tasks.push(tokio::spawn(async move {
            let mut calls = 0;
            while let Ok(ready) =
                tokio::time::timeout(Duration::from_secs(2), partition.recv(5)).await
            {
                let ready = ready.unwrap();
                let settle: Vec<_> = ready.iter().map(|d| copy(d, &out)).collect();
                partition.settle(&settle).await.unwrap();
                calls += 1;
            }
            calls
        }));
    }
    let mut calls = 0;
    for task in tasks {
        calls += task.await.unwrap();
    }
    assert_eq!(counted(&kafka, &out).await, once(0..800));
    let committed = stats.transactions_committed();
    assert!(committed < calls, "{committed} transactions for {calls} calls");
    assert_eq!(stats.transactions_aborted(), 0);
    source.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn h4_what_is_settled_while_draining_is_committed_in_a_transaction_before_the_partition_goes()
{
    let Some(brokers) = broker() else { return };
    let (topic, out, group) = (unique("h4"), name("h4-out"), unique("h4"));
    let kafka = connect(&brokers, 2, &[("heartbeat.interval.ms", "200")]);
    publish(&kafka, &numbered(&topic, 40, 20)).await;
    let mut source = kafka.subscribe(exactly_once(&group, &topic)).await.unwrap();
    let mut held = BTreeMap::new();
    for _ in 0..2 {
        let mut partition = assigned(&mut source).await;
        let ready = recv_all(&mut partition, 3).await;
        held.insert(partition.id().clone(), (partition, ready));
    }
    let mut second = kafka.subscribe(exactly_once(&group, &topic)).await.unwrap();
    let SourceEvent::Revoking { id, drained } = next_event(&mut source).await else {
        panic!("nothing was revoked")
    };
    let (mut going, ready) = held.remove(&id).unwrap();
    going.settle(&[copy(&ready[0], &out), copy(&ready[2], &out)]).await.unwrap();
    drop(drained);
    let mut taken = assigned(&mut second).await;
    assert_eq!(*taken.id(), id);
    assert_eq!(positions(&recv_all(&mut taken, 2).await), [1, 3]);
    let fenced = going.settle(&[copy(&ready[1], &out)]).await;
    assert!(matches!(fenced, Err(SourceError::Fenced(_))), "{fenced:?}");
    assert_eq!(
        counted(&kafka, &out).await,
        once([number(&ready[0].event), number(&ready[2].event)])
    );
    drop((going, taken, held));
    source.close().await.unwrap();
    second.close().await.unwrap();
}

/// Commits `position` for the partitions of `topic`, in a transaction that is still open.
fn leave_open(
    brokers: &str,
    group: &str,
    topic: &str,
    partitions: i32,
    position: i64,
) -> impl Producer {
    let client = |property: &str, value: &str| {
        let mut client = ClientConfig::new();
        client.set("bootstrap.servers", brokers).set(property, value);
        client
    };
    let producer: BaseProducer = client("transactional.id", group).create().unwrap();
    let member: BaseConsumer = client("group.id", group).create().unwrap();
    let mut offsets = TopicPartitionList::new();
    for partition in 0..partitions {
        offsets.add_partition_offset(topic, partition, Offset::Offset(position)).unwrap();
    }
    producer.init_transactions(PATIENCE).unwrap();
    producer.begin_transaction().unwrap();
    let member = member.group_metadata().unwrap();
    producer.send_offsets_to_transaction(&offsets, &member, PATIENCE).unwrap();
    producer
}

#[tokio::test(flavor = "multi_thread")]
async fn e1_a_position_in_an_open_transaction_is_waited_for_also_while_partitions_move() {
    let Some(brokers) = broker() else { return };
    let (topic, group) = (unique("e1"), unique("e1"));
    let kafka = connect(&brokers, 4, &[("heartbeat.interval.ms", "200")]);
    publish(&kafka, &numbered(&topic, 400, 97)).await;
    let open = leave_open(&brokers, &group, &topic, 4, 10);
    let mut source = kafka.subscribe(exactly_once(&group, &topic)).await.unwrap();
    let mut held = BTreeMap::new();
    for _ in 0..4 {
        let partition = assigned(&mut source).await;
        held.insert(partition.id().clone(), partition);
    }
    // the first member looks its positions up, in vain, when half of them are taken from it
    let mut second = kafka.subscribe(exactly_once(&group, &topic)).await.unwrap();
    for _ in 0..2 {
        let SourceEvent::Revoking { id, drained } = next_event(&mut source).await else {
            panic!("nothing was revoked")
        };
        held.remove(&id).unwrap();
        drop(drained);
    }
    for _ in 0..2 {
        let partition = assigned(&mut second).await;
        held.insert(partition.id().clone(), partition);
    }
    open.commit_transaction(PATIENCE).unwrap();
    for partition in held.values_mut() {
        assert_eq!(positions(&recv_all(partition, 2).await), [10, 11], "{}", partition.id());
    }
    drop(held);
    source.close().await.unwrap();
    second.close().await.unwrap();
}
