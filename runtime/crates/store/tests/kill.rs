//! kill -9 in the middle of work. Each test starts this binary again as a child that
//! works on a file and says what was acknowledged, kills it, and looks at the file.

mod common;

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, Command, Stdio},
};

use common::*;
use sandbar_core::{Connection, Marks, Outgoing, StateStore};
use sandbar_store::{Log, LogError};

const FILE: &str = "SANDBAR_STORE_KILL_TEST_FILE";
const PRODUCERS: usize = 4;
const INPUTS: u64 = 3000;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Runtime::new().unwrap()
}

fn start(child: &str, file: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", child, "--nocapture"])
        .env(FILE, file)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Says what is acknowledged, where the parent hears it even if killed right after.
fn say(what: impl std::fmt::Display) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "ack {what}").and_then(|()| out.flush()).expect("the parent listens");
}

/// Kills `child` once it has said `after` acknowledgements; returns all it has said.
fn kill_after(mut child: Child, after: usize, meanwhile: impl FnOnce()) -> Vec<String> {
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut acks = || loop {
        let line = lines.next()?.unwrap();
        if let Some((_, ack)) = line.split_once("ack ") {
            return Some(ack.to_owned());
        }
    };
    let mut said: Vec<_> = std::iter::from_fn(&mut acks).take(after).collect();
    meanwhile();
    child.kill().unwrap();
    said.extend(std::iter::from_fn(&mut acks));
    child.wait().unwrap();
    said
}

/// Spread over the range, the same in every run.
fn moments(count: usize, most: usize) -> impl Iterator<Item = usize> {
    (1..=count).map(move |i| 1 + i * 7919 % most)
}

#[test]
#[ignore = "the child of every_acknowledged_append_survives_a_kill"]
fn child_appends() {
    let path = std::env::var(FILE).unwrap();
    runtime().block_on(async {
        let log = Log::open(path, config()).unwrap();
        log.ensure_topics(&["t".into()]).await.unwrap();
        let mut next = [0u64; PRODUCERS];
        for event in all(&log, "t").await {
            next[text(&event).split_once(':').unwrap().0.parse::<usize>().unwrap()] += 1;
        }
        let mut producers = tokio::task::JoinSet::new();
        for (producer, mut n) in next.into_iter().enumerate() {
            let log = log.clone();
            producers.spawn(async move {
                loop {
                    let records: Vec<_> = (n..n + 10)
                        .map(|n| Outgoing::new("t", format!("{producer}:{n}")))
                        .collect();
                    publish(&log, &records).await;
                    n += 10;
                    say(format_args!("{producer} {n}"));
                }
            });
        }
        producers.join_next().await.expect("a producer ended").expect("a producer failed");
    });
}

#[test]
fn every_acknowledged_append_survives_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    for moment in moments(10, 60) {
        let acks = kill_after(start("child_appends", &path), moment, || {
            let in_use = Log::open(&path, config()).err();
            assert!(matches!(in_use, Some(LogError::InUse { .. })), "{in_use:?}");
        });
        let mut acked = [0u64; PRODUCERS];
        for ack in &acks {
            let (producer, n) = ack.split_once(' ').unwrap();
            acked[producer.parse::<usize>().unwrap()] = n.parse().unwrap();
        }
        assert!(acks.len() >= moment);
        let events = runtime().block_on(async {
            let log = Log::open(&path, config()).unwrap();
            let events = all(&log, "t").await;
            log.close().await;
            events
        });
        let mut stored: BTreeMap<usize, u64> = BTreeMap::new();
        for (i, event) in events.iter().enumerate() {
            assert_eq!(event.position, i as u64, "offsets have a gap");
            let text = text(event);
            let (producer, n) = text.split_once(':').unwrap();
            let next = stored.entry(producer.parse().unwrap()).or_default();
            assert_eq!(n.parse::<u64>().unwrap(), *next, "lost, repeated or out of order");
            *next += 1;
        }
        for (producer, acked) in acked.iter().enumerate() {
            let stored = stored.get(&producer).copied().unwrap_or(0);
            assert!(stored >= *acked, "producer {producer}: {acked} acknowledged, {stored} stored");
            assert_eq!(stored % 10, 0, "one publish of ten was stored in part");
        }
    }
}

#[test]
#[ignore = "the child of i2_t2_settlements_effects_marks_and_state_are_one_whatever_is_killed_when"]
fn child_settles() {
    let path = std::env::var(FILE).unwrap();
    runtime().block_on(async {
        let log = Log::open(path, config()).unwrap();
        let (_source, mut partition) = subscribe(&log, "g", "in").await;
        let mut open: Vec<u64> = Vec::new();
        for round in 0u64.. {
            open.extend(partition.recv(16).await.unwrap().iter().map(|d| d.token.0));
            // out of order, so that the cursor always has finished events ahead
            let some = open.split_off(open.len() / 3);
            let settled: Vec<_> = some.iter().copied().filter(|o| o % 5 != round % 5).collect();
            open.extend(some.iter().filter(|o| !settled.contains(o)));
            let settlements: Vec<_> = settled
                .iter()
                .map(|o| {
                    let effect = |topic| Outgoing::new(topic, o.to_string());
                    let mut settlement =
                        marked(*o, vec![effect("out"), effect("audit")], mark(o, u64::MAX));
                    count(&mut settlement, "n");
                    settlement
                })
                .collect();
            partition.settle(&settlements).await.unwrap();
            for offset in settled {
                say(offset);
            }
        }
    });
}

#[test]
fn i2_t2_settlements_effects_marks_and_state_are_one_whatever_is_killed_when() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    runtime().block_on(async {
        let log = Log::open(&path, config()).unwrap();
        log.ensure_topics(&["in".into(), "out".into(), "audit".into()]).await.unwrap();
        let inputs: Vec<_> = (0..INPUTS).map(|i| Outgoing::new("in", i.to_string())).collect();
        publish(&log, &inputs).await;
        log.close().await;
    });
    let mut acked = BTreeSet::new();
    for moment in moments(10, 200) {
        let acks = kill_after(start("child_settles", &path), moment, || {});
        acked.extend(acks.iter().map(|a| a.parse::<u64>().unwrap()));
        runtime().block_on(async {
            let log = Log::open(&path, config()).unwrap();
            let outputs = texts(&all(&log, "out").await);
            assert_eq!(outputs, texts(&all(&log, "audit").await), "effects in part");
            let produced: BTreeSet<u64> = outputs.iter().map(|o| o.parse().unwrap()).collect();
            assert_eq!(produced.len(), outputs.len(), "an output was produced twice");
            assert!(acked.is_subset(&produced), "an acknowledged settlement is lost");
            let ids: Vec<_> = (0..INPUTS).map(|i| i.to_string()).collect();
            let seen = log.seen("g", &ids, 0).await.unwrap();
            assert!(
                (0..INPUTS).all(|i| seen[i as usize] == produced.contains(&i)),
                "outputs without mark, or a mark without outputs"
            );
            let n = log.get("g", "n", 0).await.unwrap().map(|entry| entry.value);
            let counted = n.map_or("0".into(), |n| String::from_utf8(n.to_vec()).unwrap());
            assert_eq!(counted, produced.len().to_string(), "an increment was lost or repeated");
            let resume_from = log.cursors("g").await.unwrap()[0].1.0;
            assert!((0..resume_from).all(|o| produced.contains(&o)), "cursor without outputs");
            // what is delivered again is exactly what produced nothing
            let (source, mut partition) = subscribe(&log, "g", "in").await;
            let again = take(&mut partition, (INPUTS as usize) - produced.len()).await;
            let again: BTreeSet<u64> = again.iter().map(|d| d.token.0).collect();
            assert!(again.is_disjoint(&produced), "outputs without cursor");
            assert_eq!(again.len() + produced.len(), INPUTS as usize);
            drop(partition);
            source.close().await.unwrap();
            log.close().await;
        });
    }
    assert!(acked.len() > 200);
}
