//! A file that may not grow, for real: the child of the test limits the size of the files
//! that it may write (`RLIMIT_FSIZE`), which fails writes as a full disk does. It lives on,
//! goes on when there is room again, and is killed at some moment.

mod common;

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, Command, Stdio},
};

use common::*;
use nix::sys::{
    resource::{RLIM_INFINITY, Resource, setrlimit},
    signal::{SigSet, Signal},
};
use sandbar_core::{Connection, Marks, Outgoing, Partition, PublishError, SourceError};
use sandbar_store::Log;

const FILE: &str = "SANDBAR_STORE_FULL_DISK_TEST_FILE";

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Runtime::new().unwrap()
}

fn limit_files(bytes: u64) {
    setrlimit(Resource::RLIMIT_FSIZE, bytes, RLIM_INFINITY).unwrap();
}

/// Says what is acknowledged, where the parent hears it even if this is killed right after.
fn say(what: impl std::fmt::Display) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "ack {what}").and_then(|()| out.flush()).expect("the parent listens");
}

/// Publishes a numbered pair of records; whether both were taken.
async fn publish_pair(log: &Log, next: &mut u64) -> bool {
    let n = *next;
    *next += 1;
    let records = [0, 1].map(|half| Outgoing::new("t", format!("{n}:{half}:{:<9000}", "")));
    match &log.sink().publish(&records).await[..] {
        [Ok(()), Ok(())] => {
            say(format_args!("stored {n}"));
            true
        }
        [Err(PublishError::Unavailable(_)), Err(PublishError::Unavailable(_))] => false,
        other => panic!("half of a pair was stored, or it was rejected: {other:?}"),
    }
}

/// Settles the next event with one output; whether that was taken.
async fn settle_next(partition: &mut Box<dyn Partition>, open: &mut Vec<u64>) -> bool {
    if open.is_empty() {
        open.extend(take(partition, 1).await.iter().map(|d| d.token.0));
    }
    let offset = open[0];
    let output = Outgoing::new("out", format!("{offset}:{:<9000}", ""));
    match partition.settle(&[marked(offset, vec![output], mark(offset, u64::MAX))]).await {
        Ok(()) => {
            open.clear();
            say(format_args!("settled {offset}"));
            true
        }
        Err(SourceError::Unavailable(_)) => false,
        Err(error) => panic!("{error}"),
    }
}

#[test]
#[ignore = "the child of d1_a_full_disk_costs_nothing_that_was_acknowledged"]
fn child_runs_out_of_space() {
    // its default is to kill the process; threads started from now on inherit this
    SigSet::from(Signal::SIGXFSZ).thread_block().unwrap();
    let path = std::env::var(FILE).unwrap();
    runtime().block_on(async {
        let log = Log::open(path, config()).unwrap();
        log.ensure_topics(&["t".into(), "out".into()]).await.unwrap();
        let mut next = all(&log, "t").await.len() as u64 * 1000;
        let (_source, mut partition) = subscribe(&log, "g", "t").await;
        let mut open = Vec::new();
        loop {
            limit_files(log.file_bytes().unwrap() + (256 << 10));
            while publish_pair(&log, &mut next).await {}
            for _ in 0..3 {
                publish_pair(&log, &mut next).await;
                settle_next(&mut partition, &mut open).await;
            }
            say("full");
            assert!(log.stats().failed_commits.get() > 0);
            // readers are not concerned, once the storage is open again
            while log.cursors("g").await.is_err() {
                tokio::task::yield_now().await;
            }
            limit_files(RLIM_INFINITY);
            while !settle_next(&mut partition, &mut open).await {}
            say("again");
            for _ in 0..5 {
                settle_next(&mut partition, &mut open).await;
            }
        }
    });
}

fn start(file: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "child_runs_out_of_space", "--nocapture"])
        .env(FILE, file)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

#[test]
fn d1_a_full_disk_costs_nothing_that_was_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let (mut stored, mut settled) = (BTreeSet::new(), BTreeSet::new());
    let (mut full, mut again) = (0, 0);
    for (life, kill_after) in [1, 5, 12, 40].into_iter().enumerate() {
        let mut child = start(&path);
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let acks = lines.map_while(|line| {
            let line = line.unwrap();
            Some(line.split_once("ack ").map(|(_, ack)| ack.to_owned()))
        });
        // lines after it has lived through a full disk once
        let mut said = 0;
        for ack in acks.flatten() {
            let (what, number) = ack.split_once(' ').unwrap_or((&*ack, "0"));
            let number: u64 = number.parse().unwrap();
            match what {
                "stored" => drop(stored.insert(number)),
                "settled" => drop(settled.insert(number)),
                "full" => full += 1,
                "again" => again += 1,
                other => panic!("{other}"),
            }
            said += u32::from(again > life);
            if said == kill_after {
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
        assert!(said >= kill_after, "the child has died by itself, {said} lines later");
        runtime().block_on(check(&path, &stored, &settled));
    }
    assert!(full >= 4 && again >= 4, "full {full} times, went on {again} times");
}

/// Nothing acknowledged is missing and nothing is there in part.
async fn check(path: &Path, stored: &BTreeSet<u64>, settled: &BTreeSet<u64>) {
    let log = Log::open(path, config()).unwrap();
    let mut pairs: BTreeMap<u64, u64> = BTreeMap::new();
    for (at, event) in all(&log, "t").await.iter().enumerate() {
        assert_eq!(event.position, at as u64, "offsets have a gap");
        *pairs.entry(text(event).split(':').next().unwrap().parse().unwrap()).or_default() += 1;
    }
    assert!(pairs.values().all(|halves| *halves == 2), "a pair is there in part");
    assert!(stored.iter().all(|n| pairs.contains_key(n)), "an acknowledged append is lost");
    let outputs: Vec<u64> = texts(&all(&log, "out").await)
        .iter()
        .map(|output| output.split(':').next().unwrap().parse().unwrap())
        .collect();
    let produced: BTreeSet<u64> = outputs.iter().copied().collect();
    assert_eq!(produced.len(), outputs.len(), "an output was produced twice");
    assert!(settled.is_subset(&produced), "an acknowledged settlement is lost");
    let resume_from = log.cursors("g").await.unwrap()[0].1.0;
    assert!(produced.iter().copied().eq(0..resume_from), "outputs and cursor disagree");
    let ids: Vec<_> = (0..resume_from + 1).map(|id| id.to_string()).collect();
    let seen = log.seen("g", &ids, 0).await.unwrap();
    assert!(seen.iter().enumerate().all(|(id, seen)| *seen == ((id as u64) < resume_from)));
    log.close().await;
}
