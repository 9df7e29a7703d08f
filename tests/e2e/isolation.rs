//! Hostile plugins beside a well-behaved one in the same process (contract S1).

use std::{
    fs,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use sandbar_testkit::{Runtime, eventually, eventually_within, guest};
use serde_json::json;

const HOSTILE: [&str; 5] = ["loops", "allocates", "recurses", "traps", "floods"];
const EVENTS: usize = 100_000;
const HOSTILE_EVENTS: usize = 20;

#[test]
fn s1_hostile_plugins_cost_their_own_events_only() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let config = "[admin]\nlisten = \"127.0.0.1:0\"\n[defaults]\nretry = { max-attempts = 1 }\n";
    fs::write(folder.path().join("sandbar.toml"), config)?;
    install(&folder, "program-echo", "neighbour", "topics = [\"good\"]\npublish = [\"*\"]\n")?;
    for name in HOSTILE {
        // a loop is a loop after a moment, too; to flood the log may take its time
        let limits = match name {
            "loops" => "limits = { cpu-time = \"50ms\" }\n",
            "floods" => "limits = { cpu-time = \"60s\", wall-time = \"60s\" }\n",
            _ => "",
        };
        let settings = format!("topics = [\"bad.{name}\"]\npublish = [\"*\"]\n{limits}");
        install(&folder, &format!("program-{name}"), name, &settings)?;
    }
    let runtime = Runtime::start(folder.path())?;
    for name in HOSTILE.iter().chain(&["neighbour"]) {
        eventually("the plugin runs", || runtime.plugin(name).filter(|p| p["state"] == "running"));
    }

    let alone = neighbour_throughput(&runtime, "good", EVENTS)?;
    for name in HOSTILE {
        publish(&runtime, &format!("bad.{name}"), HOSTILE_EVENTS)?;
    }
    let beside = neighbour_throughput(&runtime, "good", EVENTS * 2)?;
    // how fast a shared machine is says nothing: the figures are for the reader
    println!("neighbour: {alone:.0} events/s alone, {beside:.0} beside {HOSTILE:?}");

    for name in HOSTILE {
        let bound = Duration::from_secs(120);
        let counts = eventually_within(bound, "the hostile events are done with", || {
            let plugin = runtime.plugin(name)?;
            let idle = plugin["subscriptions"][0]["lag"] == 0 && plugin["in_flight"] == 0;
            idle.then(|| plugin["counts"].clone())
        });
        println!("{name}: {counts}");
        // logging too much is no failure: the lines are dropped and counted
        let dead = if name == "floods" { 0 } else { HOSTILE_EVENTS };
        ensure!(counts["dead_lettered"] == dead, "{name}: {counts}");
        ensure!(counts["received"] == HOSTILE_EVENTS, "{name}: {counts}");
    }
    let neighbour = runtime.plugin("neighbour").context("neighbour")?;
    ensure!(neighbour["counts"]["handled"] == EVENTS * 2, "{neighbour}");
    ensure!(neighbour["counts"]["dead_lettered"] == 0, "{neighbour}");
    ensure!(runtime.terminate()?.success());
    Ok(())
}

fn install(folder: &tempfile::TempDir, program: &str, name: &str, settings: &str) -> Result<()> {
    Runtime::install(folder.path(), &guest(program), name)?;
    fs::write(folder.path().join(format!("plugins/{name}.toml")), settings)?;
    Ok(())
}

fn publish(runtime: &Runtime, topic: &str, events: usize) -> Result<()> {
    let line =
        |n: usize| format!("{}\n", json!({"key": (n % 16).to_string(), "payload": n.to_string()}));
    let body: String = (0..events).map(line).collect();
    let answer = runtime.post(&format!("/api/topics/{topic}/events"), body.as_bytes())?;
    ensure!(answer["published"] == events, "{answer}");
    Ok(())
}

/// Publishes events to the neighbour and waits until it has handled `total`.
fn neighbour_throughput(runtime: &Runtime, topic: &str, total: usize) -> Result<f64> {
    let began = Instant::now();
    publish(runtime, topic, EVENTS)?;
    eventually_within(Duration::from_secs(120), "the neighbour has handled its events", || {
        let handled = runtime.plugin("neighbour")?["counts"]["handled"].as_u64()?;
        (handled >= total as u64).then_some(())
    });
    Ok(EVENTS as f64 / began.elapsed().as_secs_f64())
}
