//! The state of groups: what settlements and writes make of it, when it expires, and what it
//! may come to.

mod common;

use std::time::Duration;

use bytes::Bytes;
use common::*;
use sandbar_core::{
    AckToken, Connection, Disposition, Expected, Marks, Outgoing, Settlement, SourceError,
    StateChange, StateChanges, StateOp, StateQuota, StateSize, StateStore, StateWrite,
};
use sandbar_store::{Log, LogConfig};

/// In the year 2255: nothing expires by the clock on the wall.
const FAR: u64 = 9_000_000_000_000;

/// Nothing expires by itself.
fn still() -> LogConfig {
    LogConfig { retention_interval: Duration::from_secs(3600), ..config() }
}

fn op(key: &str, change: StateChange) -> StateOp {
    StateOp { key: key.into(), only_if: None, change }
}

fn put(key: &str, value: &str) -> StateOp {
    op(key, StateChange::Put { value: Bytes::from(value.to_owned()), expires_ms: None })
}

fn put_until(key: &str, value: &str, expires_ms: u64) -> StateOp {
    let value = Bytes::from(value.to_owned());
    op(key, StateChange::Put { value, expires_ms: Some(expires_ms) })
}

fn add(key: &str, delta: i64) -> StateOp {
    op(key, StateChange::Add(delta))
}

fn only_if(expected: Expected, op: StateOp) -> StateOp {
    StateOp { only_if: Some(expected), ..op }
}

fn changes(ops: Vec<StateOp>) -> StateChanges {
    StateChanges { ops, quota: StateQuota::UNLIMITED, at_ms: FAR }
}

fn settled(offset: u64, effects: Vec<Outgoing>, ops: Vec<StateOp>) -> Settlement {
    let state = Some(Box::new(changes(ops)));
    Settlement {
        token: AckToken(offset),
        disposition: Disposition::Done { effects, mark: None, state },
    }
}

/// Writes by itself; why not, otherwise.
async fn write(log: &Log, changes: StateChanges) -> Result<(), String> {
    let writes = [StateWrite { changes, mark: None }];
    log.write("g", &writes).await.unwrap().remove(0)
}

async fn get(log: &Log, key: &str) -> Option<String> {
    let entry = log.get("g", key, FAR).await.unwrap();
    entry.map(|entry| String::from_utf8(entry.value.to_vec()).unwrap())
}

async fn size(log: &Log) -> (u64, u64) {
    let StateSize { keys, bytes } = log.size("g").await.unwrap();
    (keys, bytes)
}

#[tokio::test]
async fn t2_state_outputs_and_position_are_one_step_and_outlive_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let log = Log::open(&path, config()).unwrap();
    publish(&log, &[Outgoing::new("t", "0"), Outgoing::new("t", "1")]).await;
    let (source, mut partition) = subscribe(&log, "g", "t").await;
    assert!(source.guarantees().atomic_state);
    take(&mut partition, 2).await;
    let first = settled(0, vec![Outgoing::new("out", "0")], vec![add("n", 1), put("k", "v")]);
    partition.settle(std::slice::from_ref(&first)).await.unwrap();
    // the same again is nothing new
    partition.settle(&[first]).await.unwrap();
    partition.settle(&[settled(1, vec![], vec![add("n", 10)])]).await.unwrap();
    for life in ["this one", "the next"] {
        let log = match life {
            "this one" => log.clone(),
            _ => {
                log.close().await;
                Log::open(&path, config()).unwrap()
            }
        };
        assert_eq!(get(&log, "n").await.as_deref(), Some("11"), "in {life} life");
        assert_eq!(get(&log, "k").await.as_deref(), Some("v"));
        assert_eq!(log.get("another", "n", FAR).await.unwrap(), None);
        assert_eq!(all(&log, "out").await.len(), 1);
        assert_eq!(size(&log).await, (2, 5));
    }
}

#[tokio::test]
async fn t3_a_stale_event_settles_nothing_and_is_named() {
    let log = memory();
    publish(&log, &[Outgoing::new("t", "0"), Outgoing::new("t", "1")]).await;
    let (_source, mut partition) = subscribe(&log, "g", "t").await;
    take(&mut partition, 2).await;
    write(&log, changes(vec![put("k", "old")])).await.unwrap();
    let version = log.get("g", "k", FAR).await.unwrap().unwrap().version;
    let replace = |value| only_if(Expected::Version(version), put("k", value));
    let both = [
        settled(0, vec![Outgoing::new("out", "0")], vec![replace("first"), add("n", 1)]),
        settled(1, vec![Outgoing::new("out", "1")], vec![add("n", 1), replace("second")]),
    ];
    let refused = partition.settle(&both).await;
    let Err(SourceError::Stale { token, reason }) = refused else { panic!("{refused:?}") };
    assert_eq!((token, reason.contains("`k`")), (AckToken(1), true), "{reason}");
    assert_eq!(get(&log, "k").await.as_deref(), Some("old"));
    assert_eq!(get(&log, "n").await, None);
    assert!(log.topics().await.unwrap().iter().all(|topic| topic.name != "out"));
    // without it the other one goes
    partition.settle(&both[..1]).await.unwrap();
    assert_eq!(get(&log, "k").await.as_deref(), Some("first"));
    assert_eq!(get(&log, "n").await.as_deref(), Some("1"));
}

#[tokio::test]
async fn t3_conditions_are_on_what_is_there_when_they_are_made_true() {
    let log = Log::in_memory(still()).unwrap();
    let absent = |value| changes(vec![only_if(Expected::Absent, put("k", value))]);
    write(&log, absent("1")).await.unwrap();
    write(&log, absent("2")).await.unwrap_err();
    let old = log.get("g", "k", FAR).await.unwrap().unwrap().version;
    write(&log, changes(vec![op("k", StateChange::Delete)])).await.unwrap();
    write(&log, absent("3")).await.unwrap();
    let stale = changes(vec![only_if(Expected::Version(old), put("k", "4"))]);
    write(&log, stale).await.expect_err("it was gone in between");
    assert_eq!(get(&log, "k").await.as_deref(), Some("3"));
    // what has expired for the handler is not there, however long it is kept
    write(&log, changes(vec![put_until("k", "5", FAR)])).await.unwrap();
    write(&log, absent("6")).await.unwrap();
}

#[tokio::test]
async fn t3_what_is_added_to_is_a_number_within_its_bounds() {
    let log = memory();
    write(&log, changes(vec![put("n", "9223372036854775806"), put("t", "text")])).await.unwrap();
    write(&log, changes(vec![add("n", 1)])).await.unwrap();
    assert!(write(&log, changes(vec![add("n", 1)])).await.unwrap_err().contains("64-bit"));
    assert!(write(&log, changes(vec![add("t", 1)])).await.unwrap_err().contains("number"));
    assert_eq!(get(&log, "n").await, Some(i64::MAX.to_string()));
}

#[tokio::test]
async fn t5_the_quota_counts_keys_and_bytes_and_lets_what_is_too_much_shrink() {
    let log = memory();
    let quota = StateQuota { keys: 2, bytes: 20 };
    let within = |ops| StateChanges { quota, ..changes(ops) };
    write(&log, within(vec![put("a", "123456789"), put("b", "123456789")])).await.unwrap();
    assert_eq!(size(&log).await, (2, 20));
    let full = write(&log, within(vec![put("c", "")])).await.unwrap_err();
    assert_eq!(full, "the state is full: it may have 2 keys");
    let full = write(&log, within(vec![put("a", "1234567890")])).await.unwrap_err();
    assert_eq!(full, "the state is full: it may have 20 bytes");
    // one goes for the other
    write(&log, within(vec![op("a", StateChange::Delete), put("c", "")])).await.unwrap();
    assert_eq!(size(&log).await, (2, 11));
    // a quota that was lowered later
    let lower = StateQuota { keys: 1, bytes: 5 };
    let within = |ops| StateChanges { quota: lower, ..changes(ops) };
    write(&log, within(vec![put("b", "12345678")])).await.unwrap();
    write(&log, within(vec![put("b", "123456789")])).await.unwrap_err();
    assert_eq!(size(&log).await, (2, 10));
}

#[tokio::test]
async fn t5_what_expires_is_not_read_and_swept_in_slices() {
    let log = Log::in_memory(still()).unwrap();
    let many = (0..3000).map(|n| put_until(&format!("k{n:04}"), "v", 1000)).collect();
    let early = |ops| StateChanges { at_ms: 0, ..changes(ops) };
    write(&log, early(many)).await.unwrap();
    write(&log, early(vec![put("stays", "v"), put_until("later", "7", FAR + 1)])).await.unwrap();
    write(&log, early(vec![add("later", 1)])).await.unwrap();
    assert_eq!(log.get("g", "k0000", 999).await.unwrap().unwrap().expires_ms, Some(1000));
    assert_eq!(log.get("g", "k0000", 1000).await.unwrap(), None);
    assert_eq!(log.list("g", "", None, 10, 1000).await.unwrap().len(), 2);
    assert_eq!(size(&log).await.0, 3002);
    let commits = log.stats().commits.get();
    assert_eq!(log.retain().await.unwrap().state, 3000);
    assert!(log.stats().commits.get() - commits > 2, "appends waited for all of it");
    assert_eq!(log.stats().state_expired.get(), 3000);
    assert_eq!(size(&log).await, (2, 12));
    assert_eq!(get(&log, "later").await.as_deref(), Some("8"), "its time stays");
    assert_eq!(log.get("g", "later", FAR + 1).await.unwrap(), None);
}

#[tokio::test]
async fn keys_are_listed_in_order_page_by_page() {
    let log = memory();
    let keys = ["a", "b/1", "b/2", "b/3", "b0", "c"];
    write(&log, changes(keys.iter().map(|key| put(key, "v")).collect())).await.unwrap();
    let other = [StateWrite { changes: changes(vec![put("b/9", "")]), mark: None }];
    log.write("h", &other).await.unwrap();
    let list = async |prefix: &str, after: Option<&str>, limit| {
        let page = log.list("g", prefix, after, limit, FAR).await.unwrap();
        page.into_iter().map(|(key, _)| key).collect::<Vec<_>>()
    };
    assert_eq!(list("", None, 100).await, keys);
    assert_eq!(list("b/", None, 100).await, keys[1..4]);
    assert_eq!(list("b/", None, 2).await, keys[1..3]);
    assert_eq!(list("b/", Some("b/2"), 2).await, keys[3..4]);
    assert_eq!(list("b/", Some("a"), 1).await, keys[1..2]);
    assert_eq!(list("d", None, 100).await, [""; 0]);
    // large values make small pages, and no key is left out
    let large = "x".repeat(700_000);
    let ops = (0..4).map(|n| put(&format!("large/{n}"), &large)).collect();
    write(&log, changes(ops)).await.unwrap();
    let first = list("large/", None, 100).await;
    assert_eq!(first, ["large/0", "large/1"]);
    assert_eq!(list("large/", Some("large/1"), 100).await, ["large/2", "large/3"]);
}

#[tokio::test]
async fn i2_a_mark_is_written_with_the_changes_it_is_for_and_not_without_them() {
    let log = memory();
    let write = |id: &str, op| StateWrite { changes: changes(vec![op]), mark: Some(mark(id, FAR)) };
    let stale = only_if(Expected::Version(1), put("k", ""));
    let answers = log.write("g", &[write("a", add("n", 1)), write("b", stale)]).await.unwrap();
    assert!(answers[0].is_ok() && answers[1].is_err(), "{answers:?}");
    assert_eq!(log.seen("g", &["a".into(), "b".into()], 0).await.unwrap(), [true, false]);
    assert_eq!(get(&log, "n").await.as_deref(), Some("1"));
}
