//! Every program of `tests/programs`, one after another in a process of its own: the host
//! lives, its memory comes back to its level, and a neighbour goes on (S1).
//!
//! How much the neighbour gets done beside each, against what it got done alone just before, is
//! printed for the reader; a shared machine proves nothing. Two plugins that are busy share
//! processors, caches and memory whatever they do: `echo` shows what a harmless one costs,
//! `(nobody)` how far the neighbour differs from itself. `SANDBAR_MEASURE_MS` is how long it is
//! looked at (default 20), `SANDBAR_MEASURE_ROUNDS` how often (default 1; the median counts), and
//! `SANDBAR_MEASURE_ONLY` the one program that is asked about:
//!
//! ```sh
//! SANDBAR_MEASURE_MS=300 SANDBAR_MEASURE_ROUNDS=7 cargo test --release -p sandbar-wasm --test contained -- --nocapture
//! ```

#[allow(dead_code, reason = "nothing is acknowledged here")]
#[path = "host/kept.rs"]
mod kept;
#[path = "host/modules.rs"]
mod modules;
#[allow(dead_code, reason = "the host's tests need more of it")]
#[path = "host/server.rs"]
mod server;
#[allow(dead_code, reason = "the host's tests need more of it")]
#[path = "host/support.rs"]
mod support;

use std::{
    env, fs,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use sandbar_wasm::{
    Generation, Grant, Host, HostConfig, HostPattern, HttpAccess, LoadSpec, LogLine, LogSink,
};

use kept::Kept;
use server::{Answer, Server};
use support::{call, program, run};

#[allow(dead_code, reason = "here the host chooses")]
const PACKED: bool = true;

/// Bytes that may stay: allocators keep some, and the pool keeps slots resident.
const SLACK: usize = 48 << 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s1_programs_are_contained() {
    let programs = programs();
    let cache = tempfile::tempdir().unwrap();
    let host = Host::new(HostConfig {
        cache_dir: Some(cache.path().to_owned()),
        log: Arc::new(Nowhere),
        ..support::config()
    })
    .unwrap();
    let neighbour = host.load(program("echo"), LoadSpec::new("neighbour")).await.unwrap();
    let measure = |what: &str, or: u64| {
        env::var(format!("SANDBAR_MEASURE_{what}")).map_or(or, |number| number.parse().unwrap())
    };
    let (window, rounds) = (Duration::from_millis(measure("MS", 20)), measure("ROUNDS", 1));
    // what requests are answered with: never all of it
    let server = Server::new(Answer::Endless(vec![b'x'; 1000], Duration::from_millis(1))).await;
    let url = server.url("127.0.0.1", "");
    let once = async |name: &str, wasm: &Bytes| {
        let over = Arc::new(AtomicBool::new(true));
        misbehave(host.clone(), spec(name, &url), wasm.clone(), over).await
    };
    // to compile them takes all processors there are, and is not what they are here for
    for (name, wasm) in &programs {
        once(name, wasm).await;
    }

    println!("{:<34} {:>9}  outcome", "program", "neighbour");
    let mut same = Vec::new();
    for _ in 0..rounds {
        let alone = throughput(&neighbour, window).await;
        same.push(throughput(&neighbour, window).await / alone);
    }
    println!("{:<34} {:>9.2}", "(nobody)", median(&mut same));
    let mut ratios = Vec::new();
    for (name, wasm) in &programs {
        let (mut beside, mut outcome) = (Vec::new(), String::new());
        for _ in 0..rounds {
            let alone = throughput(&neighbour, window).await;
            let over = Arc::new(AtomicBool::new(false));
            let hostile =
                tokio::spawn(misbehave(host.clone(), spec(name, &url), wasm.clone(), over.clone()));
            beside.push(throughput(&neighbour, window).await / alone);
            over.store(true, Ordering::Relaxed);
            outcome = hostile.await.expect("the host does not panic");
            // one with many events in it ends by itself when nobody has any more for it
            while host.stats().plugin(name).instances() > 0 {
                tokio::task::yield_now().await;
            }
        }
        let ratio = median(&mut beside);
        let outcome: String = outcome.chars().take(80).filter(|c| !c.is_control()).collect();
        println!("{name:<34} {ratio:>9.2}  {outcome}");
        ratios.push(ratio);
    }
    println!("neighbour: median {:.2}, least {:.2}", median(&mut ratios), ratios[0]);

    // all of them have been here: a second time must not take more
    let level = resident();
    for (name, wasm) in &programs {
        once(name, wasm).await;
    }
    let after = resident();
    println!("resident memory: {} MiB, then {} MiB", level >> 20, after >> 20);
    assert!(after < level + SLACK, "{level} bytes grew to {after}");
    run(&neighbour, call("still there")).await.unwrap();
}

struct Nowhere;

impl LogSink for Nowhere {
    fn write(&self, _: LogLine<'_>) {}
}

/// All programs by name.
fn programs() -> Vec<(String, Bytes)> {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../tests/programs");
    let mut names: Vec<_> = ["examples", "modules"]
        .iter()
        .flat_map(|folder| fs::read_dir(format!("{root}/{folder}")).unwrap())
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file())
        .map(|path| path.file_stem().unwrap().to_string_lossy().into_owned())
        .collect();
    names.sort();
    assert!(names.len() >= 40, "where are they?");
    if let Ok(only) = env::var("SANDBAR_MEASURE_ONLY") {
        names.retain(|name| *name == only);
        assert!(!names.is_empty(), "{only} is no program");
    }
    names.into_iter().map(|name| (name.clone(), program(&name))).collect()
}

/// All power there is, and little time.
fn spec(name: &str, url: &str) -> LoadSpec {
    let mut spec = LoadSpec::new(name);
    spec.limits.cpu_time = Duration::from_millis(20);
    spec.limits.wall_time = Duration::from_millis(50);
    spec.limits.init_time = Duration::from_millis(200);
    spec.grants = [Grant::Wasi, Grant::State, Grant::Publisher].into();
    spec.state = Some(Arc::<Kept>::default().source());
    spec.config = [("url".into(), url.into())].into();
    let host: HostPattern = url.parse().unwrap();
    spec.http = Some(HttpAccess::new(vec![host.into()]));
    spec
}

/// Loads a program and runs events on it until it is `over`; says what came of the last.
async fn misbehave(host: Arc<Host>, spec: LoadSpec, wasm: Bytes, over: Arc<AtomicBool>) -> String {
    let plugin = match host.load(wasm, spec).await {
        Ok(plugin) => plugin,
        Err(refused) => return format!("not loaded: {refused}"),
    };
    loop {
        let outcome = run(&plugin, call("")).await;
        if over.load(Ordering::Relaxed) {
            return outcome.map_or_else(|error| error.to_string(), |_| "handled".into());
        }
        tokio::task::yield_now().await;
    }
}

/// Events per second that a plugin handles, one after another.
async fn throughput(plugin: &Generation, window: Duration) -> f64 {
    let (began, mut events) = (Instant::now(), 0.0);
    loop {
        run(plugin, call("an event")).await.expect("the neighbour goes on");
        events += 1.0;
        if began.elapsed() >= window {
            return events / began.elapsed().as_secs_f64();
        }
        tokio::task::yield_now().await;
    }
}

/// Sorts them, too.
fn median(ratios: &mut [f64]) -> f64 {
    ratios.sort_by(f64::total_cmp);
    ratios[ratios.len() / 2]
}

/// Bytes of memory that this process holds.
fn resident() -> usize {
    let statm = fs::read_to_string("/proc/self/statm").expect("Linux tells");
    let pages: usize = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap();
    pages * 4096
}
