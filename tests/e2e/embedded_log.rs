//! `sandbar run` on the embedded log, killed as a power cut would.

use std::{collections::HashMap, fs, sync::Mutex, thread, time::Duration};

use anyhow::{Context, Result, ensure};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use sandbar_testkit::{Runtime, eventually, eventually_within, guest};
use serde_json::{Value, json};

const KEYS: u64 = 20;
const KILLS: usize = 10;

/// An event of the test: its key, and its number within the key.
type Event = (u64, u64);

#[test]
fn c1_kill_9_at_ten_random_moments_loses_nothing_and_repeats_nothing() -> Result<()> {
    let folder = tempfile::tempdir()?;
    fs::write(folder.path().join("sandbar.toml"), "[admin]\nlisten = \"127.0.0.1:0\"\n")?;
    Runtime::install(folder.path(), &guest("program-echo"), "echo")?;
    let settings = "topics = [\"in\"]\npublish = [\"in.out\"]\nordering = \"key\"\n";
    fs::write(folder.path().join("plugins/echo.toml"), settings)?;

    let mut random = StdRng::seed_from_u64(9);
    let mut acknowledged = Vec::new();
    let mut next = 0;
    for _ in 0..KILLS {
        let runtime = Runtime::start(folder.path())?;
        let events = random.random_range(1_000..10_000);
        publish_until_killed(&runtime, events, &mut next, &mut acknowledged)?;
    }

    let runtime = Runtime::start(folder.path())?;
    eventually_within(Duration::from_secs(120), "everything is handled", || {
        let plugin = runtime.plugin("echo")?;
        (plugin["subscriptions"][0]["lag"] == 0 && plugin["in_flight"] == 0).then_some(())
    });
    let input = events(&runtime.get_lines("/api/topics/in/events")?)?;
    let output = events(&runtime.get_lines("/api/topics/in.out/events")?)?;
    println!(
        "{} acknowledged, {} in the log, {} handled",
        acknowledged.len(),
        input.len(),
        output.len()
    );

    let in_log = numbers_by_key(&input);
    for (key, number) in &acknowledged {
        let kept = in_log.get(key).is_some_and(|numbers| numbers.contains(number));
        ensure!(kept, "event {number} of key {key} was acknowledged and is lost");
    }
    // outputs and cursor are one step on this log: exactly the input, in its order per key
    ensure!(numbers_by_key(&output) == in_log, "the outputs differ from the input");
    ensure!(runtime.terminate()?.success());
    Ok(())
}

/// Publishes from two threads and kills the process once `events` were acknowledged,
/// while they still publish.
fn publish_until_killed(
    runtime: &Runtime,
    events: u64,
    next: &mut u64,
    acknowledged: &mut Vec<Event>,
) -> Result<()> {
    let done = Mutex::new(Vec::new());
    let first = *next;
    thread::scope(|scope| {
        // the keys are divided between the threads, so that each key has one publisher
        for half in 0..2 {
            let done = &done;
            scope.spawn(move || {
                let mut number = first;
                loop {
                    let batch: Vec<Event> = (0..KEYS / 2).map(|k| (k * 2 + half, number)).collect();
                    let line = |(key, number): &Event| {
                        format!(
                            "{}\n",
                            json!({"key": key.to_string(), "payload": number.to_string()})
                        )
                    };
                    let body: String = batch.iter().map(line).collect();
                    match runtime.post("/api/topics/in/events", body.as_bytes()) {
                        Ok(answer) if answer["published"] == batch.len() => {
                            done.lock().unwrap().extend(batch);
                        }
                        _ => return,
                    }
                    number += 1;
                }
            });
        }
        eventually("enough is published", || {
            (done.lock().unwrap().len() as u64 >= events).then_some(())
        });
        // the publishers end when they get no answer any more
        runtime.kill_9()
    })?;
    let done = done.into_inner().unwrap();
    *next = done.iter().map(|(_, number)| number + 1).max().context("nothing was published")? + 1;
    acknowledged.extend(done);
    Ok(())
}

fn events(lines: &[Value]) -> Result<Vec<Event>> {
    let number = |v: &Value| v.as_str().and_then(|text| text.parse().ok());
    let event = |line: &Value| Some((number(&line["key"])?, number(&line["payload"])?));
    lines.iter().map(|line| event(line).context("a foreign event")).collect()
}

fn numbers_by_key(events: &[Event]) -> HashMap<u64, Vec<u64>> {
    let mut by_key: HashMap<u64, Vec<u64>> = HashMap::new();
    for (key, number) in events {
        by_key.entry(*key).or_default().push(*number);
    }
    by_key
}
