//! What the log promises while nothing fails.

mod common;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use common::*;
use sandbar_core::{
    AckToken, Connection, Disposition, Header, Outgoing, PartitionId, PublishError, ReadFrom,
    ResumeFrom, Settlement, SourceError, StartAt,
};
use sandbar_store::{Log, LogConfig, TopicConfig};

fn numbered(topic: &str, n: std::ops::Range<u64>) -> Vec<Outgoing> {
    n.map(|i| Outgoing::new(topic, i.to_string())).collect()
}

#[tokio::test]
async fn records_come_back_byte_for_byte_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let mut record = Outgoing::new("t", vec![0xff, 0]).with_key(vec![0xfe]);
    record.headers = vec![
        Header { name: "null".into(), value: None },
        Header::new("empty", ""),
        Header::new("raw", vec![0x80]),
    ];
    record.attributes = vec![("id".into(), "1".into()), ("source".into(), "/s".into())];
    let mut tombstone = Outgoing::new("t", "").with_key("k");
    tombstone.payload = None;
    let empty = Outgoing::new("t", "");
    let log = Log::open(&path, config()).unwrap();
    publish(&log, &[record.clone(), tombstone, empty]).await;
    log.close().await;

    let log = Log::open(&path, config()).unwrap();
    let events = all(&log, "t").await;
    assert_eq!(events.iter().map(|e| e.position).collect::<Vec<_>>(), [0, 1, 2]);
    assert_eq!((&events[0].key, &events[0].payload), (&record.key, &record.payload));
    assert_eq!(events[0].headers[..2], [Header::new("ce_id", "1"), Header::new("ce_source", "/s")]);
    assert_eq!(events[0].headers[2..], record.headers[..]);
    assert_eq!((events[0].id(), events[0].attribute("source")), ("/s#1".into(), Some("/s")));
    assert_eq!((events[1].payload.clone(), events[2].payload.clone()), (None, Some(Bytes::new())));
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    assert!(now.as_millis() as u64 - events[0].timestamp_ms < 60_000);
    publish(&log, &[Outgoing::new("t", "x")]).await;
    assert_eq!(all(&log, "t").await.last().unwrap().position, 3);
}

#[tokio::test]
async fn keys_choose_the_partition_and_keep_their_order() {
    let topics = [("t".to_owned(), TopicConfig { partitions: Some(4), retention: None })];
    let log = Log::in_memory(LogConfig { topics: topics.into(), ..config() }).unwrap();
    for round in 0..10 {
        let records: Vec<_> = (0..20)
            .map(|k| Outgoing::new("t", format!("{k}:{round}")).with_key(format!("key{k}")))
            .collect();
        publish(&log, &records).await;
    }
    let events = all(&log, "t").await;
    assert_eq!(events.len(), 200);
    for k in 0..20 {
        let key = Bytes::from(format!("key{k}"));
        let of_key: Vec<_> = events.iter().filter(|e| e.key.as_ref() == Some(&key)).collect();
        let expected: Vec<_> = (0..10).map(|round| format!("{k}:{round}")).collect();
        assert_eq!(of_key.iter().map(|e| text(e)).collect::<Vec<_>>(), expected);
        let partition = crc32fast::hash(&key) % 4;
        assert!(of_key.iter().all(|e| e.partition == partition));
    }
    let info = &log.topics().await.unwrap()[0];
    assert_eq!((&*info.name, info.partitions, info.events), ("t", 4, Some(200)));
    assert!(info.bytes.unwrap() > 200 * 5);
    // keyless records go round: commit by commit
    for _ in 0..4 {
        publish(&log, &[Outgoing::new("t", "keyless")]).await;
    }
    let mut places: Vec<_> =
        all(&log, "t").await.iter().filter(|e| e.key.is_none()).map(|e| e.partition).collect();
    places.sort_unstable();
    assert_eq!(places, [0, 1, 2, 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn group_commit_keeps_each_producers_order_and_every_acknowledged_record() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path().join("log"), config()).unwrap();
    let producers = (0..32).map(|producer| {
        let log = log.clone();
        tokio::spawn(async move {
            for i in 0..25 {
                let pair = [2 * i, 2 * i + 1]
                    .map(|n| Outgoing::new("t", n.to_string()).with_key(producer.to_string()));
                publish(&log, &pair).await;
                let end = log.topics().await.unwrap()[0].events.unwrap();
                assert!(end >= 2 * (i + 1), "an acknowledged record must be readable");
            }
        })
    });
    for producer in producers.collect::<Vec<_>>() {
        producer.await.unwrap();
    }
    let events = all(&log, "t").await;
    assert!(events.iter().enumerate().all(|(i, e)| e.position == i as u64));
    for producer in 0..32 {
        let key = Bytes::from(producer.to_string());
        let own: Vec<_> = events.iter().filter(|e| e.key.as_ref() == Some(&key)).collect();
        assert!(own.iter().map(|e| text(e)).eq((0..50).map(|n| n.to_string())));
    }
    // 800 publishes that each had their own fsync would be 800 commits
    let commits = log.stats().commits.get();
    assert!(commits < 400, "{commits} commits for 800 concurrent publishes");
}

#[tokio::test]
async fn c1_a_later_subscription_gets_what_was_not_settled_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let log = Log::open(&path, config()).unwrap();
    publish(&log, &numbered("t", 0..12)).await;
    let (source, mut partition) = subscribe(&log, "g", "t").await;
    assert_eq!(take(&mut partition, 9).await.len(), 9);
    let release = Settlement {
        token: AckToken(6),
        disposition: Disposition::Release { after: Duration::ZERO },
    };
    partition.settle(&[done(0), done(4), done(5), release, done(8)]).await.unwrap();
    let cursors = log.cursors("g").await.unwrap();
    assert_eq!((cursors[0].1, cursors[0].2), (ResumeFrom(1), ResumeFrom(12)));
    drop(partition);
    source.close().await.unwrap();
    log.close().await;

    // each life writes the cursor before it has reached 4, 5 and 8 again
    for life in [1, 2] {
        let log = Log::open(&path, config()).unwrap();
        let (source, mut partition) = subscribe(&log, "g", "t").await;
        assert_eq!(take(&mut partition, 1).await[0].token, AckToken(life));
        partition.settle(&[done(life)]).await.unwrap();
        assert_eq!(log.cursors("g").await.unwrap()[0].1, ResumeFrom(life + 1));
        drop(partition);
        source.close().await.unwrap();
        log.close().await;
    }
    let log = Log::open(&path, config()).unwrap();
    let (_source, mut partition) = subscribe(&log, "g", "t").await;
    let rest: Vec<_> = take(&mut partition, 6).await.iter().map(|d| d.token.0).collect();
    assert_eq!(rest, [3, 6, 7, 9, 10, 11]);
    for offset in rest {
        partition.settle(&[done(offset)]).await.unwrap();
    }
    assert_eq!(log.cursors("g").await.unwrap()[0].1, ResumeFrom(12));
    assert_eq!(log.groups().await.unwrap(), ["g"]);
}

#[tokio::test]
async fn settling_twice_has_its_effects_once() {
    let log = memory();
    publish(&log, &numbered("t", 0..3)).await;
    let (_source, mut partition) = subscribe(&log, "g", "t").await;
    take(&mut partition, 3).await;
    let settlement = done_with(1, vec![Outgoing::new("out", "once")]);
    partition.settle(&[settlement.clone(), settlement.clone()]).await.unwrap();
    partition.settle(&[settlement]).await.unwrap();
    assert_eq!(texts(&all(&log, "out").await), ["once"]);
}

#[tokio::test]
async fn a_dropped_settle_may_be_made_again() {
    let log = memory();
    publish(&log, &numbered("t", 0..200)).await;
    let (_source, mut partition) = subscribe(&log, "g", "t").await;
    take(&mut partition, 200).await;
    for offset in 0..200 {
        let settlement = done_with(offset, vec![Outgoing::new("out", offset.to_string())]);
        // polled once or a few times, then dropped: sent or not, answered or not
        for _ in 0..offset % 3 {
            let settling = partition.settle(std::slice::from_ref(&settlement));
            tokio::select! {
                biased;
                result = settling => result.unwrap(),
                () = tokio::task::yield_now() => {}
            }
        }
        partition.settle(&[settlement]).await.unwrap();
    }
    let outputs = texts(&all(&log, "out").await);
    assert!(outputs.into_iter().eq((0..200).map(|n| n.to_string())));
}

#[tokio::test]
async fn an_effect_that_can_never_be_written_names_its_settlement() {
    let log = Log::in_memory(LogConfig { max_record_bytes: 100, ..config() }).unwrap();
    publish(&log, &numbered("t", 0..2)).await;
    let (_source, mut partition) = subscribe(&log, "g", "t").await;
    take(&mut partition, 2).await;
    let large = vec![Outgoing::new("out", vec![0; 101])];
    let fine = vec![Outgoing::new("out", "fine")];
    let settlements = [done_with(0, fine.clone()), done_with(1, large)];
    let error = partition.settle(&settlements).await.unwrap_err();
    assert!(matches!(error, SourceError::Rejected { token: AckToken(1), .. }), "{error}");
    assert!(error.to_string().contains("101 bytes"), "{error}");
    assert_eq!(log.cursors("g").await.unwrap()[0].1, ResumeFrom(0), "none of them is settled");
    partition.settle(&[done_with(0, fine), done(1)]).await.unwrap();
    assert_eq!(texts(&all(&log, "out").await), ["fine"]);
}

#[tokio::test]
async fn a_group_has_one_subscription_at_a_time() {
    let log = memory();
    publish(&log, &numbered("t", 0..2)).await;
    let (source, mut partition) = subscribe(&log, "g", "t").await;
    take(&mut partition, 2).await;
    let Err(SourceError::Fatal(why)) = log.subscribe(spec("g", &["t"])).await else {
        panic!("two subscriptions of one group")
    };
    assert!(why.contains("group g already has a subscription"), "{why}");
    let place = partition.id().clone();
    let held = log.move_cursor("g", &place, ResumeFrom(2)).await;
    assert!(matches!(held, Err(SourceError::Fatal(_))), "{held:?}");
    source.close().await.unwrap();
    // the old partition is fenced off: the cursor belongs to the next subscription
    let (next, mut again) = subscribe(&log, "g", "t").await;
    let fenced = partition.settle(&[done(0)]).await;
    assert!(matches!(fenced, Err(SourceError::Fatal(_))), "{fenced:?}");
    assert_eq!(take(&mut again, 2).await[0].token, AckToken(0));
    drop(next);
    log.move_cursor("g", &place, ResumeFrom(1)).await.unwrap();
    let (_source, mut moved) = subscribe(&log, "g", "t").await;
    assert_eq!(take(&mut moved, 1).await[0].token, AckToken(1));
    let nowhere = PartitionId { topic: "t".into(), partition: 7 };
    assert!(log.move_cursor("x", &nowhere, ResumeFrom(1)).await.is_err());
}

#[tokio::test]
async fn followers_wake_and_globs_pick_up_new_topics() {
    let log = memory();
    publish(&log, &numbered("a.old", 0..1)).await;
    let mut source = log.subscribe(spec("g", &["a.*", "exact"])).await.unwrap();
    let (mut first, mut second) = (assigned(&mut source).await, assigned(&mut source).await);
    let mut names = [first.id().to_string(), second.id().to_string()];
    names.sort();
    assert_eq!(names, ["a.old/0", "exact/0"]);
    if &*first.id().topic == "exact" {
        std::mem::swap(&mut first, &mut second);
    }
    take(&mut first, 1).await;
    let follower = tokio::spawn(async move { take(&mut first, 2).await });
    let mut tail = log.read("a.old", ReadFrom::Follow).await.unwrap();
    let tail = tokio::spawn(async move { tail.next(10).await.unwrap() });
    // both are asleep before anything is appended
    tokio::task::yield_now().await;
    publish(&log, &numbered("a.old", 1..3)).await;
    assert_eq!(follower.await.unwrap().len(), 2);
    assert_eq!(texts(&tail.await.unwrap()), ["1", "2"]);
    let next = tokio::spawn(async move {
        let partition = assigned(&mut source).await;
        (source, partition)
    });
    publish(&log, &numbered("b.other", 0..1)).await;
    publish(&log, &numbered("a.new", 7..8)).await;
    let (_source, mut partition) = next.await.unwrap();
    assert_eq!(&*partition.id().topic, "a.new");
    assert_eq!(text(&take(&mut partition, 1).await[0].event), "7");
}

#[tokio::test]
async fn latest_means_since_the_subscription_began_also_after_a_restart() {
    let log = memory();
    publish(&log, &numbered("t.old", 0..3)).await;
    let mut latest = spec("g", &["t.*"]);
    latest.start = StartAt::Latest;
    let mut source = log.subscribe(latest.clone()).await.unwrap();
    publish(&log, &numbered("t.old", 3..4)).await;
    publish(&log, &numbered("t.new", 10..11)).await;
    let (mut a, mut b) = (assigned(&mut source).await, assigned(&mut source).await);
    let mut seen = [text(&take(&mut a, 1).await[0].event), text(&take(&mut b, 1).await[0].event)];
    seen.sort();
    assert_eq!(seen, ["10", "3"]);
    drop((source, a, b));
    // nothing was settled: what it had seen must come again
    let mut source = log.subscribe(latest).await.unwrap();
    let (mut a, mut b) = (assigned(&mut source).await, assigned(&mut source).await);
    let mut seen = [text(&take(&mut a, 1).await[0].event), text(&take(&mut b, 1).await[0].event)];
    seen.sort();
    assert_eq!(seen, ["10", "3"]);
}

#[tokio::test]
async fn reading_begins_at_a_position_or_a_time_and_ends_where_the_topic_ended() {
    let log = memory();
    let mut times = Vec::new();
    for i in 0..20 {
        // each batch in a millisecond of its own
        while std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap()
            .as_millis() as u64
            <= times.last().copied().unwrap_or(0)
        {
            std::thread::yield_now();
        }
        publish(&log, &numbered("t", 3 * i..3 * i + 3)).await;
        times.push(all(&log, "t").await.last().unwrap().timestamp_ms);
    }
    for (i, time) in times.iter().enumerate() {
        let events = from(&log, "t", ReadFrom::Time(*time)).await;
        assert_eq!((events[0].position, events.len()), (3 * i as u64, 60 - 3 * i));
    }
    let before_all = from(&log, "t", ReadFrom::Time(0)).await;
    assert_eq!(before_all.len(), 60);
    assert!(from(&log, "t", ReadFrom::Time(times[19] + 1)).await.is_empty());
    assert_eq!(from(&log, "t", ReadFrom::Position(58)).await.len(), 2);
    assert!(from(&log, "t", ReadFrom::Position(1000)).await.is_empty());
    let mut reader = log.read("t", ReadFrom::Position(59)).await.unwrap();
    publish(&log, &numbered("t", 60..61)).await;
    assert_eq!(texts(&reader.next(10).await.unwrap()), ["59"]);
    assert!(reader.next(10).await.unwrap().is_empty(), "the end is the one at opening");
    let Err(SourceError::Fatal(why)) = log.read("none", ReadFrom::Start).await else {
        panic!("read a topic that does not exist")
    };
    assert!(why.contains("topic none does not exist"), "{why}");
    assert!(log.cursors("").await.unwrap().is_empty() && log.groups().await.unwrap().is_empty());
}

#[tokio::test]
async fn large_records_work_and_impossible_ones_are_rejected_alone() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path().join("log"), config()).unwrap();
    let large: Bytes = (0..10 << 20).map(|i| (i * 7) as u8).collect::<Vec<_>>().into();
    let records = [
        Outgoing::new("t", "before"),
        Outgoing::new("t", large.clone()),
        Outgoing::new("t", vec![0; (64 << 20) + 1]),
        Outgoing::new("no/slash", "x"),
        Outgoing::new("", "x"),
        Outgoing::new("t", "after"),
    ];
    let results = log.sink().publish(&records).await;
    let rejected: Vec<_> = results.iter().map(Result::is_err).collect();
    assert_eq!(rejected, [false, false, true, true, true, false]);
    for result in results {
        assert!(!matches!(result, Err(PublishError::Unavailable(_))));
    }
    let events = all(&log, "t").await;
    assert_eq!(events.len(), 3);
    assert!(events[1].payload.as_ref() == Some(&large), "10 MiB came back changed");
}

#[tokio::test]
async fn without_leave_to_create_topics_unknown_ones_are_refused_by_name() {
    let log = Log::in_memory(LogConfig { create_topics: false, ..config() }).unwrap();
    let result = log.sink().publish(&[Outgoing::new("t", "x")]).await.remove(0);
    assert!(matches!(&result, Err(PublishError::Rejected(why)) if why.contains("topic t")));
    let error = log.ensure_topics(&["t".into()]).await.unwrap_err();
    assert!(matches!(&error, SourceError::Fatal(why) if why.contains("t does not exist")));
    assert!(log.topics().await.unwrap().is_empty());
}

#[tokio::test]
async fn after_close_everything_is_unavailable_and_nothing_hangs() {
    let log = memory();
    publish(&log, &numbered("t", 0..1)).await;
    log.close().await;
    log.close().await;
    let result = log.sink().publish(&[Outgoing::new("t", "x")]).await.remove(0);
    assert!(matches!(result, Err(PublishError::Unavailable(_))));
    assert!(matches!(log.retain().await, Err(SourceError::Unavailable(_))));
}

#[tokio::test(start_paused = true)]
async fn a_paused_clock_stands_still_while_the_log_works() {
    let log = memory();
    let sink = log.sink();
    let long = Duration::from_secs(3600);
    for i in 0..200u64 {
        let record = [Outgoing::new("t", i.to_string())];
        let published = tokio::time::timeout(long, sink.publish(&record)).await;
        published.expect("the clock jumped while a commit was under way");
    }
    let log = Arc::new(log);
    let (_source, mut partition) = subscribe(&log, "g", "t").await;
    tokio::time::timeout(long, take(&mut partition, 200)).await.expect("the clock jumped");
}
