//! What a plugin remembers on the embedded log, through kills, reloads and removal, as an
//! operator sees it.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::Duration,
};

use anyhow::{Result, ensure};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use sandbar_testkit::{Runtime, eventually, eventually_within, guest};
use serde_json::{Value, json};

const KEYS: u64 = 7;
const KILLS: usize = 6;

fn settings(folder: &Path, round: usize) -> Result<()> {
    let settings = format!(
        "topics = [\"in\"]\npublish = [\"answers\", \"now\"]\ngrants = [\"state\", \"publisher\"]\n\
         config = {{ round = \"{round}\" }}\n"
    );
    Ok(fs::write(folder.join("plugins/keeps.toml"), settings)?)
}

/// Adds to a counter of all keys, and to one of its own key by reading and writing it.
fn event(key: u64) -> Value {
    let own = format!("key/{key}");
    json!({"key": key.to_string(), "payload": format!("add all 1;add {own} 1;get {own};set last/{key} x 3600000")})
}

/// Publishes until the process is gone; at least `least` events.
fn publish_until_killed(
    runtime: &Runtime,
    least: u64,
    reload: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let done = AtomicU64::new(0);
    thread::scope(|scope| {
        scope.spawn(|| {
            loop {
                let lines: String = (0..KEYS).map(|key| format!("{}\n", event(key))).collect();
                if runtime.post("/api/topics/in/events", lines.as_bytes()).is_err() {
                    return;
                }
                done.fetch_add(KEYS, Ordering::Relaxed);
            }
        });
        let publishes =
            |n| eventually("it publishes", || (done.load(Ordering::Relaxed) >= n).then_some(()));
        publishes(least / 2);
        let reloaded = reload();
        publishes(least);
        runtime.kill_9()?;
        reloaded
    })
}

fn caught_up(runtime: &Runtime) {
    eventually_within(Duration::from_secs(120), "everything is handled", || {
        let plugin = runtime.plugin("keeps")?;
        (plugin["subscriptions"][0]["lag"] == 0 && plugin["in_flight"] == 0).then_some(())
    });
}

/// The state as `sandbar state list` prints it.
fn state(folder: &Path) -> Result<BTreeMap<String, String>> {
    let listed = Runtime::command(folder, &["state", "list", "keeps", "-o", "json"], b"")?;
    let listed: Value = serde_json::from_str(&listed)?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let entries = listed["entries"].as_array().into_iter().flatten();
    Ok(entries.map(|entry| (text(&entry["key"]), text(&entry["value"]))).collect())
}

#[test]
fn t2_h1_kills_reloads_and_removal_neither_lose_nor_repeat_an_increment() -> Result<()> {
    let folder = tempfile::tempdir()?;
    fs::write(folder.path().join("sandbar.toml"), "[admin]\nlisten = \"127.0.0.1:0\"\n")?;
    Runtime::install(folder.path(), &guest("program-keeps"), "keeps")?;
    settings(folder.path(), 0)?;
    let mut random = StdRng::seed_from_u64(4);
    for round in 1..=KILLS {
        let runtime = Runtime::start(folder.path())?;
        let events = random.random_range(200..1_500);
        publish_until_killed(&runtime, events, || settings(folder.path(), round))?;
    }

    let runtime = Runtime::start(folder.path())?;
    caught_up(&runtime);
    let mut expected = BTreeMap::<String, u64>::new();
    for event in runtime.get_lines("/api/topics/in/events")? {
        let key = event["key"].as_str().unwrap_or_default();
        *expected.entry("all".into()).or_default() += 1;
        *expected.entry(format!("key/{key}")).or_default() += 1;
    }
    println!("{} events in {} lives", expected["all"], KILLS + 1);
    let counted = |state: &BTreeMap<String, String>| -> BTreeMap<String, u64> {
        let counters = state.iter().filter(|(key, _)| !key.starts_with("last/"));
        counters.map(|(key, n)| (key.clone(), n.parse().unwrap_or(0))).collect()
    };
    let kept = state(folder.path())?;
    ensure!(counted(&kept) == expected, "{:?} is not {expected:?}", counted(&kept));
    let answers = runtime.get_lines("/api/topics/answers/events")?;
    ensure!(answers.len() as u64 == expected["all"], "outputs and state differ");
    // each event has seen what the one before it of its key has left
    let seen = |answer: &Value| answer["payload"].as_str()?.lines().nth(2).map(str::to_owned);
    let of_all: Vec<_> = answers.iter().filter_map(seen).collect();
    let mut counts = BTreeMap::<String, u64>::new();
    of_all.iter().for_each(|n| *counts.entry(n.clone()).or_default() += 1);
    ensure!(counts.values().all(|n| *n <= KEYS), "an event has not seen the one before it");

    // the file goes, the state stays, also while nothing runs
    fs::remove_file(folder.path().join("plugins/keeps.wasm"))?;
    eventually("it is gone", || runtime.plugin("keeps").is_none().then_some(()));
    ensure!(state(folder.path())? == kept, "the runtime shows another state");
    ensure!(runtime.terminate()?.success());
    ensure!(state(folder.path())? == kept, "the file holds another state");

    // an operator changes it, and the plugin sees that
    let run = |args: &[&str]| Runtime::command(folder.path(), args, b"");
    run(&["state", "set", "keeps", "all", "1000000"])?;
    let runtime = Runtime::start(folder.path())?;
    Runtime::install(folder.path(), &guest("program-keeps"), "keeps")?;
    eventually("it is back", || runtime.plugin("keeps").filter(|p| p["state"] == "running"));
    ensure!(run(&["state", "get", "keeps", "all"])?.trim() == "1000000");
    runtime.post("/api/topics/in/events", format!("{}\n", event(1)).as_bytes())?;
    eventually("it counts on", || {
        (run(&["state", "get", "keeps", "all"]).ok()?.trim() == "1000001").then_some(())
    });
    let deleted = run(&["state", "delete", "keeps", "--prefix", "last/", "-o", "json"])?;
    ensure!(serde_json::from_str::<Value>(&deleted)? == json!({ "deleted": KEYS }), "{deleted}");
    ensure!(run(&["state", "get", "keeps", "last/1"]).is_err());
    ensure!(runtime.get("/api/plugins/keeps/state?prefix=key/").is_some_and(|listed| {
        listed["entries"].as_array().is_some_and(|keys| keys.len() as u64 == KEYS)
    }));
    ensure!(runtime.terminate()?.success());
    Ok(())
}
