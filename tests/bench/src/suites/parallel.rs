//! The workload that Confluent's Parallel Consumer publishes figures for: 10,000 events of one partition,
//! each with 0 to 5 ms of waiting, 16 at once.

use std::{
    cell::Cell,
    collections::{HashMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use rdkafka::{
    ClientConfig, Message,
    consumer::{BaseConsumer, Consumer},
};
use tokio::sync::mpsc;

use crate::{
    bench::Bench,
    figures::{Row, Section, Unit},
    interleave::{Contestant, interleave},
    progress::wait,
    sandbar::{Folder, Sandbar},
};

/// Events in work at once: Parallel Consumer's default.
const AT_ONCE: usize = 16;
const KEYS: usize = 1000;
/// Wait before the second attempt: the runtime's default.
const RETRY: Duration = Duration::from_millis(200);

/// Which events wait for each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    Partition,
    Key,
    None,
}

impl Order {
    fn name(self) -> &'static str {
        match self {
            Self::Partition => "partition",
            Self::Key => "key",
            Self::None => "none",
        }
    }
}

/// One case.
#[derive(Debug, Clone, Copy)]
struct Case {
    order: Order,
    topic: Topic,
    rounds: usize,
}

/// A topic, and what it holds.
#[derive(Debug, Clone, Copy)]
struct Topic {
    name: &'static str,
    events: usize,
    /// One of a hundred fails once.
    failing: bool,
}

pub fn run(bench: &Bench, section: &mut Section) -> Result<()> {
    // its goals are times of so many
    let events = 10_000;
    let rounds = bench.pick(3, 1);
    let kafka = bench.kafka()?;
    let fill = |topic: &'static str, events: usize, failing: bool| {
        kafka.create(topic, 1)?;
        let records: Vec<_> = work(events, failing).collect();
        sandbar_tests::produce(&kafka.address, topic, &records)?;
        anyhow::Ok(Topic { name: topic, events, failing })
    };
    let plain = fill("parallel", events, false)?;
    let failing = fill("parallel-failing", events, true)?;
    let part = fill("parallel-part", events / bench.pick(4, 40), false)?;
    let cases = [
        Case { order: Order::Key, topic: plain, rounds },
        Case { order: Order::Key, topic: failing, rounds },
        Case { order: Order::None, topic: plain, rounds },
        Case { order: Order::None, topic: failing, rounds },
        // one after the other: it takes as long as it takes, and some say as much as all
        Case { order: Order::Partition, topic: part, rounds: 1 },
    ];
    let runs = Cell::new(0);
    let group = || {
        runs.set(runs.get() + 1);
        format!("parallel-{}", runs.get())
    };
    for Case { order, topic: Topic { name: topic, events, failing }, rounds } in cases {
        let mut contestants: [Contestant<'_, 1>; 2] = [
            Box::new(|| Ok([native(&kafka.address, topic, &group(), order, events)?])),
            Box::new(|| Ok([sandbar(bench, topic, &group(), order, events)?])),
        ];
        let measured = interleave(rounds, &mut contestants)?;
        let [[native], [sandbar]] = &measured[..] else { unreachable!() };
        let (id, what) = if failing { ("/failing", ", 1 % fail once") } else { ("", "") };
        let order = order.name();
        let what = format!("ordering {order}{what}, {events} events");
        let row = Row::new(format!("parallel/{order}{id}"), what, Unit::Seconds, sandbar);
        section.rows.push(row.beside("native", sandbar, native));
    }
    section.note(format!(
        "Kafka, {KEYS} keys, {AT_ONCE} events in work at once, from the first event received to the last one handled and \
         settled. Work is waiting on a timer, in Sandbar on the guest's WASI clock; that alone makes \
         {:.2} s with {AT_ONCE} at once. Native is a scheduler written by hand with as many workers, the same order and \
         the same retries in memory, which neither publishes nor commits.",
        work(events, false).map(|r| micros(r.payload.as_deref().unwrap_or_default()).0).sum::<u64>() as f64
            / 1e6
            / AT_ONCE as f64
    ));
    Ok(())
}

/// Events with their work in microseconds, the same each time.
fn work(events: usize, failing: bool) -> impl Iterator<Item = sandbar_tests::Record> {
    let mut state = 2013_u64;
    (0..events).map(move |n| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let us = (state >> 33) % 5001;
        let fails = if failing && n % 100 == 50 { "!" } else { "" };
        let key = format!("key-{}", n % KEYS);
        sandbar_tests::Record::new(Some(key.as_bytes()), format!("{us}{fails}").as_bytes())
    })
}

/// Microseconds of work, and whether the first attempt fails.
fn micros(payload: &[u8]) -> (u64, bool) {
    let text = String::from_utf8_lossy(payload);
    let number = text.trim_end_matches('!');
    (number.parse().unwrap_or(0), number.len() < text.len())
}

fn sandbar(bench: &Bench, topic: &str, group: &str, order: Order, events: usize) -> Result<f64> {
    let config = format!(
        "[connections.kafka]\ntype = \"kafka\"\nbrokers = \"{}\"\ncreate-topics = true\n",
        bench.kafka()?.address
    );
    let folder = Folder::new(bench.work("parallel"), &config)?;
    let settings = format!(
        "topics = [\"{topic}\"]\npublish = []\ngroup = \"{group}\"\nordering = \"{}\"\nconcurrency = {AT_ONCE}\n\
         max-in-flight = 10000\ngrants = [\"clocks\"]\nconfig = {{ quiet = \"true\" }}\n",
        order.name()
    );
    folder.install("bench-work", "work", &settings)?;
    let sandbar = Sandbar::start(&folder, None)?;
    let handled = || anyhow::Ok(sandbar.handled()?.get("work").copied().unwrap_or(0));
    let received = || {
        anyhow::Ok(sandbar.runtime().text("/metrics")?.lines().any(|line| {
            line.starts_with("messaging_client_consumed_messages_total{") && !line.ends_with(" 0")
        }))
    };
    let began = wait("events are received", || Ok(received()?.then(Instant::now)))?;
    wait("all events are handled", || Ok((handled()? == events as u64).then_some(())))?;
    Ok(began.elapsed().as_secs_f64())
}

fn native(brokers: &str, topic: &str, group: &str, order: Order, events: usize) -> Result<f64> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", group)
        .set("auto.offset.reset", "earliest")
        .create()?;
    consumer.subscribe(&[topic])?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    // as many as there are: reading is not what is measured
    let (sender, receiver) = mpsc::channel(events);
    let done = Arc::new(AtomicUsize::new(0));
    let scheduling = runtime.spawn(schedule(receiver, Arc::clone(&done), events));
    let mut began = None;
    for n in 0..events {
        // a poll also ends, with nothing, for what happens to the group
        let poll = || consumer.poll(Duration::from_millis(100)).transpose();
        let message = wait("another event", || Ok(poll()?))?;
        began.get_or_insert_with(Instant::now);
        let lane = match order {
            Order::Partition => Vec::new(),
            Order::Key => message.key().unwrap_or_default().to_vec(),
            Order::None => n.to_le_bytes().to_vec(),
        };
        sender.blocking_send((lane, micros(message.payload().unwrap_or_default())))?;
    }
    drop(sender);
    runtime.block_on(scheduling)?;
    ensure!(done.load(Ordering::Relaxed) == events, "not all events were handled");
    Ok(began.context("no events")?.elapsed().as_secs_f64())
}

/// Lane and work of an event.
type Task = (Vec<u8>, (u64, bool));

/// What a scheduler hears of a lane.
enum News {
    Finished {
        lane: Vec<u8>,
        failed: bool,
    },
    /// Its second attempt may begin.
    Due {
        lane: Vec<u8>,
    },
}

/// Runs at most `AT_ONCE` tasks, one of a lane at a time. A failed one waits for its second attempt
/// in its lane, and keeps no worker from others.
async fn schedule(mut tasks: mpsc::Receiver<Task>, done: Arc<AtomicUsize>, events: usize) {
    let mut lanes: HashMap<Vec<u8>, VecDeque<(u64, bool)>> = HashMap::new();
    let mut ready: VecDeque<Vec<u8>> = VecDeque::new();
    let (tell, mut news) = mpsc::channel::<News>(events);
    let after = |time: Duration, said: News| {
        let tell = tell.clone();
        tokio::spawn(async move {
            tokio::time::sleep(time).await;
            let _ = tell.send(said).await;
        });
    };
    let (mut working, mut open) = (0, true);
    while open || !lanes.is_empty() {
        while working < AT_ONCE {
            let Some(lane) = ready.pop_front() else { break };
            let (us, failed) = lanes[&lane][0];
            working += 1;
            after(Duration::from_micros(us), News::Finished { lane, failed });
        }
        tokio::select! {
            task = tasks.recv(), if open => match task {
                Some((lane, work)) => {
                    let waiting = lanes.entry(lane.clone()).or_default();
                    waiting.push_back(work);
                    if waiting.len() == 1 {
                        ready.push_back(lane);
                    }
                }
                None => open = false,
            },
            Some(said) = news.recv() => match said {
                News::Due { lane } => ready.push_back(lane),
                News::Finished { lane, failed } => {
                    working -= 1;
                    let Some(waiting) = lanes.get_mut(&lane) else { continue };
                    if failed {
                        waiting[0].1 = false;
                        after(RETRY, News::Due { lane });
                        continue;
                    }
                    waiting.pop_front();
                    done.fetch_add(1, Ordering::Relaxed);
                    if waiting.is_empty() {
                        lanes.remove(&lane);
                    } else {
                        ready.push_back(lane);
                    }
                }
            },
        }
    }
}
