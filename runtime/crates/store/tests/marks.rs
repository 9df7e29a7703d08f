//! Marks of handled events: when they are seen, and when they go.

mod common;

use std::time::Duration;

use common::*;
use sandbar_core::{Connection, Mark, Marks, Outgoing};
use sandbar_store::{Log, LogConfig};

async fn seen(log: &Log, group: &str, ids: &[&str], now_ms: u64) -> Vec<bool> {
    let ids: Vec<_> = ids.iter().map(ToString::to_string).collect();
    log.seen(group, &ids, now_ms).await.unwrap()
}

fn marks(ids: std::ops::Range<u64>, expires_ms: u64) -> Vec<Mark> {
    ids.map(|id| mark(id, expires_ms)).collect()
}

/// No mark expires by itself.
fn still() -> LogConfig {
    LogConfig { retention_interval: Duration::from_secs(3600), ..config() }
}

#[tokio::test]
async fn i2_a_mark_is_seen_once_its_settlement_is_answered_and_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let log = Log::open(&path, config()).unwrap();
    publish(&log, &[Outgoing::new("t", "0"), Outgoing::new("t", "1")]).await;
    let (_source, mut partition) = subscribe(&log, "g", "t").await;
    take(&mut partition, 2).await;
    assert!(log.subscribe(spec("x", &["t"])).await.unwrap().guarantees().atomic_marks);
    let long = "long ".repeat(1000);
    let settlements =
        [marked(0, vec![], mark("a", u64::MAX)), marked(1, vec![], mark(&long, u64::MAX))];
    partition.settle(&settlements).await.unwrap();
    log.mark("g", &[mark("by itself", u64::MAX)]).await.unwrap();
    for life in ["this one", "the next"] {
        let log = match life {
            "this one" => log.clone(),
            _ => {
                log.close().await;
                Log::open(&path, config()).unwrap()
            }
        };
        let ids = ["a", "b", &long, &long[1..], "by itself", ""];
        let expected = [true, false, true, false, true, false];
        assert_eq!(seen(&log, "g", &ids, 0).await, expected, "in {life} life");
        assert_eq!(seen(&log, "another", &ids, 0).await, [false; 6]);
    }
}

#[tokio::test]
async fn i2_what_is_refused_leaves_no_mark() {
    let log = Log::in_memory(LogConfig { max_record_bytes: 100, ..config() }).unwrap();
    publish(&log, &[Outgoing::new("t", "0")]).await;
    let (source, mut partition) = subscribe(&log, "g", "t").await;
    take(&mut partition, 1).await;
    let large = vec![Outgoing::new("out", vec![0; 101])];
    let refused = partition.settle(&[marked(0, large, mark("a", u64::MAX))]).await;
    assert!(refused.is_err());
    assert_eq!(seen(&log, "g", &["a"], 0).await, [false]);
    source.close().await.unwrap();
    let fenced = partition.settle(&[marked(0, vec![], mark("a", u64::MAX))]).await;
    assert!(fenced.is_err());
    assert_eq!(seen(&log, "g", &["a"], 0).await, [false]);
}

#[tokio::test]
async fn i3_a_mark_expires_at_the_later_of_its_times() {
    let log = Log::in_memory(still()).unwrap();
    // in the future, so that retention has nothing to do with it
    let at = u64::MAX / 2;
    log.mark("g", &[mark("a", at), mark("b", at)]).await.unwrap();
    log.mark("g", &[mark("a", at + 10), mark("b", at - 10)]).await.unwrap();
    assert_eq!(seen(&log, "g", &["a", "b"], at - 1).await, [true, true]);
    assert_eq!(seen(&log, "g", &["a", "b"], at).await, [true, false]);
    assert_eq!(seen(&log, "g", &["a", "b"], at + 9).await, [true, false]);
    assert_eq!(seen(&log, "g", &["a", "b"], at + 10).await, [false, false]);
}

#[tokio::test]
async fn i3_expired_marks_are_removed_in_slices_and_the_others_stay() {
    let log = Log::in_memory(still()).unwrap();
    let commits = log.stats().commits.get();
    log.mark("g", &marks(0..20_000, 1000)).await.unwrap();
    log.mark("g", &marks(19_990..20_010, u64::MAX)).await.unwrap();
    log.mark("another", &marks(0..10, 2000)).await.unwrap();
    log.retain().await.unwrap();
    assert_eq!(log.stats().marks_expired.get(), 19_990 + 10);
    // three of them wrote marks, one more would have been enough to remove all of them; two
    // slices may share a commit
    let commits = log.stats().commits.get() - commits;
    assert!(commits > 4, "{commits} commits: appends waited for all of it");
    let ids: Vec<_> = (19_985..20_015).map(|id| id.to_string()).collect();
    let left = log.seen("g", &ids, 0).await.unwrap();
    assert!((19_985..20_015).zip(left).all(|(id, seen)| seen == (19_990..20_010).contains(&id)));
    assert_eq!(log.retain().await.unwrap().marks, 0, "nothing is left to remove");
}

#[tokio::test]
async fn i3_expired_marks_go_by_themselves_and_the_file_stays_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let interval = Duration::from_millis(1);
    let config = LogConfig { retention_interval: interval, ..config() };
    let log = Log::open(dir.path().join("log"), config).unwrap();
    let (mut written, mut largest) = (0, 0);
    for round in 0..20 {
        log.mark("g", &marks(written..written + 5000, 1)).await.unwrap();
        written += 5000;
        while log.stats().marks_expired.get() < written {
            tokio::task::yield_now().await;
        }
        if round == 4 {
            largest = log.file_bytes().unwrap();
        }
    }
    assert!(log.file_bytes().unwrap() <= 2 * largest, "the file grows with all marks ever written");
}
