//! Topics that are trimmed, compacted or reserved.

mod common;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use common::*;
use sandbar_core::{
    Connection, Event, Extent, Outgoing, PartitionId, ReadFrom, ResumeFrom, SourceError, StartAt,
    SubscriptionSpec, reserved,
};
use sandbar_store::{Log, LogConfig, Retention};

fn place(topic: &str) -> PartitionId {
    PartitionId { topic: topic.into(), partition: 0 }
}

async fn numbered(log: &Log, topic: &str, numbers: std::ops::Range<u64>) {
    let record = |n: u64| Outgoing::new(topic, n.to_string());
    publish(log, &numbers.map(record).collect::<Vec<_>>()).await;
}

async fn extent(log: &Log, topic: &str) -> (u64, u64) {
    let [Extent { first, end, .. }] = &log.extents(topic).await.unwrap()[..] else {
        panic!("one partition")
    };
    (first.0, end.0)
}

#[tokio::test]
async fn what_is_trimmed_is_gone_to_the_event_and_cursors_move_up() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let log = Log::open(&path, config()).unwrap();
    for batch in 0..10 {
        numbered(&log, "t", 10 * batch..10 * batch + 10).await;
    }
    let (source, mut partition) = subscribe(&log, "behind", "t").await;
    take(&mut partition, 5).await;
    partition.settle(&[done(0), done(3)]).await.unwrap();
    let (ahead, mut beyond) = subscribe(&log, "ahead", "t").await;
    let all_of_it: Vec<_> = take(&mut beyond, 60).await.iter().map(|d| done(d.token.0)).collect();
    beyond.settle(&all_of_it).await.unwrap();

    log.trim(&place("t"), ResumeFrom(37)).await.unwrap();
    log.trim(&place("t"), ResumeFrom(12)).await.unwrap();
    assert_eq!(extent(&log, "t").await, (37, 100));
    assert_eq!(log.cursors("behind").await.unwrap()[0].1, ResumeFrom(37));
    assert_eq!(log.cursors("ahead").await.unwrap()[0].1, ResumeFrom(60));
    assert_eq!((log.stats().trimmed.get(), log.stats().expired_unread.get()), (37, 35));
    assert_eq!(log.topics().await.unwrap()[0].events, Some(63));
    // what it had in work is settled all the same
    partition.settle(&[done_with(4, vec![Outgoing::new("out", "4")])]).await.unwrap();
    assert_eq!(texts(&all(&log, "out").await), ["4"], "the output of a deleted event is lost");
    assert_eq!(log.cursors("behind").await.unwrap()[0].1, ResumeFrom(37));
    drop((partition, beyond, ahead));
    source.close().await.unwrap();
    log.close().await;

    let log = Log::open(&path, config()).unwrap();
    for from_there in [ReadFrom::Start, ReadFrom::Position(5), ReadFrom::Time(0)] {
        let events = from(&log, "t", from_there).await;
        assert_eq!((events.len(), &*text(&events[0])), (63, "37"), "{from_there:?}");
    }
    let (_source, mut partition) = subscribe(&log, "behind", "t").await;
    assert_eq!(take(&mut partition, 1).await[0].token.0, 37);
    log.trim(&place("t"), ResumeFrom(u64::MAX)).await.unwrap();
    assert!(all(&log, "t").await.is_empty());
    numbered(&log, "t", 100..101).await;
    assert_eq!(all(&log, "t").await[0].position, 100);
    let nowhere = log.trim(&place("none"), ResumeFrom(1)).await;
    assert!(matches!(nowhere, Err(SourceError::Fatal(_))), "{nowhere:?}");
}

#[tokio::test]
async fn trimming_goes_in_slices_and_frees_the_bytes() {
    let log = memory();
    for n in 0..3000 {
        numbered(&log, "t", n..n + 1).await;
    }
    let commits = log.stats().commits.get();
    log.trim(&place("t"), ResumeFrom(2999)).await.unwrap();
    assert!(log.stats().commits.get() - commits >= 3, "appends waited for all of it");
    let info = &log.topics().await.unwrap()[0];
    assert_eq!(info.events, Some(1));
    assert!(info.bytes.unwrap() < 100);
}

#[tokio::test]
async fn reading_from_a_time_works_in_a_trimmed_topic() {
    let log = memory();
    numbered(&log, "t", 0..100).await;
    let first = all(&log, "t").await[0].timestamp_ms;
    let mut last = first;
    while last == first {
        numbered(&log, "t", 100..101).await;
        last = all(&log, "t").await.last().unwrap().timestamp_ms;
    }
    let expected = from(&log, "t", ReadFrom::Time(last)).await;
    log.trim(&place("t"), ResumeFrom(90)).await.unwrap();
    assert_eq!(from(&log, "t", ReadFrom::Time(last)).await, expected);
    assert_eq!(from(&log, "t", ReadFrom::Time(first)).await[0].position, 90);
}

/// The newest record of each key, as a reader of the whole topic has it in the end.
fn newest(events: &[Event]) -> BTreeMap<String, String> {
    let mut newest = BTreeMap::new();
    for event in events {
        let key = String::from_utf8(event.key.clone().unwrap().to_vec()).unwrap();
        match &event.payload {
            Some(_) => drop(newest.insert(key, text(event).trim_end().to_owned())),
            None => drop(newest.remove(&key)),
        }
    }
    newest
}

#[tokio::test]
async fn a_compacted_topic_keeps_the_newest_record_of_each_key_and_little_else() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let stingy = LogConfig {
        retention: Retention { age: Some(Duration::ZERO), size: Some(1) },
        retention_interval: Duration::from_millis(1),
        ..config()
    };
    let mut model = BTreeMap::new();
    let mut state = 1u64;
    let mut random = move |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) % below
    };
    for life in 0..3 {
        let log = Log::open(&path, stingy.clone()).unwrap();
        log.ensure_compacted_topic("kept").await.unwrap();
        let mut tail = log.read("kept", ReadFrom::Follow).await.unwrap();
        let (mut published, mut followed) = (0, 0);
        for round in 0..300 {
            let records: Vec<_> = (0..1 + random(20))
                .map(|n| {
                    // a few keys that never change again, and many that do
                    let key = if random(50) == 0 { 1000 + random(100) } else { random(40) };
                    let mut record = Outgoing::new("kept", format!("{life}:{round}:{n:<500}"))
                        .with_key(key.to_string())
                        .with_header("h", "v");
                    if random(10) == 0 {
                        record.payload = None;
                        model.remove(&key.to_string());
                    } else {
                        model.insert(key.to_string(), format!("{life}:{round}:{n}"));
                    }
                    record
                })
                .collect();
            publish(&log, &records).await;
            published += records.len();
            while followed < published {
                followed += tail.next(1000).await.unwrap().len();
            }
        }
        log.retain().await.unwrap();
        let events = all(&log, "kept").await;
        assert_eq!(newest(&events), model);
        assert!(events.windows(2).all(|w| w[0].position < w[1].position));
        assert!(events.iter().all(|e| e.header("h").is_some()));
        assert!(log.stats().superseded.get() > 1000, "{} removed", log.stats().superseded.get());
        assert_eq!(log.stats().expired.get(), 0, "retention by age or size took some");
        let bytes = log.topics().await.unwrap()[0].bytes.unwrap();
        assert!(bytes < 300 << 10, "{bytes} bytes are left of about 150 keys");
        // whoever begins anywhere gets on, over all gaps, to the end
        for position in (0..events.last().unwrap().position).step_by(97) {
            let rest: Vec<_> = events.iter().filter(|e| e.position >= position).cloned().collect();
            assert_eq!(from(&log, "kept", ReadFrom::Position(position)).await, rest);
        }
        let first_half = events[events.len() / 2].timestamp_ms;
        let expected = events.iter().filter(|e| e.timestamp_ms >= first_half).count();
        assert_eq!(from(&log, "kept", ReadFrom::Time(first_half)).await.len(), expected);
        let (source, mut partition) = subscribe(&log, "g", "kept").await;
        let ours = take(&mut partition, 1).await[0].token.0;
        let at = events.iter().filter(|e| e.position >= ours).count();
        let mut settled = vec![done(ours)];
        settled.extend(take(&mut partition, at - 1).await.iter().map(|d| done(d.token.0)));
        partition.settle(&settled).await.unwrap();
        drop(partition);
        source.close().await.unwrap();
        log.close().await;
    }
}

#[tokio::test]
async fn a_reader_that_began_before_a_compaction_comes_to_its_end() {
    let log = memory();
    log.ensure_compacted_topic("kept").await.unwrap();
    let same_key = |n: u64| Outgoing::new("kept", format!("{n:<1000}")).with_key("k");
    for n in 0..100 {
        publish(&log, &[same_key(n)]).await;
    }
    let mut reader = log.read("kept", ReadFrom::Start).await.unwrap();
    let first = reader.next(10).await.unwrap().len();
    for n in 100..200 {
        publish(&log, &[same_key(n)]).await;
    }
    log.retain().await.unwrap();
    let mut read = first;
    loop {
        let events = reader.next(10).await.unwrap();
        if events.is_empty() {
            break;
        }
        read += events.len();
    }
    assert!(read <= 100);
    assert_eq!(texts(&all(&log, "kept").await), [format!("{:<1000}", 199)]);
}

#[tokio::test]
async fn an_existing_topic_becomes_compacted_and_one_that_may_not_be_created_does_not() {
    let log =
        Log::in_memory(LogConfig { retention: Retention { age: None, size: Some(1) }, ..config() })
            .unwrap();
    publish(&log, &[Outgoing::new("t", "x").with_key("k")]).await;
    log.ensure_compacted_topic("t").await.unwrap();
    log.ensure_compacted_topic("t").await.unwrap();
    for _ in 0..10 {
        publish(&log, &[Outgoing::new("t", "keyless")]).await;
    }
    log.retain().await.unwrap();
    assert_eq!(all(&log, "t").await.len(), 11);
    let log = Log::in_memory(LogConfig { create_topics: false, ..config() }).unwrap();
    let refused = log.ensure_compacted_topic("t").await;
    assert!(matches!(&refused, Err(SourceError::Fatal(why)) if why.contains('t')), "{refused:?}");
}

#[tokio::test]
async fn a_glob_never_matches_a_reserved_topic() {
    let log = memory();
    let own =
        [reserved::inbox("g"), reserved::halted("g"), reserved::retry_tier("", Duration::ZERO)];
    for topic in &own {
        numbered(&log, topic, 0..1).await;
    }
    numbered(&log, "sandbar-mine", 0..1).await;
    let topics = vec!["*".to_owned(), "sandbar-*".into(), own[0].clone()];
    let mut source = log.subscribe(SubscriptionSpec::new("g", topics)).await.unwrap();
    let (first, second) = (assigned(&mut source).await, assigned(&mut source).await);
    let mut names = [&first, &second].map(|p| Arc::clone(&p.id().topic));
    names.sort();
    assert_eq!(names, ["sandbar-inbox.g".into(), "sandbar-mine".into()]);
    let next = tokio::spawn(async move { assigned(&mut source).await });
    numbered(&log, &reserved::inbox("other"), 0..1).await;
    numbered(&log, "new", 0..1).await;
    assert_eq!(&*next.await.unwrap().id().topic, "new");
}

#[tokio::test]
async fn d4_an_inbox_is_read_from_its_beginning_wherever_the_subscription_starts() {
    let log = memory();
    let inbox = reserved::inbox("g");
    numbered(&log, "t", 0..3).await;
    numbered(&log, &inbox, 0..3).await;
    let mut latest = spec("g", &["t", &inbox]);
    latest.start = StartAt::Latest;
    let mut source = log.subscribe(latest).await.unwrap();
    let mut partitions = [assigned(&mut source).await, assigned(&mut source).await];
    partitions.sort_by_key(|p| p.id().clone());
    let [of_inbox, of_topic] = &mut partitions;
    assert_eq!(take(of_inbox, 3).await.len(), 3);
    numbered(&log, "t", 3..4).await;
    assert_eq!(text(&take(of_topic, 1).await[0].event), "3");
}

#[tokio::test]
async fn a_subscription_until_the_end_says_when_it_is_there() {
    let log = memory();
    numbered(&log, "t", 0..3).await;
    let until_end = SubscriptionSpec { until_end: true, ..spec("g", &["t"]) };
    let mut source = log.subscribe(until_end).await.unwrap();
    let mut partition = assigned(&mut source).await;
    assert_eq!(take(&mut partition, 3).await.len(), 3);
    assert!(partition.recv(10).await.unwrap().is_empty());
    numbered(&log, "t", 3..4).await;
    assert_eq!(take(&mut partition, 1).await[0].token.0, 3);
    assert!(partition.recv(10).await.unwrap().is_empty());
}
