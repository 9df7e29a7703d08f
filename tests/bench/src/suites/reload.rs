//! A new version while events are handled: how long a worker stands still, and what events feel.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use sandbar_core::{Call, Handler, Outgoing};
use sandbar_languages::{WEBHOOKS, built};
use sandbar_testkit::guest;
use sandbar_wasm::{HandlerSlot, Host, HostConfig, LoadSpec};

use super::call::call;
use crate::{
    bench::Bench,
    embedded::{Embedded, percentile},
    figures::{Row, Section, Unit},
    progress::{pause, wait},
    sandbar::Folder,
};

/// Time over which an event counts as handled during a reload, from the moment its file is there.
const DURING: Duration = Duration::from_millis(700);

/// What is done for a control: the disk has the file to write, and nobody has it to load.
const WRITTEN: &str = "written";

/// A plugin that is replaced.
struct Subject {
    language: &'static str,
    wasm: Vec<u8>,
    /// Events a second.
    rate: f64,
}

pub fn run(bench: &Bench, section: &mut Section) -> Result<()> {
    let rust = fs::read(guest("github-router"))?;
    let mut subjects = vec![Subject { language: "rust", wasm: rust, rate: 2000.0 }];
    match built("github-router", "python") {
        Some(file) => {
            subjects.push(Subject { language: "python", wasm: fs::read(file)?, rate: 100.0 });
        }
        None => section.note("Python is missing: its toolchain is not here."),
    }
    for subject in &subjects {
        pauses(bench, section, subject)?;
        latencies(bench, section, subject)?;
    }
    section.note(
        "A pause is the longest time between two events handled by one busy worker, without a broker, from the begin of \
         loading the new version to 100 ms after it took over, less the median of such times; the other processor is free \
         for the loading. Latency is from publishing on the embedded log to reading the output there, of the same plugin, \
         which is given a new file each time: during means within 0.7 s of the file's appearance (or until it served, where that \
         took longer), steady is the second before. Versions differ by a custom section alone.",
    );
    Ok(())
}

/// The component with a custom section more: another digest, the same code.
fn version(wasm: &[u8], number: u32) -> Vec<u8> {
    let data = number.to_le_bytes();
    let mut wasm = wasm.to_vec();
    // id 0, length, length of the name, name, data
    wasm.extend([0, 6 + data.len() as u8, 5]);
    wasm.extend(b"bench");
    wasm.extend(data);
    wasm
}

/// The longest pause of one worker, of each reload, from cold and from the cache.
fn pauses(bench: &Bench, section: &mut Section, subject: &Subject) -> Result<()> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let cache = bench.work("reload-cache");
    let host = Host::new(HostConfig { cache_dir: Some(cache), ..HostConfig::default() })?;
    let (mut cold, mut cached) = (Vec::new(), Vec::new());
    let base = version(&subject.wasm, u32::MAX);
    let load = |wasm: Vec<u8>| runtime.block_on(host.load(wasm.into(), LoadSpec::new("reloaded")));
    // one of each is enough where compiling takes ten seconds
    let colds = if subject.language == "rust" { bench.pick(5, 2) } else { 1 };
    for round in 0..bench.pick(10, 3) {
        let slot = Arc::new(HandlerSlot::new(load(base.clone())?));
        let next = version(&subject.wasm, round % colds);
        let stop = Arc::new(AtomicBool::new(false));
        let mut event = call(0);
        event.event.payload = Some(Bytes::from(WEBHOOKS.lines().next().unwrap_or_default()));
        let working = runtime.spawn(work(Arc::clone(&slot), event, Arc::clone(&stop)));
        pause(Duration::from_millis(200));
        let began = Instant::now();
        let loaded = runtime.block_on(runtime.spawn({
            let (host, slot) = (Arc::clone(&host), Arc::clone(&slot));
            async move {
                let generation = host.load(next.into(), LoadSpec::new("reloaded")).await?;
                slot.swap(generation);
                anyhow::Ok(Instant::now())
            }
        }))??;
        pause(Duration::from_millis(100));
        stop.store(true, Ordering::Relaxed);
        let ends = runtime.block_on(working)??;
        let during = (began, loaded + Duration::from_millis(100));
        let found = longest(&ends, during)?;
        if round < colds { cold.push(found) } else { cached.push(found) }
    }
    let language = subject.language;
    for (how, values) in [("cold", &cold), ("cached", &cached)] {
        let id = format!("reload/pause/{language}/{how}");
        let what = format!("{language}, {how}: pause of a worker");
        section.rows.push(Row::new(id, what, Unit::Seconds, values));
    }
    Ok(())
}

/// Handles one event after the other; returns when each was done.
async fn work(slot: Arc<HandlerSlot>, event: Call, stop: Arc<AtomicBool>) -> Result<Vec<Instant>> {
    let mut ends = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let outcomes = slot.handle(&[&event]).await;
        ensure!(outcomes.results.iter().all(Result::is_ok), "{:?}", outcomes.results);
        ends.push(Instant::now());
        // lets the loading have a turn, as waiting for events does
        tokio::task::yield_now().await;
    }
    Ok(ends)
}

/// The longest time between two of `ends` within a span, less the usual one.
fn longest(ends: &[Instant], (from, to): (Instant, Instant)) -> Result<f64> {
    let gap = |pair: &[Instant]| (pair[1] - pair[0]).as_secs_f64();
    let mut all: Vec<f64> = ends.windows(2).map(gap).collect();
    let within = ends.windows(2).filter(|pair| pair[1] >= from && pair[0] <= to).map(gap);
    let longest = within.fold(0.0, f64::max);
    all.sort_unstable_by(f64::total_cmp);
    let usual = all.get(all.len() / 2).context("nothing was handled")?;
    Ok((longest - usual).max(0.0))
}

fn latencies(bench: &Bench, section: &mut Section, subject: &Subject) -> Result<()> {
    let folder = Folder::new(bench.work("reload"), "")?;
    let settings = "topics = [\"github.webhooks\"]\npublish = [\"github.events\"]\n";
    fs::write(folder.path().join("plugins/router.toml"), settings)?;
    put(&folder, &write(&folder, &version(&subject.wasm, 0))?)?;
    let embedded = Embedded::start(&folder, 1)?;
    let plugin = embedded.plugin("router")?;
    let events: Vec<Outgoing> =
        WEBHOOKS.lines().map(|line| Outgoing::new("github.webhooks", line.to_owned())).collect();
    for how in ["cold", "cached", WRITTEN] {
        let (mut steady, mut during) = (Vec::new(), Vec::new());
        let reloads = match (how, subject.language) {
            ("cold", "rust") => bench.pick(3, 2),
            // of an interpreter it takes ten seconds
            ("cold", _) => 1,
            (WRITTEN, _) => bench.pick(4, 2),
            _ => bench.pick(6, 2),
        };
        for reload in 0..reloads {
            // versions that were there before are compiled already; the last cold one is none of 0
            let number = if how == "cold" { 1 + reload } else { reload % 2 };
            let next = version(&subject.wasm, number);
            let (events, plugin) = (events.clone(), plugin.clone());
            let time = match (how, subject.language) {
                ("cold", "python") => Duration::from_secs(25),
                ("cold", _) => Duration::from_secs(3),
                _ => Duration::from_millis(2500),
            };
            let drizzled = std::thread::scope(|scope| {
                let drizzling =
                    scope.spawn(|| embedded.drizzle(events, "github.events", subject.rate, time));
                pause(Duration::from_millis(1300));
                let before = plugin.status().reloads;
                let there = Instant::now();
                let part = write(&folder, &next)?;
                let serves = if how == WRITTEN {
                    Ok(there)
                } else {
                    put(&folder, &part)?;
                    wait("the new version serves", || {
                        let status = plugin.status();
                        ensure!(status.last_error.is_none(), "refused: {:?}", status.last_error);
                        Ok((status.reloads > before).then(Instant::now))
                    })
                };
                let seen = drizzling.join().map_err(|_| anyhow::anyhow!("panicked"))??;
                anyhow::Ok((seen, there, serves?))
            });
            let (seen, there, serves) = drizzled?;
            let until = (there + DURING).max(serves + Duration::from_millis(300));
            for (at, latency) in seen {
                if at >= there && at < until {
                    during.push(latency);
                } else if at < there && at + Duration::from_secs(1) >= there {
                    steady.push(latency);
                }
            }
        }
        let p99 = |latencies: &[Duration]| percentile(latencies.iter().copied(), 99.0);
        let language = subject.language;
        let what = match how {
            WRITTEN => "control, the file is written and not loaded: p99".to_owned(),
            _ => format!("{how}: p99 during a reload"),
        };
        let row = Row::new(
            format!("reload/p99/{language}/{how}"),
            format!("{language}, {what}, {} events/s", subject.rate),
            Unit::Seconds,
            &[p99(&during)],
        );
        section.rows.push(row.beside("steady", &[p99(&during)], &[p99(&steady)]));
    }
    embedded.stop()
}

/// Writes a file that nobody loads.
fn write(folder: &Folder, wasm: &[u8]) -> Result<PathBuf> {
    let part = folder.path().join("plugins/.router.part");
    fs::write(&part, wasm)?;
    Ok(part)
}

/// Makes such a file the plugin's.
fn put(folder: &Folder, part: &Path) -> Result<()> {
    Ok(fs::rename(part, folder.path().join("plugins/router.wasm"))?)
}
