//! How much the log takes, and how soon a follower sees it.
//!
//! `cargo bench -p sandbar-store --bench append -- DIR [SECONDS]`; results: docs/storage.md.
//!
//! 1. Records of 1 KiB from publishers that each wait for the fsync of a call before
//!    they make the next: what is counted was acknowledged.
//! 2. The same with a follower that settles everything, so that cursors are written too.
//! 3. Latency from before `publish` until a follower holds the event, with one record at
//!    a time and with a steady load beside it.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use sandbar_core::{Connection, Outgoing, ReadFrom, Settlement, SourceEvent, SubscriptionSpec};
use sandbar_store::{Log, LogConfig, Retention};

const RECORD: usize = 1024;

fn main() {
    // cargo itself passes `--bench`
    let mut args = std::env::args().skip(1).filter(|a| !a.starts_with("--"));
    let dir = args.next().map_or_else(std::env::temp_dir, PathBuf::from);
    let seconds = args.next().map_or(5.0, |s| s.parse().expect("seconds as a number"));
    let time = Duration::from_secs_f64(seconds);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        for (publishers, call) in [(1, 250), (1, 2_000), (4, 250), (16, 250)] {
            append(&dir, time, publishers, call, false).await;
        }
        append(&dir, time, 16, 250, true).await;
        latency(&dir, time, 0).await;
        latency(&dir, time, 20_000).await;
    });
}

fn open(dir: &Path) -> (tempfile::TempDir, Log) {
    let dir = tempfile::tempdir_in(dir).expect("a folder");
    let retention = Retention { age: None, size: Some(1 << 30) };
    let config = LogConfig { retention, ..LogConfig::default() };
    let log = Log::open(dir.path().join("log"), config).expect("opens");
    (dir, log)
}

/// Bytes that do not compress.
fn noise(seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    let mut next = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..RECORD).map(|_| next()).collect()
}

async fn publish(log: &Log, records: &[Outgoing]) {
    for result in log.sink().publish(records).await {
        result.expect("published");
    }
}

async fn append(dir: &Path, time: Duration, publishers: u64, call: u64, follow: bool) {
    let (_dir, log) = open(dir);
    log.ensure_topics(&["t".into()]).await.expect("created");
    let follower = follow.then(|| tokio::spawn(settle(log.clone())));
    let began = Instant::now();
    let tasks = (0..publishers).map(|publisher| {
        let log = log.clone();
        tokio::spawn(async move {
            let records: Vec<_> = (0..call)
                .map(|i| Outgoing::new("t", noise(publisher << 32 | i)).with_key("k"))
                .collect();
            while began.elapsed() < time {
                publish(&log, &records).await;
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.expect("publishes");
    }
    let elapsed = began.elapsed().as_secs_f64();
    let (records, commits) = (log.stats().records.get(), log.stats().commits.get());
    let settled = match follower {
        Some(follower) => {
            publish(&log, &[Outgoing::new("t", "end")]).await;
            let settled = follower.await.expect("follows");
            format!(", {:.0} settled/s", settled as f64 / began.elapsed().as_secs_f64())
        }
        None => String::new(),
    };
    println!(
        "append, {publishers} publishers of {call} a call: {:.0} records/s, {:.0} records a commit{settled}, file {} MB",
        records as f64 / elapsed,
        records as f64 / commits as f64,
        log.file_bytes().expect("a file") / 1_000_000,
    );
    log.close().await;
}

/// Settles everything up to the event "end"; returns how many events that were.
async fn settle(log: Log) -> usize {
    let spec = SubscriptionSpec::new("g", vec!["t".into()]);
    let mut source = log.subscribe(spec).await.expect("subscribed");
    let SourceEvent::Assigned(mut partition) = source.next().await.expect("assigned") else {
        panic!("the log only ever assigns")
    };
    let mut settled = 0;
    loop {
        let taken = partition.recv(1000).await.expect("delivered");
        let settlements: Vec<_> = taken.iter().map(|d| Settlement::done(d.token)).collect();
        partition.settle(&settlements).await.expect("settled");
        settled += settlements.len();
        if taken.iter().any(|d| d.event.payload.as_deref() == Some(b"end")) {
            return settled;
        }
    }
}

async fn latency(dir: &Path, time: Duration, load: u64) {
    let (_dir, log) = open(dir);
    log.ensure_topics(&["t".into(), "load".into()]).await.expect("created");
    let stop = Arc::new(AtomicBool::new(false));
    let background = (load > 0).then(|| {
        let (log, stop) = (log.clone(), Arc::clone(&stop));
        tokio::spawn(async move {
            let records = vec![Outgoing::new("load", noise(1)); 100];
            let mut ticks = tokio::time::interval(Duration::from_secs(100) / load as u32);
            while !stop.load(Ordering::Relaxed) {
                ticks.tick().await;
                publish(&log, &records).await;
            }
        })
    });
    let mut reader = log.read("t", ReadFrom::Follow).await.expect("followed");
    let follower = tokio::spawn(async move {
        let mut seen = Vec::new();
        loop {
            for event in reader.next(100).await.expect("readable") {
                let sent = event.payload.as_deref().and_then(|p| p.first_chunk::<8>());
                match u64::from_le_bytes(*sent.expect("a time")) {
                    u64::MAX => return seen,
                    sent => seen.push(epoch().elapsed().as_nanos() as u64 - sent),
                }
            }
        }
    });
    let began = Instant::now();
    let record = |nanos: u64| {
        let mut payload = noise(2);
        payload[..8].copy_from_slice(&nanos.to_le_bytes());
        [Outgoing::new("t", payload)]
    };
    while began.elapsed() < time {
        publish(&log, &record(epoch().elapsed().as_nanos() as u64)).await;
    }
    publish(&log, &record(u64::MAX)).await;
    let mut seen = follower.await.expect("follows");
    stop.store(true, Ordering::Relaxed);
    if let Some(background) = background {
        background.await.expect("publishes");
    }
    // what was reached beside it, not what was asked for
    let beside =
        (log.stats().records.get() - seen.len() as u64) as f64 / began.elapsed().as_secs_f64();
    seen.sort_unstable();
    let ms = |q: f64| seen[((seen.len() - 1) as f64 * q) as usize] as f64 / 1e6;
    println!(
        "follower latency beside {beside:.0} records/s: p50 {:.2} ms, p99 {:.2} ms, {} events",
        ms(0.5),
        ms(0.99),
        seen.len()
    );
    log.close().await;
}

/// One clock for both ends.
fn epoch() -> Instant {
    static EPOCH: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    *EPOCH.get_or_init(Instant::now)
}
