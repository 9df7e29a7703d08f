//! Against a real NATS server: what is special about this one.

mod common;

use std::{
    sync::{Arc, mpsc},
    time::Duration,
};

use common::*;
use sandbar_broker_nats::{Nats, NatsConfig};
use sandbar_core::{Connection, Outgoing, PartitionId, SourceError, SourceEvent, SubscriptionSpec};
use tokio::time::{Instant, timeout};

/// Long enough for a server to take a silent reader for dead.
const LONG: Duration = Duration::from_secs(ACK_WAIT.as_secs() * 3);

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_readers_events_come_first_and_in_order() {
    let Some(server) = server() else { return };
    let (topic, group) = (unique("failover"), unique("failover"));
    let nats = server.connect();
    publish(&nats, &numbered(&topic, 20, 1)).await;

    // a runtime of its own ends like a process that is killed: nothing is given back
    let (doomed, started) = (server.config(), spec(&group, &topic));
    let (send, receive) = mpsc::channel();
    let doomed = std::thread::spawn(move || {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let held = runtime.block_on(async {
            let nats = Nats::connect("doomed", doomed).unwrap();
            let mut source = nats.subscribe(started).await.unwrap();
            let mut partition = assigned(&mut source).await;
            let ten = recv_all(&mut partition, 10).await;
            settle(&mut partition, &ten[3..5]).await;
            settle(&mut partition, &ten[..2]).await;
            // a second look, so that what was settled has arrived
            nats.extents(&ten[0].event.topic).await.unwrap();
            (nats, source, partition)
        });
        send.send(()).unwrap();
        runtime.shutdown_background();
        std::mem::forget(held);
    });
    receive.recv().unwrap();
    doomed.join().unwrap();

    let mut source = nats.subscribe(spec(&group, &topic)).await.unwrap();
    let mut partition = assigned(&mut source).await;
    publish(&nats, &numbered(&topic, 1, 1)).await;
    let rest = recv_all(&mut partition, 17).await;
    let expected: Vec<u64> = [2].into_iter().chain(5..20).chain([0]).collect();
    assert_eq!(numbers(&rest), expected);
    assert!(rest[0].redeliveries > 0);
    settle(&mut partition, &rest).await;
    drop(partition);
    source.close().await.unwrap();
    let cursors = nats.cursors(&group).await.unwrap();
    assert_eq!((cursors[0].1.0, cursors[0].2.0), (22, 22));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_active_reader_that_waits_stays_active_and_another_takes_over_when_it_leaves() {
    let Some(server) = server() else { return };
    let (topic, group) = (unique("standby"), unique("standby"));
    let (nats, other) = (server.connect(), server.connect());
    nats.ensure_topics(std::slice::from_ref(&topic)).await.unwrap();
    let mut source =
        nats.subscribe(SubscriptionSpec { prefetch: 4, ..spec(&group, &topic) }).await.unwrap();
    let mut active = assigned(&mut source).await;
    publish(&nats, &numbered(&topic, 50, 5)).await;
    let first = recv_all(&mut active, 3).await;
    let mut standing_by = other.subscribe(spec(&group, &topic)).await.unwrap();
    let mut standby = assigned(&mut standing_by).await;

    // nothing is taken in, nothing settled, and nothing goes to anyone else
    let taken = timeout(LONG, standby.recv(10)).await;
    assert!(taken.is_err(), "{taken:?}");
    let refused = nats.move_cursor(&group, active.id(), sandbar_core::ResumeFrom(1)).await;
    assert!(refused.unwrap_err().to_string().contains("it has a subscription"));
    let more = recv_all(&mut active, 3).await;
    assert_eq!(numbers(&more), [3, 4, 5]);
    assert_eq!(more[0].redeliveries, 0);
    settle(&mut active, &first).await;
    settle(&mut active, &more[1..]).await;
    drop(active);
    source.close().await.unwrap();

    let rest = recv_all(&mut standby, 45).await;
    let expected: Vec<u64> = [3].into_iter().chain(6..50).collect();
    assert_eq!(numbers(&rest), expected);
    settle(&mut standby, &rest).await;
    drop(standby);
    standing_by.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_loses_its_place_finishes_first() {
    let Some(server) = server() else { return };
    let (topic, group) = (unique("taken"), unique("taken"));
    let (nats, other) = (server.connect(), server.connect());
    publish(&nats, &numbered(&topic, 5, 1)).await;
    let mut source = nats.subscribe(spec(&group, &topic)).await.unwrap();
    let mut old = assigned(&mut source).await;
    let five = recv_all(&mut old, 5).await;
    let mut next = other.subscribe(spec(&group, &topic)).await.unwrap();
    let mut new = assigned(&mut next).await;

    // as after a process was suspended for too long
    let client = async_nats::connect(&server.address).await.unwrap();
    let stream = async_nats::jetstream::new(client).get_stream(&topic).await.unwrap();
    let mut names = std::pin::pin!(stream.consumer_names());
    let consumer = futures::StreamExt::next(&mut names).await.unwrap().unwrap();
    // whoever asks first is the next: until it is the other
    let revoked = async {
        let mut count = 5;
        loop {
            stream.unpin_consumer(&consumer, "readers").await.unwrap();
            publish(&nats, &[Outgoing::new(&*topic, count.to_string()).with_key("key-0")]).await;
            count += 1;
            match timeout(ACK_WAIT, next_event(&mut source)).await {
                Ok(SourceEvent::Revoking { drained, .. }) => return (drained, count),
                Ok(_) => panic!("something else"),
                Err(_) => {}
            }
        }
    };
    let (drained, count) = timeout(PATIENCE, revoked).await.expect("it was never taken");
    let early = timeout(ACK_WAIT * 2, new.recv(1)).await;
    assert!(early.is_err(), "overtook what is under way elsewhere: {early:?}");
    settle(&mut old, &five).await;
    drop(old);
    drop(drained);
    let rest = recv_all(&mut new, (count - 5) as usize).await;
    assert_eq!(numbers(&rest), (5..count).collect::<Vec<_>>());
    settle(&mut new, &rest).await;
    drop(new);
    next.close().await.unwrap();
    // the first stands by from now on
    drop(assigned(&mut source).await);
    source.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repetition_is_stored_once_and_a_second_dead_letter_is_none() {
    let Some(server) = server() else { return };
    let topic = unique("dedup");
    let nats = server.connect();
    let mut record = Outgoing::new(&*topic, "x");
    record.attributes = [("specversion", "1.0"), ("id", "7"), ("source", "/s"), ("type", "t")]
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .into();
    publish(&nats, &[record.clone(), record.clone()]).await;
    publish(&nats, &[record.clone()]).await;
    let stored = read_all(&nats, &topic).await;
    assert_eq!(stored.len(), 1);
    assert_eq!(stored[0].attribute("id"), Some("7"));
    let given = Outgoing::new(&*topic, "y").with_header("idempotency-key", "one");
    let same = Outgoing::new(&*topic, "z").with_header("idempotency-key", "one");
    publish(&nats, &[given, same]).await;
    assert_eq!(read_all(&nats, &topic).await.len(), 2);
    let dead = record.with_header("__dlq.errors.topic", "t");
    publish(&nats, &[dead.clone(), dead]).await;
    assert_eq!(read_all(&nats, &topic).await.len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_the_subject_is_the_key() {
    let Some(server) = server() else { return };
    let (base, group) = (unique("token"), unique("token"));
    let config = NatsConfig { key_token: Some(2), ..server.config() };
    let nats = Nats::connect("nats", config).unwrap();
    let topic = format!("{base}.*");
    nats.ensure_topics(std::slice::from_ref(&topic)).await.unwrap();
    let written = nats.sink().publish(&[Outgoing::new(&*topic, "1").with_key("c7")]).await;
    assert!(written[0].is_ok(), "{written:?}");
    let client = async_nats::connect(&server.address).await.unwrap();
    client.publish(format!("{base}.c8"), "2".into()).await.unwrap();

    let mut source = nats.subscribe(spec(&group, &topic)).await.unwrap();
    let mut partition = assigned(&mut source).await;
    let both = recv_all(&mut partition, 2).await;
    let seen: Vec<_> =
        both.iter().map(|d| (&*d.event.topic, d.event.key.as_deref().unwrap())).collect();
    let (c7, c8) = (format!("{base}.c7"), format!("{base}.c8"));
    assert_eq!(seen, [(&*c7, &b"c7"[..]), (&*c8, b"c8")]);
    settle(&mut partition, &both).await;
    drop(partition);
    source.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compacted_topic_keeps_the_newest_event_of_each_key() {
    let Some(server) = server() else { return };
    let topic = unique("sandbar-halted.g");
    let nats = server.connect();
    nats.ensure_compacted_topic(&topic).await.unwrap();
    let record = |key: &'static str, text: &'static str| Outgoing::new(&*topic, text).with_key(key);
    publish(&nats, &[record("a", "1"), record("b", "2"), record("a", "3")]).await;
    let mut gone = record("b", "");
    gone.payload = None;
    // another connection finds out by itself
    publish(&server.connect(), &[gone]).await;
    let kept = read_all(&nats, &topic).await;
    let kept: Vec<_> =
        kept.iter().map(|e| (e.key.as_deref().unwrap(), e.payload.as_deref())).collect();
    assert_eq!(kept, [(&b"a"[..], Some(&b"3"[..])), (b"b", None)]);
    let listed = nats.topics().await.unwrap();
    assert_eq!(listed.iter().filter(|t| t.name.contains(&topic)).count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn core_subjects_are_read_only_where_that_is_said_aloud() {
    let Some(server) = server() else { return };
    let (base, group) = (unique("core"), unique("core"));
    let config = NatsConfig { at_most_once: true, create_topics: false, ..server.config() };
    let nats = Nats::connect("nats", config).unwrap();
    let glob = format!("{base}.web*");
    let mut source = nats.subscribe(spec(&group, &glob)).await.unwrap();
    let mut partition = assigned(&mut source).await;
    let client = async_nats::connect(&server.address).await.unwrap();
    for subject in ["other", "webhooks", "web.push"] {
        client.publish(format!("{base}.{subject}"), subject.into()).await.unwrap();
    }
    let two = recv_all(&mut partition, 2).await;
    let payloads: Vec<_> = two.iter().map(|d| d.event.payload.clone().unwrap()).collect();
    assert_eq!(payloads, ["webhooks", "web.push"]);
    assert_eq!(*two[0].event.topic, format!("{base}.webhooks"));
    settle(&mut partition, &two).await;
    drop(partition);
    source.close().await.unwrap();

    // without it the subject is a topic that does not exist
    let strict = Nats::connect("nats", NatsConfig { create_topics: false, ..server.config() });
    let mut source = strict.unwrap().subscribe(spec(&group, &base)).await.unwrap();
    let said = timeout(PATIENCE, source.next()).await.unwrap().err().unwrap().to_string();
    assert!(said.contains("does not exist"), "{said}");
    source.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_of_others_is_read_by_its_subjects() {
    let Some(server) = server() else { return };
    let (base, group) = (unique("foreign"), unique("foreign"));
    let nats = Arc::new(server.connect());
    let client = async_nats::connect(&server.address).await.unwrap();
    let context = async_nats::jetstream::new(client);
    let stream = async_nats::jetstream::stream::Config {
        name: base.clone(),
        subjects: vec![format!("{base}.a"), format!("{base}.b.>")],
        ..Default::default()
    };
    context.create_stream(stream).await.unwrap();
    for subject in ["a", "b.c", "a", "b.d"] {
        context.publish(format!("{base}.{subject}"), "x".into()).await.unwrap().await.unwrap();
    }
    let mut source = nats.subscribe(spec(&group, &format!("{base}.*"))).await.unwrap();
    let mut seen = Vec::new();
    let mut partitions = Vec::new();
    for _ in 0..2 {
        let mut partition = assigned(&mut source).await;
        let two = recv_all(&mut partition, 2).await;
        settle(&mut partition, &two).await;
        let place = |d: &sandbar_core::Delivery| (d.event.topic.to_string(), d.event.position);
        seen.extend(two.iter().map(place));
        partitions.push(partition);
    }
    seen.sort();
    let expected = [("a", 1), ("a", 3), ("b.c", 2), ("b.d", 4)];
    assert_eq!(seen, expected.map(|(s, p)| (format!("{base}.{s}"), p)));
    drop(partitions);
    source.close().await.unwrap();
    // all of its part is settled: nothing lags, whatever else the stream holds
    for (PartitionId { topic, .. }, from, end) in nats.cursors(&group).await.unwrap() {
        assert_eq!(from, end, "{topic}");
    }
}

/// What a reader holds is lent to it for `ack_wait` from when the server last heard of it.
#[tokio::test(flavor = "multi_thread")]
async fn o1_a_reader_that_the_server_does_not_hear_stops_before_another_begins() {
    let Some(server) = server() else { return };
    let (topic, group) = (unique("unheard"), unique("unheard"));
    let other = server.connect();
    let cable = Cable::to(server.address.clone()).await;
    let config = NatsConfig { servers: cable.address.clone(), ..server.config() };
    let unheard = Nats::connect("unheard", config).unwrap();
    publish(&other, &numbered(&topic, 10, 2)).await;
    let mut source = unheard.subscribe(spec(&group, &topic)).await.unwrap();
    let mut partition = assigned(&mut source).await;
    let held = recv_all(&mut partition, 10).await;
    // while the server hears of them they are nobody else's, and stay here
    assert!(timeout(ACK_WAIT * 2, partition.recv(1)).await.is_err(), "none came again");

    let mut next = other.subscribe(spec(&group, &topic)).await.unwrap();
    let mut standby = assigned(&mut next).await;
    cable.cut();
    let stopped = async {
        let error = timeout(PATIENCE, partition.recv(1)).await.expect("it never stopped");
        assert!(matches!(error, Err(SourceError::Fenced(_))), "{error:?}");
        Instant::now()
    };
    let began = async {
        let got = recv_all(&mut standby, 10).await;
        (Instant::now(), got)
    };
    let (stopped, (began, got)) = tokio::join!(stopped, began);
    assert!(stopped < began, "{:?} too late", stopped - began);
    assert_eq!(numbers(&got), numbers(&held));
    settle(&mut standby, &got).await;
    drop((partition, standby));
    next.close().await.unwrap();
}
