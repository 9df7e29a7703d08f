//! Deleting what is old or too much.

mod common;

use std::time::Duration;

use common::*;
use sandbar_core::{Connection, Outgoing, ReadFrom, ResumeFrom};
use sandbar_store::{Log, LogConfig, Retention, TopicConfig};

fn kibibytes(topic: &str, count: usize) -> Vec<Outgoing> {
    (0..count).map(|i| Outgoing::new(topic, vec![i as u8; 1024])).collect()
}

fn by_size(size: u64) -> LogConfig {
    LogConfig { retention: Retention { age: None, size: Some(size) }, ..config() }
}

#[tokio::test]
async fn by_size_the_oldest_batches_go_and_offsets_stay() {
    let keep = TopicConfig { partitions: None, retention: Some(Retention::UNLIMITED) };
    let topics = [("kept".to_owned(), keep)].into();
    let log = Log::in_memory(LogConfig { topics, ..by_size(100 * 1024) }).unwrap();
    for _ in 0..40 {
        publish(&log, &kibibytes("t", 10)).await;
        publish(&log, &kibibytes("kept", 10)).await;
    }
    log.retain().await.unwrap();
    let events = all(&log, "t").await;
    // whole batches: the limit and one more at most
    assert!((100..=110).contains(&events.len()), "{} events", events.len());
    assert_eq!(events.last().unwrap().position, 399);
    assert!(events.windows(2).all(|w| w[1].position == w[0].position + 1));
    assert_eq!(from(&log, "t", ReadFrom::Position(0)).await, events);
    assert_eq!(all(&log, "kept").await.len(), 400);
    let stats = log.stats();
    assert_eq!(stats.expired.get(), 400 - events.len() as u64);
    assert_eq!(log.retain().await.unwrap().batches, 0, "nothing is left to delete");
}

#[tokio::test]
async fn by_age_everything_old_goes_and_the_log_goes_on_counting() {
    let age = Duration::from_millis(1);
    let retention = Retention { age: Some(age), size: None };
    let log = Log::in_memory(LogConfig { retention, ..config() }).unwrap();
    publish(&log, &kibibytes("t", 30)).await;
    while !all(&log, "t").await.is_empty() {
        log.retain().await.unwrap();
    }
    assert_eq!(log.topics().await.unwrap()[0].bytes, Some(0));
    publish(&log, &kibibytes("t", 1)).await;
    let (_source, mut partition) = subscribe(&log, "g", "t").await;
    let deleted_too = log.topics().await.unwrap()[0].events == Some(0);
    if !deleted_too {
        assert_eq!(take(&mut partition, 1).await[0].token.0, 30);
    }
}

#[tokio::test]
async fn a_cursor_in_deleted_events_moves_up_and_the_loss_is_counted() {
    let log = Log::in_memory(LogConfig {
        retention_interval: Duration::from_secs(3600),
        ..by_size(2_000 * 1024)
    })
    .unwrap();
    for _ in 0..20 {
        publish(&log, &kibibytes("t", 100)).await;
    }
    let (source, mut slow) = subscribe(&log, "slow", "t").await;
    take(&mut slow, 10).await;
    slow.settle(&[done(0), done(5), done(6)]).await.unwrap();
    for _ in 0..10 {
        publish(&log, &kibibytes("t", 100)).await;
    }
    log.retain().await.unwrap();
    let first = all(&log, "t").await[0].position;
    assert!(first > 500);
    assert_eq!(log.cursors("slow").await.unwrap()[0].1, ResumeFrom(first));
    assert_eq!(log.stats().expired_unread.get(), first - 3, "three of them were finished");
    assert!(log.stats().cursors_moved.get() > 0);
    // events in work may still be settled, and the cursor does not go back
    slow.settle(&[done(1)]).await.unwrap();
    assert_eq!(log.cursors("slow").await.unwrap()[0].1, ResumeFrom(first));
    // the running subscription goes on with what is left, after what it holds already
    let mut seen = 10;
    while seen < first {
        seen = take(&mut slow, 1).await[0].token.0;
    }
    assert_eq!(seen, first);
    drop(slow);
    source.close().await.unwrap();
    let (_source, mut again) = subscribe(&log, "slow", "t").await;
    assert_eq!(take(&mut again, 1).await[0].token.0, first);
}

#[tokio::test]
async fn the_file_stays_bounded_while_appending_without_end() {
    let dir = tempfile::tempdir().unwrap();
    let limit = 8 << 20;
    let log = Log::open(dir.path().join("log"), by_size(limit)).unwrap();
    let mut largest = 0;
    // twenty times the limit; nobody calls `retain`: outgrowing the limit does
    for _ in 0..160 {
        publish(&log, &kibibytes("t", 1000)).await;
        largest = largest.max(log.file_bytes().unwrap());
    }
    assert!(log.stats().expired.get() > 140_000);
    assert!(largest < 4 * limit, "the file grew to {largest} bytes for a limit of {limit}");
    let events = all(&log, "t").await;
    assert_eq!(events.last().unwrap().position, 159_999);
}
