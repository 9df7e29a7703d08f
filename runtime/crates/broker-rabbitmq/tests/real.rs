//! Against a real RabbitMQ: what other brokers do not have.

mod common;

use std::{collections::BTreeSet, time::Duration};

use common::*;
use lapin::{
    Channel, ConnectionProperties, ExchangeKind,
    options::{ExchangeDeclareOptions, QueueDeclareOptions, QueueDeleteOptions},
    types::{AMQPValue, FieldTable},
};
use sandbar_core::{
    Connection, Disposition, Outgoing, Partition, PublishError, Settlement, Source, SourceError,
    SourceEvent, SubscriptionSpec, reserved,
};

/// A channel beside the adapter.
async fn raw(broker: &Broker) -> Channel {
    let connection = lapin::Connection::connect(&broker.uri, ConnectionProperties::default());
    connection.await.unwrap().create_channel().await.unwrap()
}

fn numbers(deliveries: &[sandbar_core::Delivery]) -> Vec<u64> {
    deliveries.iter().map(number).collect()
}

async fn settle_all(partition: &mut Box<dyn Partition>, deliveries: &[sandbar_core::Delivery]) {
    partition.settle(&deliveries.iter().map(done).collect::<Vec<_>>()).await.unwrap();
}

/// What ends a source that cannot work.
async fn fatal(source: &mut Box<dyn Source>) -> String {
    match tokio::time::timeout(PATIENCE, source.next()).await.expect("no word of it") {
        Err(SourceError::Fatal(reason)) => reason,
        Err(e) => panic!("only reported: {e}"),
        Ok(_) => panic!("it works"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn acks_out_of_order_leave_exactly_the_others() {
    let Some(broker) = broker() else { return };
    let (topic, group) = (unique("acks"), unique("g"));
    let rabbit = broker.connect(|_| {});
    let mut source = rabbit.subscribe(spec(&group, &topic)).await.unwrap();
    let mut partition = assigned(&mut source).await;
    publish(&rabbit, &numbered(&topic, 0, 10, 3)).await;
    let all = recv_all(&mut partition, 10).await;
    partition.settle(&[done(&all[4]), done(&all[1])]).await.unwrap();
    partition.settle(&[done(&all[7]), done(&all[0]), done(&all[3])]).await.unwrap();
    // settled twice: no harm
    partition.settle(&[done(&all[1])]).await.unwrap();
    drop(partition);
    source.close().await.unwrap();

    let mut source = rabbit.subscribe(spec(&group, &topic)).await.unwrap();
    let mut partition = assigned(&mut source).await;
    let left = recv_all(&mut partition, 5).await;
    assert_eq!(numbers(&left), [2, 5, 6, 8, 9]);
    assert!(left.iter().all(|d| d.redeliveries == 1), "each was delivered once before");
    settle_all(&mut partition, &left).await;
    let waiting = rabbit.cursors(&group).await.unwrap();
    assert_eq!((waiting.len(), waiting[0].1.0, waiting[0].2.0), (1, 0, 0));
    drop(partition);
    source.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn o1_a_standby_takes_over_in_the_order_of_keys() {
    let Some(broker) = broker() else { return };
    let (topic, group) = (unique("standby"), unique("g"));
    let (one, two) = (broker.connect(|_| {}), broker.connect(|_| {}));
    // most of it waits in the queue: it must not overtake what the first one gives back
    let spec = || SubscriptionSpec { prefetch: 10, ..spec(&group, &topic) };
    let mut active = one.subscribe(spec()).await.unwrap();
    let mut first = assigned(&mut active).await;
    let mut standby = two.subscribe(spec()).await.unwrap();
    let mut second = assigned(&mut standby).await;
    publish(&one, &numbered(&topic, 0, 60, 4)).await;

    let seen = recv_all(&mut first, 10).await;
    settle_all(&mut first, &seen).await;
    let seen = recv_all(&mut first, 10).await;
    assert_eq!(numbers(&seen), (10..20).collect::<Vec<_>>());
    settle_all(&mut first, &seen[..5]).await;
    let idle = tokio::time::timeout(Duration::from_millis(300), second.recv(10)).await;
    assert!(idle.is_err(), "while one is active the other gets nothing");
    drop(first);
    publish(&one, &numbered(&topic, 60, 20, 4)).await;
    let mut rest = Vec::new();
    while rest.len() < 65 {
        let some = recv_all(&mut second, 5).await;
        settle_all(&mut second, &some).await;
        rest.extend(numbers(&some));
    }
    assert_eq!(rest, (15..80).collect::<Vec<_>>());
    active.close().await.unwrap();
    drop(second);
    standby.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_share_a_queue_that_is_not_exclusive() {
    let Some(broker) = broker() else { return };
    let (topic, group) = (unique("shared"), unique("g"));
    let (one, two) =
        (broker.connect(|c| c.exclusive = false), broker.connect(|c| c.exclusive = false));
    assert!(one.guarantees().spread_over_processes && !one.guarantees().ordered);
    let mut here = one.subscribe(spec(&group, &topic)).await.unwrap();
    let mut a = assigned(&mut here).await;
    let mut there = two.subscribe(spec(&group, &topic)).await.unwrap();
    let mut b = assigned(&mut there).await;
    publish(&one, &numbered(&topic, 0, 40, 4)).await;
    let mut seen = BTreeSet::new();
    for partition in [&mut a, &mut b] {
        let some = recv_all(partition, 1).await;
        settle_all(partition, &some).await;
        seen.extend(numbers(&some));
    }
    while seen.len() < 40 {
        let some = tokio::select! {
            biased;
            some = a.recv(100) => some.unwrap(),
            some = b.recv(100) => some.unwrap(),
            () = tokio::time::sleep(PATIENCE) => panic!("only {seen:?} came"),
        };
        seen.extend(numbers(&some));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_queue_is_fenced_and_made_again() {
    let Some(broker) = broker() else { return };
    let (topic, group) = (unique("deleted"), unique("g"));
    let rabbit = broker.connect(|_| {});
    let mut source = rabbit.subscribe(spec(&group, &topic)).await.unwrap();
    let mut partition = assigned(&mut source).await;
    publish(&rabbit, &numbered(&topic, 0, 3, 1)).await;
    let held = recv_all(&mut partition, 3).await;
    let queue = format!("{group}.{topic}");
    let channel = raw(&broker).await;
    channel.queue_delete(queue.as_str().into(), QueueDeleteOptions::default()).await.unwrap();

    let lost = tokio::time::timeout(PATIENCE, partition.recv(1)).await.expect("no word of it");
    let Err(SourceError::Fenced(reason)) = lost else { panic!("{lost:?}") };
    assert!(reason.contains(&topic) && reason.contains("queue is gone"), "{reason}");
    let late = partition.settle(&[done(&held[0])]).await;
    assert!(matches!(late, Err(SourceError::Fenced(_))), "{late:?}");

    let mut partition = assigned(&mut source).await;
    publish(&rabbit, &numbered(&topic, 3, 3, 1)).await;
    assert_eq!(numbers(&recv_all(&mut partition, 3).await), [3, 4, 5]);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_delivery_limit_drops_what_is_released_again_and_again() {
    let Some(broker) = broker() else { return };
    let (topic, group) = (unique("limit"), unique("g"));
    // one that is exclusive gives back in order, when it is closed
    let rabbit = broker.connect(|config| config.exclusive = false);
    let mut source = rabbit.subscribe(spec(&group, &topic)).await.unwrap();
    let mut partition = assigned(&mut source).await;
    publish(&rabbit, &numbered(&topic, 0, 1, 1)).await;
    // RabbitMQ 4 gives up after 20 deliveries, unless told otherwise
    for count in 0..25 {
        let again = recv_all(&mut partition, 1).await;
        assert_eq!(again[0].redeliveries, count);
        let disposition = Disposition::Release { after: Duration::ZERO };
        partition.settle(&[Settlement { token: again[0].token, disposition }]).await.unwrap();
    }
    let last = recv_all(&mut partition, 1).await;
    settle_all(&mut partition, &last).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_record_takes_none_beside_it_along() {
    let Some(broker) = broker() else { return };
    let (topic, group) = (unique("refused"), unique("g"));
    let rabbit = broker.connect(|_| {});
    let mut source = rabbit.subscribe(spec(&group, &topic)).await.unwrap();
    let mut partition = assigned(&mut source).await;
    let record = |n: &str| Outgoing::new(topic.as_str(), n.to_owned());
    // RabbitMQ takes a header of this name for routing keys, and closes the channel on a text
    let records = [record("0"), record("1").with_header("CC", "x"), record("2")];
    let results = rabbit.sink().publish(&records).await;
    assert!(results[0].is_ok() && results[2].is_ok(), "{results:?}");
    let refused = results[1].as_ref().unwrap_err();
    assert!(matches!(refused, PublishError::Rejected(r) if r.contains(&topic)), "{refused:?}");
    // the first may have been stored before the channel was closed, and once more after
    let mut seen = BTreeSet::new();
    while !seen.contains(&2) {
        seen.extend(numbers(&recv_all(&mut partition, 1).await));
    }
    assert_eq!(seen, BTreeSet::from([0, 2]));
}

#[tokio::test(flavor = "multi_thread")]
async fn unroutable_records_are_lost_only_where_that_is_allowed() {
    let Some(broker) = broker() else { return };
    let (topic, group) = (unique("unroutable"), unique("g"));
    let record = [Outgoing::new(topic.as_str(), "x")];
    let rabbit = broker.connect(|_| {});
    publish(&rabbit, &record).await;
    let strict = broker.connect(|config| config.mandatory = true);
    let held = strict.sink().publish(&record).await;
    assert!(
        matches!(&held[0], Err(PublishError::Unavailable(r)) if r.contains("no queue")),
        "{held:?}"
    );

    // what is sent to a group is there when it comes
    let inbox = reserved::inbox(&group);
    rabbit.ensure_topics(std::slice::from_ref(&inbox)).await.unwrap();
    publish(&rabbit, &numbered(&inbox, 0, 3, 1)).await;
    let mut source = rabbit.subscribe(spec(&group, &inbox)).await.unwrap();
    let mut partition = assigned(&mut source).await;
    assert_eq!(numbers(&recv_all(&mut partition, 3).await), [0, 1, 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn queues_are_bound_by_the_routing_keys_of_the_configuration() {
    let Some(broker) = broker() else { return };
    let (topic, group) = (unique("bound"), unique("g"));
    let rabbit = broker.connect(|config| {
        let keys = vec!["eu.#".to_owned(), "*.urgent".to_owned()];
        config.bindings.insert(format!("{group}.{topic}"), keys);
    });
    let mut source = rabbit.subscribe(spec(&group, &topic)).await.unwrap();
    let mut partition = assigned(&mut source).await;
    let keys = ["eu.new", "us.new", "us.urgent", "eu.a.b"];
    let records: Vec<_> = (0..4_usize)
        .map(|n| Outgoing::new(topic.as_str(), n.to_string()).with_key(keys[n]))
        .collect();
    publish(&rabbit, &records).await;
    assert_eq!(numbers(&recv_all(&mut partition, 3).await), [0, 2, 3]);

    // an exchange of another type gets no binding that would match nothing
    let direct = unique("direct");
    let channel = raw(&broker).await;
    let options = ExchangeDeclareOptions { durable: true, ..Default::default() };
    let table = FieldTable::default();
    let declared =
        channel.exchange_declare(direct.as_str().into(), ExchangeKind::Direct, options, table);
    declared.await.unwrap();
    let mut source = rabbit.subscribe(spec(&group, &direct)).await.unwrap();
    let reason = fatal(&mut source).await;
    assert!(reason.contains("`bindings`") && reason.contains(&direct), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn queues_that_exist_are_respected_unless_they_cannot_keep_the_promise() {
    let Some(broker) = broker() else { return };
    let (topic, group) = (unique("exists"), unique("g"));
    let declare = async |group: &str, kind: &str, dead_letters: Option<&str>| {
        let queue = format!("{group}.{topic}");
        let options = QueueDeclareOptions { durable: true, ..Default::default() };
        let mut table = FieldTable::default();
        let text = |text: &str| AMQPValue::LongString(text.into());
        table.insert("x-queue-type".into(), text(kind));
        table.insert("x-single-active-consumer".into(), AMQPValue::Boolean(true));
        if let Some(exchange) = dead_letters {
            table.insert("x-dead-letter-exchange".into(), text(exchange));
        }
        let channel = raw(&broker).await;
        channel.queue_declare(queue.as_str().into(), options, table).await.unwrap();
    };
    declare(&group, "quorum", Some("theirs")).await;
    let rabbit = broker.connect(|_| {});
    let mut source = rabbit.subscribe(spec(&group, &topic)).await.unwrap();
    let mut partition = assigned(&mut source).await;
    publish(&rabbit, &numbered(&topic, 0, 2, 1)).await;
    assert_eq!(numbers(&recv_all(&mut partition, 2).await), [0, 1]);

    let classic = unique("classic");
    declare(&classic, "classic", None).await;
    let mut source = rabbit.subscribe(spec(&classic, &topic)).await.unwrap();
    let reason = fatal(&mut source).await;
    assert!(reason.contains("x-queue-type") && reason.contains(&classic), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_leave_to_declare_a_queue_is_waited_for() {
    let Some(broker) = broker() else { return };
    let (topic, group) = (unique("waits"), unique("g"));
    let strict = broker.connect(|config| config.create_topics = false);
    let mut source = strict.subscribe(spec(&group, &topic)).await.unwrap();
    let reported = tokio::time::timeout(PATIENCE, source.next()).await.expect("no report");
    let Err(SourceError::Unavailable(reason)) = reported else { panic!("no report") };
    assert!(reason.contains(&topic) && reason.contains("create-topics"), "{reason}");
    // somebody else declares it
    let rabbit = broker.connect(|_| {});
    let mut other = rabbit.subscribe(spec(&group, &topic)).await.unwrap();
    drop(assigned(&mut other).await);
    other.close().await.unwrap();
    let mut partition = assigned(&mut source).await;
    publish(&strict, &numbered(&topic, 0, 1, 1)).await;
    assert_eq!(numbers(&recv_all(&mut partition, 1).await), [0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_reported_and_not_shown() {
    let Some(broker) = broker() else { return };
    let rabbit = broker.connect(|config| config.password = Some("s3cret".into()));
    let mut source = rabbit.subscribe(spec(&unique("g"), "t")).await.unwrap();
    let reported = tokio::time::timeout(PATIENCE, source.next()).await.expect("no report");
    let Err(SourceError::Unavailable(reason)) = reported else {
        assert!(!matches!(reported, Ok(SourceEvent::Assigned(_))));
        panic!("no report");
    };
    assert!(reason.contains("ACCESS_REFUSED") && !reason.contains("s3cret"), "{reason}");
}
