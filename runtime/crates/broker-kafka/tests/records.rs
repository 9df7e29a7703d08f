//! Against a real Apache Kafka broker: what goes in comes out, and what cannot go in says why.

mod common;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use common::*;
use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication},
    bindings,
    client::DefaultClientContext,
    message::OwnedHeaders,
    producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer},
};
use sandbar_broker_kafka::{Kafka, KafkaConfig};
use sandbar_core::{
    Connection, Header, Outgoing, PartitionId, PublishError, ReadFrom, ResumeFrom, SourceError,
    TopicInfo,
};

/// One of each kind that a broker may hold.
fn zoo(topic: &str) -> Vec<Outgoing> {
    let plain = Outgoing::new(topic, "plain");
    let bytes = Outgoing::new(topic, &b"\xff\x00\xfe"[..]).with_key(&b"\xc3\x28\x00"[..]);
    let empty = Outgoing::new(topic, "").with_key("");
    let tombstone = Outgoing { payload: None, ..Outgoing::new(topic, "").with_key("gone") };
    let mut headers = Outgoing::new(topic, "headers")
        .with_header("twice", "1")
        .with_header("twice", "2")
        .with_header("empty", "")
        .with_header("raw", &b"\xff\xfe"[..])
        .with_header("naïve ✓", "x");
    headers.headers.push(Header { name: "null".into(), value: None });
    let mut attributes = Outgoing::new(topic, "attributes");
    attributes.attributes = vec![("id".into(), "7".into()), ("source".into(), "/s".into())];
    vec![plain, bytes, empty, tombstone, headers, attributes]
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_record_comes_back_byte_for_byte() {
    let Some(brokers) = broker() else { return };
    let topic = unique("zoo");
    let kafka = connect(&brokers, 1, &[]);
    let sent = zoo(&topic);
    publish(&kafka, &sent).await;

    let read = read_all(&kafka, &topic).await;
    let mut source = kafka.subscribe(spec(&unique("zoo"), &topic)).await.unwrap();
    let mut partition = assigned(&mut source).await;
    let received = recv_all(&mut partition, sent.len()).await;
    for events in [read, received.into_iter().map(|d| d.event).collect()] {
        assert_eq!(events.len(), sent.len());
        for (position, (event, sent)) in events.iter().zip(&sent).enumerate() {
            assert_eq!((&*event.topic, event.partition), (topic.as_str(), 0));
            assert_eq!(event.position, position as u64);
            assert_eq!((&event.key, &event.payload), (&sent.key, &sent.payload));
            assert!(event.timestamp_ms > 1_600_000_000_000, "{}", event.timestamp_ms);
            if sent.attributes.is_empty() {
                assert_eq!(event.headers[..], sent.headers[..]);
            }
        }
        assert_eq!(events[5].id(), "/s#7");
        assert_eq!(
            events[5].headers[..],
            [Header::new("ce_id", "7"), Header::new("ce_source", "/s")]
        );
    }
    drop(partition);
    source.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
#[allow(unsafe_code)] // no safe call writes a header name that is no UTF-8
async fn a_header_name_that_is_no_utf8_is_read_and_not_a_panic() {
    let Some(brokers) = broker() else { return };
    let topic = unique("bad-header");
    let kafka = connect(&brokers, 1, &[]);
    kafka.ensure_topics(std::slice::from_ref(&topic)).await.unwrap();
    let producer: ThreadedProducer<DefaultProducerContext> =
        ClientConfig::new().set("bootstrap.servers", &brokers).create().unwrap();
    let headers = OwnedHeaders::new();
    let (name, value) = (b"bad\xff\xfename", b"v");
    // SAFETY: a reference to borrowed headers is the address of librdkafka's list, which
    // `headers` owns and nobody else uses; name and value are copied within the call
    let status = unsafe {
        bindings::rd_kafka_header_add(
            std::ptr::from_ref(headers.as_borrowed()).cast_mut().cast(),
            name.as_ptr().cast(),
            name.len() as isize,
            value.as_ptr().cast(),
            value.len() as isize,
        )
    };
    assert_eq!(status, bindings::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR);
    let record = BaseRecord::<[u8], str>::to(&topic).payload("x").headers(headers);
    producer.send(record).map_err(|(e, _)| e).unwrap();
    producer.flush(PATIENCE).unwrap();

    let mut source = kafka.subscribe(spec(&unique("bad-header"), &topic)).await.unwrap();
    let mut partition = assigned(&mut source).await;
    let got = recv_all(&mut partition, 1).await;
    assert_eq!(got[0].event.headers[..], [Header::new("bad\u{fffd}\u{fffd}name", "v")]);
    source.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_mebibytes_are_rejected_or_passed_as_the_topic_says_and_hurt_no_other_record() {
    let Some(brokers) = broker() else { return };
    let (small, large) = (unique("small"), unique("large"));
    let kafka = connect(&brokers, 1, &[]);
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", &brokers).create().unwrap();
    let topic =
        NewTopic::new(&large, 1, TopicReplication::Fixed(1)).set("max.message.bytes", "16777216");
    let options = AdminOptions::new().request_timeout(Some(PATIENCE));
    admin.create_topics([&topic], &options).await.unwrap()[0].as_ref().unwrap();

    let huge = Bytes::from(vec![b'x'; 10 << 20]);
    let records = [
        Outgoing::new(small.as_str(), "before"),
        Outgoing::new(small.as_str(), huge.clone()),
        Outgoing::new(large.as_str(), huge.clone()),
        Outgoing::new(small.as_str(), "after"),
    ];
    let results = kafka.sink().publish(&records).await;
    assert!(results[0].is_ok() && results[2].is_ok() && results[3].is_ok(), "{results:?}");
    let Err(PublishError::Rejected(reason)) = &results[1] else { panic!("{results:?}") };
    assert!(reason.contains(&small) && reason.contains("max.message.bytes"), "{reason}");

    let payloads: Vec<_> =
        read_all(&kafka, &small).await.into_iter().map(|e| e.payload.unwrap()).collect();
    assert_eq!(payloads, ["before", "after"]);
    let mut source = kafka.subscribe(spec(&unique("large"), &large)).await.unwrap();
    let mut partition = assigned(&mut source).await;
    let got = recv_all(&mut partition, 1).await;
    assert_eq!(got[0].event.payload.as_ref(), Some(&huge));
    source.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_is_waited_for() {
    let Some(brokers) = broker() else { return };
    let topic = unique("queue");
    let kafka = connect(&brokers, 3, &[("queue.buffering.max.messages", "100")]);
    let records = numbered(&topic, 5_000, 7);
    let (left, right) = records.split_at(2_500);
    tokio::join!(publish(&kafka, left), publish(&kafka, right));
    let mut read: Vec<u64> = read_all(&kafka, &topic).await.iter().map(number).collect();
    read.sort_unstable();
    assert_eq!(read, (0..5_000).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_that_may_not_be_created_are_refused_by_name() {
    let Some(brokers) = broker() else { return };
    let config = KafkaConfig { brokers: brokers.clone(), ..KafkaConfig::default() };
    let kafka = Kafka::connect("orders", config).unwrap();
    let missing = unique("missing");
    let refused = kafka.ensure_topics(std::slice::from_ref(&missing)).await;
    let Err(SourceError::Fatal(reason)) = refused else { panic!("{refused:?}") };
    assert!(reason.contains(&missing) && reason.contains("orders"), "{reason}");
    let existing = unique("existing");
    publish(&connect(&brokers, 1, &[]), &numbered(&existing, 1, 1)).await;
    let results = kafka
        .sink()
        .publish(&[
            Outgoing::new(missing.as_str(), "x"),
            Outgoing::new("no/topic", "x"),
            Outgoing::new("x".repeat(600).as_str(), "x"),
            Outgoing::new(existing.as_str(), "x"),
        ])
        .await;
    for (result, name) in results.iter().zip([missing.as_str(), "no/topic", "xxx"]) {
        assert!(matches!(result, Err(PublishError::Rejected(m)) if m.contains(name)), "{result:?}");
    }
    assert!(results[3].is_ok(), "{results:?}");
    let read = kafka.read(&missing, ReadFrom::Start).await.err().unwrap();
    assert!(matches!(&read, SourceError::Fatal(m) if m.contains(&missing)), "{read}");
    for topics in [vec![], vec!["a b".to_owned()]] {
        let spec = sandbar_core::SubscriptionSpec { topics, ..spec("g", "t") };
        assert!(matches!(kafka.subscribe(spec).await, Err(SourceError::Fatal(_))));
    }
}

/// A cluster that is just starting answers the same, so this is no refusal.
#[tokio::test(flavor = "multi_thread")]
async fn more_replicas_than_brokers_are_waited_for() {
    let Some(brokers) = broker() else { return };
    let config = KafkaConfig {
        brokers,
        create_topics: true,
        replication: Some(99),
        ..KafkaConfig::default()
    };
    let kafka = Kafka::connect("orders", config).unwrap();
    let topic = unique("replicated");
    let refused = kafka.ensure_topics(std::slice::from_ref(&topic)).await;
    let Err(SourceError::Unavailable(reason)) = refused else { panic!("{refused:?}") };
    assert!(reason.contains(&topic) && reason.contains("replicas"), "{reason}");
}

/// All topics. For a moment those that other tests have just made have no leaders.
async fn listed(kafka: &Kafka) -> Vec<TopicInfo> {
    loop {
        match kafka.topics().await {
            Err(SourceError::Unavailable(_)) => tokio::time::sleep(Duration::from_millis(50)).await,
            topics => return topics.unwrap(),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_are_listed_with_what_they_hold() {
    let Some(brokers) = broker() else { return };
    let (topic, group) = (unique("listed"), unique("listed"));
    let kafka = connect(&brokers, 3, &[]);
    publish(&kafka, &numbered(&topic, 30, 30)).await;
    // makes the brokers' own topic exist
    Worker::start(kafka.subscribe(spec(&group, &topic)).await.unwrap()).stop().await.unwrap();
    let topics = listed(&kafka).await;
    let listed = topics.iter().find(|t| t.name == topic).unwrap();
    assert_eq!((listed.partitions, listed.events), (3, Some(30)));
    assert!(topics.iter().all(|t| !t.name.starts_with("__")));
    assert!(topics.is_sorted_by(|a, b| a.name < b.name));
    // asking again creates nothing and refuses nothing
    kafka.ensure_topics(std::slice::from_ref(&topic)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_begins_where_it_is_told() {
    let Some(brokers) = broker() else { return };
    let topic = unique("read");
    let kafka = connect(&brokers, 1, &[]);
    publish(&kafka, &numbered(&topic, 10, 1)).await;
    let first = read_all(&kafka, &topic).await;
    assert_eq!(first.len(), 10);
    let from = |from| {
        let (kafka, topic) = (&kafka, &topic);
        async move {
            let mut reader = kafka.read(topic, from).await.unwrap();
            let mut all: Vec<u64> = Vec::new();
            loop {
                let events =
                    tokio::time::timeout(PATIENCE, reader.next(3)).await.expect("stalled").unwrap();
                if events.is_empty() {
                    return all;
                }
                assert!(events.len() <= 3);
                all.extend(events.iter().map(number));
            }
        }
    };
    assert_eq!(from(ReadFrom::Position(7)).await, [7, 8, 9]);
    assert_eq!(from(ReadFrom::Position(99)).await, [0; 0]);
    assert_eq!(from(ReadFrom::Time(first[0].timestamp_ms)).await.len(), 10);
    assert_eq!(from(ReadFrom::Time(first[9].timestamp_ms + 3_600_000)).await, [0; 0]);

    let mut follower = kafka.read(&topic, ReadFrom::Follow).await.unwrap();
    let waiting = tokio::time::timeout(Duration::from_millis(200), follower.next(10)).await;
    assert!(waiting.is_err(), "there was nothing new");
    publish(&kafka, &[Outgoing::new(topic.as_str(), "10")]).await;
    let events = tokio::time::timeout(PATIENCE, follower.next(10)).await.unwrap().unwrap();
    assert_eq!(events.iter().map(number).collect::<Vec<_>>(), [10]);
    // it left no cursor behind
    assert!(kafka.cursors("sandbar.reader").await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn events_before_a_position_are_deleted_for_good() {
    let Some(brokers) = broker() else { return };
    let topic = unique("trim");
    let kafka = connect(&brokers, 2, &[]);
    publish(&kafka, &numbered(&topic, 100, 20)).await;
    let id = |topic: &str, partition| PartitionId { topic: topic.into(), partition };
    kafka.trim(&id(&topic, 1), ResumeFrom(30)).await.unwrap();
    kafka.trim(&id(&topic, 1), ResumeFrom(10)).await.unwrap();
    let left = read_all(&kafka, &topic).await;
    assert_eq!(left.iter().filter(|e| e.partition == 1).map(|e| e.position).min(), Some(30));
    assert_eq!(left.iter().filter(|e| e.partition == 0).map(|e| e.position).min(), Some(0));

    let compacted = unique("trim-compacted");
    kafka.ensure_compacted_topic(&compacted).await.unwrap();
    publish(&kafka, &numbered(&compacted, 1, 1)).await;
    for (id, why) in [
        (id(&topic, 1), "positions that are not there"),
        (id(&compacted, 0), "a topic that keeps by key"),
        (id(&unique("missing"), 0), "a topic that is not there"),
    ] {
        let refused = kafka.trim(&id, ResumeFrom(1_000)).await;
        let Err(SourceError::Fatal(reason)) = refused else { panic!("{why}: {refused:?}") };
        assert!(reason.contains(&id.to_string()), "{reason}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compacted_topic_is_made_as_one() {
    let Some(brokers) = broker() else { return };
    let topic = unique("compacted");
    let kafka = connect(&brokers, 4, &[]);
    kafka.ensure_compacted_topic(&topic).await.unwrap();
    kafka.ensure_compacted_topic(&topic).await.unwrap();
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", &brokers).create().unwrap();
    let found = admin
        .describe_configs([&ResourceSpecifier::Topic(&topic)], &AdminOptions::new())
        .await
        .unwrap()
        .remove(0)
        .unwrap();
    assert_eq!(found.entry_map()["cleanup.policy"].value.as_deref(), Some("compact"));

    let config = KafkaConfig { brokers, ..KafkaConfig::default() };
    let strict = Kafka::connect("strict", config).unwrap();
    let refused = strict.ensure_compacted_topic(&unique("compacted")).await;
    assert!(matches!(refused, Err(SourceError::Fatal(_))), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_topic_retains_and_where_a_group_is_can_be_asked_and_changed() {
    let Some(brokers) = broker() else { return };
    let (topic, group) = (unique("extents"), unique("extents"));
    let kafka = connect(&brokers, 2, &[]);
    publish(&kafka, &numbered(&topic, 40, 20)).await;
    let id = |partition| PartitionId { topic: topic.as_str().into(), partition };
    kafka.trim(&id(1), ResumeFrom(5)).await.unwrap();
    let extents = kafka.extents(&topic).await.unwrap();
    assert_eq!(extents.iter().map(|e| e.id.clone()).collect::<Vec<_>>(), [id(0), id(1)]);
    assert_eq!(extents.iter().map(|e| e.first.0).collect::<Vec<_>>(), [0, 5]);
    assert_eq!(extents.iter().map(|e| e.end.0).sum::<u64>(), 40);
    let missing = kafka.extents(&unique("missing")).await;
    assert!(matches!(missing, Err(SourceError::Fatal(_))), "{missing:?}");

    kafka.move_cursor(&group, &id(0), ResumeFrom(7)).await.unwrap();
    committed(&kafka, &group, &topic, 0, 7).await;
    let mut source = kafka.subscribe(spec(&group, &topic)).await.unwrap();
    for _ in 0..2 {
        let mut partition = assigned(&mut source).await;
        let first = recv(&mut partition, 1).await[0].event.position;
        assert_eq!(first, if partition.id().partition == 0 { 7 } else { 5 });
    }
    let refused = kafka.move_cursor(&group, &id(0), ResumeFrom(1)).await;
    let Err(SourceError::Fatal(reason)) = refused else { panic!("{refused:?}") };
    assert!(reason.contains("has a subscription"), "{reason}");
    source.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_until_the_end_says_when_everything_is_delivered() {
    let Some(brokers) = broker() else { return };
    let (topic, group) = (unique("until"), unique("until"));
    let kafka = connect(&brokers, 1, &[]);
    kafka.ensure_topics(std::slice::from_ref(&topic)).await.unwrap();
    let spec = sandbar_core::SubscriptionSpec { until_end: true, ..spec(&group, &topic) };
    let mut source = kafka.subscribe(spec).await.unwrap();
    let mut partition = assigned(&mut source).await;
    // of an empty topic, again and again, and after each arrival
    for round in 0..3 {
        assert!(recv(&mut partition, 10).await.is_empty());
        assert!(recv(&mut partition, 10).await.is_empty());
        publish(&kafka, &numbered(&topic, 25, 1)).await;
        let mut all = Vec::new();
        while all.len() < 25 {
            all.extend(recv(&mut partition, 10).await);
        }
        assert_eq!(positions(&all), (25 * round..25 * (round + 1)).collect::<Vec<_>>());
    }
    drop(partition);
    source.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_inbox_is_read_from_its_beginning_wherever_the_rest_begins() {
    let Some(brokers) = broker() else { return };
    let (topic, group) = (unique("inbox"), unique("inbox"));
    let inbox = sandbar_core::reserved::inbox(&group);
    let kafka = connect(&brokers, 1, &[]);
    publish(&kafka, &numbered(&topic, 5, 1)).await;
    publish(&kafka, &numbered(&inbox, 5, 1)).await;
    let spec = sandbar_core::SubscriptionSpec {
        topics: vec![topic.clone(), inbox.clone()],
        start: sandbar_core::StartAt::Latest,
        ..spec(&group, &topic)
    };
    for first in [0, 2] {
        let mut source = kafka.subscribe(spec.clone()).await.unwrap();
        let mut partitions = vec![assigned(&mut source).await, assigned(&mut source).await];
        let at = partitions.iter().position(|p| *p.id().topic == inbox).unwrap();
        let all = recv_all(&mut partitions[at], 5 - first).await;
        assert_eq!(positions(&all), (first as u64..5).collect::<Vec<_>>());
        partitions[at].settle(&[done_at(0), done_at(1)]).await.unwrap();
        let other = tokio::time::timeout(Duration::from_millis(300), partitions[1 - at].recv(1));
        assert!(other.await.is_err(), "the other topic begins with what arrives");
        drop(partitions);
        source.close().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_that_are_wanted_at_the_same_time_are_all_made() {
    let Some(brokers) = broker() else { return };
    let kafka = Arc::new(connect(&brokers, 1, &[]));
    // each wanted by two
    let names: Vec<String> = (0..20).map(|n| unique(&format!("many-{n}"))).collect();
    let mut wanted = tokio::task::JoinSet::new();
    for name in names.iter().chain(&names).cloned() {
        let kafka = kafka.clone();
        wanted.spawn(async move { kafka.ensure_topics(&[name]).await });
    }
    for made in wanted.join_all().await {
        made.unwrap();
    }
    let there = listed(&kafka).await;
    let missing = names.iter().filter(|name| there.iter().all(|topic| topic.name != **name));
    assert_eq!(missing.count(), 0);
}
