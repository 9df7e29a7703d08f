//! Many plugins on one topic, each with a cursor of its own.

use std::{
    fs,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

use crate::{
    bench::Bench,
    events::{PLAIN, Shape},
    figures::{Row, Section, Unit},
    progress::{pause, wait},
    sandbar::{Folder, Sandbar, Usage},
};

/// Bytes of the payloads that all plugins read.
const PAYLOAD: usize = 1024;
/// Handler calls of all plugins together while throughput is measured.
const CALLS: usize = 100_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Broker {
    Log,
    Kafka,
}

/// What was seen with one number of plugins.
struct Seen {
    start: Duration,
    idle: Usage,
    /// Events handled a second, of all plugins.
    throughput: f64,
    /// Bytes that came over the loopback interface for each byte published.
    fetched: Option<f64>,
}

pub fn run(bench: &Bench, section: &mut Section) -> Result<()> {
    for broker in [Broker::Log, Broker::Kafka] {
        let mut alone = None;
        for count in bench.pick(&[1, 10, 100, 1000][..], &[1, 10, 100][..]) {
            let name = match broker {
                Broker::Log => "log",
                Broker::Kafka => "kafka",
            };
            let seen = match measure(bench, broker, *count) {
                Ok(seen) => seen,
                // how many are too many is a result too
                Err(error) => {
                    section.note(format!("{name}, {count} plugins: broke off: {error:#}"));
                    break;
                }
            };
            let mut row = |what: &str, unit, value: f64| {
                let id = format!(
                    "plugins/{name}/{count}/{}",
                    what.split([' ', ',']).next().unwrap_or_default()
                );
                section.rows.push(Row::new(
                    id,
                    format!("{name}, {count} plugins: {what}"),
                    unit,
                    &[value],
                ));
            };
            row("start to all running, compiled before", Unit::Seconds, seen.start.as_secs_f64());
            let private = seen.idle.private as f64;
            match alone {
                None => alone = Some(private),
                Some(alone) => {
                    let each = (private - alone).max(0.0) / (*count as f64 - 1.0);
                    row("memory each, beside code", Unit::Bytes, each);
                }
            }
            row("resident memory of the process", Unit::Bytes, seen.idle.resident as f64);
            row("threads", Unit::Count, seen.idle.threads as f64);
            row("handled, all together", Unit::EventsPerSecond, seen.throughput);
            if let Some(fetched) = seen.fetched {
                row("fetched, bytes for each byte published", Unit::Count, fetched);
            }
        }
    }
    section.note(
        "All plugins are copies of one component, so its code is mapped once for each from one file of the cache. Memory \
         is what is not mapped from files (`RssAnon`), beyond a process with one plugin, after each has handled one event.",
    );
    section.note(
        "On Kafka each plugin is a member of a group of its own, with five threads of librdkafka. Those that are about equally \
         far read a partition together.",
    );
    section.note(
        "Bytes fetched are those that the loopback interface received while the events of the throughput run were published \
         and read, all of the broker's traffic with it; the plugins publish nothing.",
    );
    Ok(())
}

fn measure(bench: &Bench, broker: Broker, count: usize) -> Result<Seen> {
    let topic = format!("many-{count}");
    let one = Shape { payload: PAYLOAD, ..PLAIN };
    let config = match broker {
        Broker::Log => String::new(),
        Broker::Kafka => {
            let kafka = bench.kafka()?;
            kafka.fill(&topic, 1, 1, &one)?;
            format!(
                "[connections.kafka]\ntype = \"kafka\"\nbrokers = \"{}\"\ncreate-topics = true\n\
                 partitions = 1\n",
                kafka.address
            )
        }
    };
    let folder = Folder::new(bench.work("plugins"), &config)?;
    if broker == Broker::Log {
        folder.fill(&topic, 1, 1, &one)?;
    }
    let settings = |n: usize| {
        format!(
            "topics = [\"{topic}\"]\npublish = []\ngroup = \"many-{count}-{n}-{}\"\nmax-in-flight = 128\nconcurrency = 1\n",
            std::process::id()
        )
    };
    // compiles it: of all the others the code is there
    folder.install("bench-sink", "plugin0", "topics = [\"none\"]\n")?;
    drop(running(&folder, 0)?);
    for n in 0..count {
        folder.install("bench-sink", &format!("plugin{n}"), &settings(n))?;
    }
    pause(Duration::from_millis(300));

    let began = Instant::now();
    let sandbar = running(&folder, count)?;
    let start = began.elapsed();
    wait("each has handled one event", || {
        let handled = sandbar.handled()?;
        Ok((handled.values().sum::<u64>() == count as u64).then_some(()))
    })?;
    pause(Duration::from_secs(bench.pick(2, 1)));
    let idle = sandbar.usage()?;

    let each = (CALLS / count).max(bench.pick(50, 20)).min(bench.pick(20_000, 2_000));
    let body: String = (0..each)
        .map(|n| format!("{{\"key\":\"{n}\",\"payload\":\"{}\"}}\n", "x".repeat(PAYLOAD)))
        .collect();
    let before = received()?;
    let began = Instant::now();
    sandbar.runtime().post(&format!("/api/topics/{topic}/events"), body.as_bytes())?;
    let total = (count * (each + 1)) as u64;
    wait("each has handled all events", || {
        let handled = sandbar.handled()?;
        Ok((handled.values().sum::<u64>() >= total).then_some(()))
    })?;
    let throughput = (count * each) as f64 / began.elapsed().as_secs_f64();
    let over = received()? - before;
    let fetched = (broker == Broker::Kafka).then(|| over as f64 / (each * PAYLOAD) as f64);
    Ok(Seen { start, idle, throughput, fetched })
}

/// A runtime whose `count` plugins run.
fn running(folder: &Folder, count: usize) -> Result<Sandbar> {
    let sandbar = Sandbar::start(folder, None)?;
    wait("all plugins run", || {
        let text = sandbar.runtime().text("/metrics")?;
        let running = |line: &&str| {
            line.starts_with("sandbar_plugin_state{")
                && line.contains("state=\"running\"")
                && line.ends_with(" 1")
        };
        Ok((text.lines().filter(running).count() >= count.max(1)).then_some(()))
    })?;
    Ok(sandbar)
}

/// Bytes that the loopback interface has received.
fn received() -> Result<u64> {
    let text = fs::read_to_string("/proc/net/dev")?;
    let line = text.lines().find_map(|l| l.trim().strip_prefix("lo:")).context("no loopback")?;
    Ok(line.split_whitespace().next().context("no counter")?.parse()?)
}
