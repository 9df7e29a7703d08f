//! Against a real Apache Kafka broker: positions, back-pressure, hand-over.

mod common;

use std::{collections::BTreeMap, time::Duration};

use common::*;
use sandbar_core::{
    Connection, Disposition, Partition, Settlement, Source, SourceError, SourceEvent,
};

#[tokio::test(flavor = "multi_thread")]
async fn c1_the_commit_stops_before_the_first_unfinished_record_and_a_restart_resumes_there() {
    let Some(brokers) = broker() else { return };
    let (topic, group) = (unique("c1"), unique("c1"));
    let kafka = connect(&brokers, 1, &[]);
    publish(&kafka, &numbered(&topic, 10, 1)).await;

    let mut source = kafka.subscribe(spec(&group, &topic)).await.unwrap();
    let mut partition = assigned(&mut source).await;
    let all = recv_all(&mut partition, 10).await;
    assert_eq!(positions(&all), (0..10).collect::<Vec<_>>());
    partition.settle(&[done_at(5), done_at(1), done_at(4), done_at(0)]).await.unwrap();
    committed(&kafka, &group, &topic, 0, 2).await;
    // released records stay before the position
    let release = Settlement {
        token: all[2].token,
        disposition: Disposition::Release { after: Duration::ZERO },
    };
    partition.settle(&[release, done_at(3)]).await.unwrap();
    drop(partition);
    source.close().await.unwrap();
    committed(&kafka, &group, &topic, 0, 2).await;

    let mut source = kafka.subscribe(spec(&group, &topic)).await.unwrap();
    let mut partition = assigned(&mut source).await;
    // what was finished beyond the position is not delivered again (contract C3)
    let again = recv_all(&mut partition, 5).await;
    assert_eq!(positions(&again), [2, 6, 7, 8, 9]);
    partition.settle(&again.iter().map(done).collect::<Vec<_>>()).await.unwrap();
    drop(partition);
    // settled just now: the commit on closing covers it
    source.close().await.unwrap();
    let cursors = kafka.cursors(&group).await.unwrap();
    assert_eq!(cursors.len(), 1);
    assert_eq!((cursors[0].1.0, cursors[0].2.0), (10, 10));
}

#[tokio::test(flavor = "multi_thread")]
async fn c2_transaction_markers_and_aborted_records_do_not_stall_the_commit() {
    use rdkafka::{
        ClientConfig,
        producer::{BaseRecord, Producer, ThreadedProducer},
    };
    let Some(brokers) = broker() else { return };
    let (topic, group) = (unique("c2"), unique("c2"));
    let kafka = connect(&brokers, 1, &[]);
    kafka.ensure_topics(std::slice::from_ref(&topic)).await.unwrap();
    let transactions = {
        let (brokers, topic, id) = (brokers.clone(), topic.clone(), unique("tx"));
        move || {
            let producer: ThreadedProducer<rdkafka::producer::DefaultProducerContext> =
                ClientConfig::new()
                    .set("bootstrap.servers", brokers)
                    .set("transactional.id", id)
                    .create()
                    .unwrap();
            producer.init_transactions(PATIENCE).unwrap();
            // offsets: 0 1 [2 commit] 3 4 [5 abort] 6 7 [8 commit]
            for commit in [true, false, true] {
                producer.begin_transaction().unwrap();
                for _ in 0..2 {
                    let record = BaseRecord::<[u8], str>::to(&topic).payload("x");
                    producer.send(record).map_err(|(e, _)| e).unwrap();
                }
                let end = if commit {
                    producer.commit_transaction(PATIENCE)
                } else {
                    producer.flush(PATIENCE).unwrap();
                    producer.abort_transaction(PATIENCE)
                };
                end.unwrap();
            }
        }
    };
    tokio::task::spawn_blocking(transactions).await.unwrap();

    let mut source = kafka.subscribe(spec(&group, &topic)).await.unwrap();
    let mut partition = assigned(&mut source).await;
    let all = recv_all(&mut partition, 4).await;
    assert_eq!(positions(&all), [0, 1, 6, 7]);
    partition.settle(&[done_at(0), done_at(6)]).await.unwrap();
    committed(&kafka, &group, &topic, 0, 1).await;
    partition.settle(&[done_at(1)]).await.unwrap();
    committed(&kafka, &group, &topic, 0, 7).await;
    partition.settle(&[done_at(7)]).await.unwrap();
    committed(&kafka, &group, &topic, 0, 8).await;
    assert_eq!(read_all(&kafka, &topic).await.len(), 4);
    source.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn c4_a_full_window_keeps_its_place_in_the_group_and_stops_no_other_partition() {
    let Some(brokers) = broker() else { return };
    let (topic, group) = (unique("c4"), unique("c4"));
    let poll_limit = Duration::from_secs(2);
    let kafka = connect(
        &brokers,
        2,
        &[
            ("session.timeout.ms", "2000"),
            ("max.poll.interval.ms", "2000"),
            ("heartbeat.interval.ms", "500"),
        ],
    );
    const COUNT: u64 = 20_000;
    publish(&kafka, &numbered(&topic, COUNT, 50)).await;
    let mut source = kafka
        .subscribe(sandbar_core::SubscriptionSpec { prefetch: 100, ..spec(&group, &topic) })
        .await
        .unwrap();
    let mut full = assigned(&mut source).await;
    let mut other = assigned(&mut source).await;
    let window = recv_all(&mut full, 10).await;

    // nothing more is taken from `full` for four times the limit, while `other` goes on
    let rest = async {
        let mut count = 0;
        while let Ok(ready) = tokio::time::timeout(poll_limit * 4, other.recv(500)).await {
            let ready = ready.unwrap();
            other.settle(&ready.iter().map(done).collect::<Vec<_>>()).await.unwrap();
            count += ready.len() as u64;
        }
        count
    };
    let quiet = async {
        tokio::select! {
            event = source.next() => match event {
                Ok(_) => panic!("the assignment changed"),
                Err(e) => panic!("{e}"),
            },
            count = rest => count,
        }
    };
    let others = quiet.await;
    assert!(others > 0 && others < COUNT, "{others} of {COUNT} on the other partition");

    full.settle(&window.iter().map(done).collect::<Vec<_>>()).await.unwrap();
    let left = recv_all(&mut full, usize::try_from(COUNT - others - 10).unwrap()).await;
    full.settle(&left.iter().map(done).collect::<Vec<_>>()).await.unwrap();
    committed(&kafka, &group, &topic, full.id().partition, COUNT - others).await;
    drop((full, other));
    source.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn h4_partitions_move_to_a_new_member_and_back_without_loss_or_repetition() {
    let Some(brokers) = broker() else { return };
    let (topic, group) = (unique("h4"), unique("h4"));
    let kafka = connect(&brokers, 6, &[("heartbeat.interval.ms", "200")]);
    kafka.ensure_topics(std::slice::from_ref(&topic)).await.unwrap();
    const ROUND: u64 = 2_000;
    let records = numbered(&topic, 3 * ROUND, 97);
    let (first, rest) = records.split_at(ROUND as usize);
    let (second, third) = rest.split_at(ROUND as usize);

    let a = Worker::start(kafka.subscribe(spec(&group, &topic)).await.unwrap());
    publish(&kafka, first).await;
    until("a holds all", || a.holds.lock().len() == 6).await;
    let b = Worker::start(kafka.subscribe(spec(&group, &topic)).await.unwrap());
    // while they move
    for chunk in second.chunks(100) {
        publish(&kafka, chunk).await;
    }
    until("each holds half", || a.holds.lock().len() == 3 && b.holds.lock().len() == 3).await;
    until("two rounds are handled", || {
        a.handled.lock().len() + b.handled.lock().len() >= 2 * ROUND as usize
    })
    .await;
    let handled = a.handled.clone();
    let leaving = tokio::spawn(a.stop());
    for chunk in third.chunks(100) {
        publish(&kafka, chunk).await;
    }
    leaving.await.unwrap().unwrap();
    until("b holds all", || b.holds.lock().len() == 6).await;
    until("all are handled", || {
        handled.lock().len() + b.handled.lock().len() >= 3 * ROUND as usize
    })
    .await;
    let by_b = b.handled.clone();
    b.stop().await.unwrap();

    let mut seen: BTreeMap<u64, u32> = BTreeMap::new();
    let mut last: BTreeMap<Vec<u8>, u64> = BTreeMap::new();
    // a record of one key is handled by b only after those that a handled
    for event in handled.lock().iter().chain(by_b.lock().iter()) {
        *seen.entry(number(event)).or_default() += 1;
        let before = last.insert(event.key.as_ref().unwrap().to_vec(), number(event));
        assert!(before.is_none_or(|b| b < number(event)), "{before:?} before {}", number(event));
    }
    assert_eq!(seen.len() as u64, 3 * ROUND, "lost");
    assert!(seen.values().all(|n| *n == 1), "repeated");
}

/// A member with the topic's two partitions, each with two records of which none is settled.
async fn two_partitions(
    kafka: &sandbar_broker_kafka::Kafka,
    topic: &str,
    group: &str,
    drain: Duration,
) -> (Box<dyn Source>, Vec<Box<dyn Partition>>) {
    // keys that murmur2 sends to different partitions of two
    publish(kafka, &numbered(topic, 40, 20)).await;
    let spec = sandbar_core::SubscriptionSpec { drain_timeout: drain, ..spec(group, topic) };
    let mut source = kafka.subscribe(spec).await.unwrap();
    let mut partitions = vec![assigned(&mut source).await, assigned(&mut source).await];
    for partition in &mut partitions {
        assert_eq!(positions(&recv_all(partition, 2).await), [0, 1]);
    }
    (source, partitions)
}

#[tokio::test(flavor = "multi_thread")]
async fn h4_what_is_settled_while_draining_is_committed_and_what_comes_later_is_fenced() {
    let Some(brokers) = broker() else { return };
    let (topic, group) = (unique("h4-drain"), unique("h4-drain"));
    let kafka = connect(&brokers, 2, &[("heartbeat.interval.ms", "200")]);
    let (mut source, mut partitions) =
        two_partitions(&kafka, &topic, &group, Duration::from_secs(10)).await;

    let mut second = kafka.subscribe(spec(&group, &topic)).await.unwrap();
    let SourceEvent::Revoking { id, drained } = next_event(&mut source).await else {
        panic!("nothing was revoked")
    };
    let at = partitions.iter().position(|p| *p.id() == id).unwrap();
    let mut going = partitions.remove(at);
    let mut staying = partitions.remove(0);
    // intake has stopped by itself: librdkafka pauses the assignment, and so do we
    let intake = tokio::time::timeout(Duration::from_millis(200), going.recv(1)).await;
    assert!(intake.is_err(), "a record was handed out while draining");
    going.settle(&[done_at(0)]).await.unwrap();
    drop(drained);

    let mut taken = assigned(&mut second).await;
    assert_eq!(*taken.id(), id);
    assert_eq!(taken.recv(1).await.unwrap()[0].event.position, 1);
    let fenced = going.settle(&[done_at(1)]).await;
    assert!(matches!(fenced, Err(SourceError::Fenced(_))), "{fenced:?}");
    assert!(matches!(going.recv(1).await, Err(SourceError::Fenced(_))));
    // the other partition was never touched
    staying.settle(&[done_at(0), done_at(1)]).await.unwrap();
    committed(&kafka, &group, &topic, staying.id().partition, 2).await;
    committed(&kafka, &group, &topic, id.partition, 1).await;
    drop((going, staying, taken));
    // it may not have heard of the last generation yet, and then cannot commit again what is committed
    let closed = source.close().await;
    assert!(matches!(closed, Ok(()) | Err(SourceError::Unavailable(_))), "{closed:?}");
    second.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn h4_a_partition_that_does_not_drain_in_time_is_fenced_and_delivered_again() {
    let Some(brokers) = broker() else { return };
    let (topic, group) = (unique("h4-late"), unique("h4-late"));
    let kafka = connect(&brokers, 2, &[("heartbeat.interval.ms", "200")]);
    let (mut source, mut partitions) =
        two_partitions(&kafka, &topic, &group, Duration::from_millis(500)).await;
    let mut second = kafka.subscribe(spec(&group, &topic)).await.unwrap();
    let SourceEvent::Revoking { id, drained } = next_event(&mut source).await else {
        panic!("nothing was revoked")
    };
    let mut taken = assigned(&mut second).await;
    assert_eq!(positions(&recv_all(&mut taken, 2).await), [0, 1]);
    let going = partitions.iter_mut().find(|p| *p.id() == id).unwrap();
    assert!(matches!(going.settle(&[done_at(0)]).await, Err(SourceError::Fenced(_))));
    drop(drained);
    drop((partitions, taken));
    source.close().await.unwrap();
    second.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_appears_later_is_named_and_then_picked_up() {
    let Some(brokers) = broker() else { return };
    let topic = unique("later");
    let maker = connect(&brokers, 1, &[]);
    let config = sandbar_broker_kafka::KafkaConfig {
        brokers: brokers.clone(),
        properties: [("topic.metadata.refresh.interval.ms".into(), "300".into())].into(),
        ..Default::default()
    };
    let kafka = sandbar_broker_kafka::Kafka::connect("test", config).unwrap();
    let mut by_name = kafka.subscribe(spec(&unique("name"), &topic)).await.unwrap();
    let pattern = topic.replacen("later", "la*r", 1);
    let mut by_pattern = kafka.subscribe(spec(&unique("glob"), &pattern)).await.unwrap();
    let report = tokio::time::timeout(PATIENCE, by_name.next()).await.unwrap();
    let report = report.err().expect("nothing to assign").to_string();
    assert!(report.contains(&topic), "{report}");

    publish(&maker, &numbered(&topic, 3, 1)).await;
    for source in [&mut by_name, &mut by_pattern] {
        let mut partition = assigned(source).await;
        assert_eq!(positions(&recv_all(&mut partition, 3).await), [0, 1, 2]);
    }
    by_name.close().await.unwrap();
    by_pattern.close().await.unwrap();
}
