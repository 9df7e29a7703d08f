//! Ten thousand dead letters sent back by a process that is killed as a power cut would.

use std::{
    collections::{HashMap, HashSet},
    fs,
    path::Path,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use sandbar_testkit::{
    Runtime, eventually_within, guest,
    server::{ELASTICMQ, KAFKA, RABBITMQ},
};
use sandbar_tests::{Record, create_topics, ends, produce, read};
use serde_json::{Value, json};

const KEYS: usize = 50;
const LETTERS: usize = 10_000;
const KILLS: usize = 5;
/// Letters a second: five kills hit a redrive that is not at its end.
const RATE: &str = "2500";
/// Most letters sent between two kills.
const STRETCH: i64 = 1_500;
const PATIENCE: Duration = Duration::from_secs(180);

/// The settings of `NAME`, which copies each event from `input`, if it may, to the connection
/// `out`; where the event came from, if that is empty.
fn configure(folder: &Path, name: &str, input: &str, may: bool, out: &str) -> Result<()> {
    let output = if may { format!("{input}.out") } else { "elsewhere".to_owned() };
    let out =
        if out.is_empty() { String::new() } else { format!("output-connection = \"{out}\"\n") };
    let settings = format!(
        "{out}topics = [\"{input}\"]\npublish = [\"{output}\"]\nordering = \"key\"\n\
         [dedup]\nwindow = \"24h\"\n"
    );
    Ok(fs::write(folder.join(format!("plugins/{name}.toml")), settings)?)
}

/// Key and number within the key of the event `n`.
fn event(n: usize) -> (String, String) {
    ((n % KEYS).to_string(), (n / KEYS).to_string())
}

fn wait_for_letters(runtime: &Runtime, name: &str, letters: usize) {
    eventually_within(PATIENCE, "everything is a dead letter", || {
        let counts = runtime.plugin(name)?["counts"].clone();
        (counts["dead_lettered"].as_u64()? >= letters as u64).then_some(())
    });
}

/// Every event once, those of a key in their order.
fn check(outputs: &[(String, String)]) -> Result<()> {
    let mut seen: HashMap<&str, usize> = HashMap::new();
    for (key, number) in outputs {
        let due = seen.entry(key).or_default();
        ensure!(number.parse::<usize>()? == *due, "event {number} of key {key}: {due} was due");
        *due += 1;
    }
    ensure!(seen.len() == KEYS && seen.values().all(|n| *n == LETTERS / KEYS), "events are lost");
    Ok(())
}

/// A folder with a log that holds the letters, and a plugin that may publish now.
fn log_with_letters() -> Result<tempfile::TempDir> {
    let folder = tempfile::tempdir()?;
    let path = folder.path();
    fs::write(path.join("sandbar.toml"), "[admin]\nlisten = \"127.0.0.1:0\"\n")?;
    Runtime::install(path, &guest("program-echo"), "echo")?;
    configure(path, "echo", "in", false, "")?;
    let runtime = Runtime::start(path)?;
    let line = |n| {
        let (key, payload) = event(n);
        json!({ "key": key, "payload": payload }).to_string()
    };
    let lines: Vec<_> = (0..LETTERS).map(line).collect();
    let answer = runtime.post("/api/topics/in/events", lines.join("\n").as_bytes())?;
    ensure!(answer["published"] == LETTERS, "{answer}");
    wait_for_letters(&runtime, "echo", LETTERS);
    ensure!(runtime.terminate()?.success());
    configure(path, "echo", "in", true, "")?;
    Ok(folder)
}

/// Redrives what is left, lets the plugin handle it, and looks at all that it did.
fn finish_on_the_log(folder: &Path) -> Result<()> {
    let runtime = Runtime::start(folder)?;
    let summary = Runtime::command(folder, &["dlq", "redrive", "echo", "-o", "json"], b"")?;
    let summary: Value = serde_json::from_str(&summary)?;
    ensure!(summary["state"] == "done" && summary["progress"]["left"] == 0, "{summary}");
    eventually_within(PATIENCE, "everything is handled", || {
        let plugin = runtime.plugin("echo")?;
        (plugin["subscriptions"][0]["lag"] == 0 && plugin["in_flight"] == 0).then_some(())
    });
    let outputs = runtime.get_lines("/api/topics/in.out/events")?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let outputs: Vec<_> = outputs.iter().map(|o| (text(&o["key"]), text(&o["payload"]))).collect();
    check(&outputs)?;
    // parcel and cursor are one step on this log
    let inbox = runtime.get_lines("/api/topics/sandbar-inbox.sandbar.echo/events")?;
    ensure!(inbox.len() == LETTERS, "{} parcels of {LETTERS} letters", inbox.len());
    ensure!(runtime.get_lines("/api/topics/echo.dlq/events")?.len() == LETTERS, "letters went");
    ensure!(runtime.terminate()?.success());
    Ok(())
}

#[test]
fn d4_killing_the_runtime_five_times_loses_and_repeats_no_letter() -> Result<()> {
    let folder = log_with_letters()?;
    let mut random = StdRng::seed_from_u64(11);
    for _ in 0..KILLS {
        let runtime = Runtime::start(folder.path())?;
        let mut redrive =
            Runtime::begin(folder.path(), &["dlq", "redrive", "echo", "--rate", RATE])?;
        let some = random.random_range(1..STRETCH);
        eventually_within(PATIENCE, "some letters are sent", || {
            let job = runtime.get("/api/dead-letters/echo.dlq/redrive/all")?;
            (job["progress"]["sent"].as_i64()? >= some).then_some(())
        });
        runtime.kill_9()?;
        // it has lost sight of the job, and says so
        ensure!(!redrive.wait()?.success());
    }
    finish_on_the_log(folder.path())
}

#[tokio::test]
async fn d4_killing_the_command_five_times_loses_and_repeats_no_letter() -> Result<()> {
    let folder = log_with_letters()?;
    let mut random = StdRng::seed_from_u64(12);
    for _ in 0..KILLS {
        // no runtime: the command has the log to itself, and nobody else can look at it
        let mut redrive =
            Runtime::begin(folder.path(), &["dlq", "redrive", "echo", "--rate", RATE])?;
        tokio::time::sleep(Duration::from_millis(random.random_range(50..600))).await;
        redrive.kill()?;
        ensure!(!redrive.wait()?.success(), "it came to its end before the kill");
    }
    finish_on_the_log(folder.path())
}

#[tokio::test(flavor = "multi_thread")]
async fn d4_killing_the_command_five_times_repeats_no_effect_on_kafka() -> Result<()> {
    let Some(brokers) = KAFKA.address() else { return Ok(()) };
    let parcels = killed_on_kafka(&brokers, "redrive", &[]).await?;
    println!("{parcels} parcels of {LETTERS} letters after {KILLS} kills");
    ensure!(parcels >= LETTERS, "letters are lost");
    Ok(())
}

/// Kills a redrive from Kafka to Kafka, looks at what its plugin did, and counts parcels.
async fn killed_on_kafka(brokers: &str, name: &str, flags: &[&str]) -> Result<usize> {
    let name = format!("{name}-{}", std::process::id());
    let (input, output, letters) =
        (format!("{name}.in"), format!("{name}.in.out"), format!("{name}.dlq"));
    create_topics(brokers, &[&input, &output, &letters], 4).await?;
    let folder = tempfile::tempdir()?;
    let path = folder.path();
    let config = format!(
        "[admin]\nlisten = \"127.0.0.1:0\"\n\
         [connections.kafka]\ntype = \"kafka\"\nbrokers = \"{brokers}\"\ncreate-topics = true\n\
         [connections.kafka.properties]\n\"session.timeout.ms\" = \"6000\"\n"
    );
    fs::write(path.join("sandbar.toml"), config)?;
    Runtime::install(path, &guest("program-echo"), &name)?;
    configure(path, &name, &input, false, "")?;
    let records: Vec<Record> = (0..LETTERS)
        .map(event)
        .map(|(key, payload)| Record::new(Some(key.as_bytes()), payload.as_bytes()))
        .collect();
    produce(brokers, &input, &records)?;
    let runtime = Runtime::start(path)?;
    wait_for_letters(&runtime, &name, LETTERS);
    ensure!(runtime.terminate()?.success());

    configure(path, &name, &input, true, "")?;
    let runtime = Runtime::start(path)?;
    let inbox = format!("sandbar-inbox.sandbar.{name}");
    let parcels = || -> Result<i64> { Ok(ends(brokers, &inbox)?.values().sum()) };
    let mut random = StdRng::seed_from_u64(13);
    for _ in 0..KILLS {
        let before = parcels()?;
        let some = random.random_range(1..STRETCH);
        let redrive = [&["dlq", "redrive", name.as_str(), "--rate", RATE], flags].concat();
        let mut redrive = Runtime::begin(path, &redrive)?;
        eventually_within(PATIENCE, "some letters are sent", || {
            (parcels().ok()? >= before + some).then_some(())
        });
        redrive.kill()?;
        ensure!(!redrive.wait()?.success(), "it came to its end before the kill");
    }
    let rest = [&["dlq", "redrive", name.as_str(), "-o", "json"], flags].concat();
    let summary = Runtime::command(path, &rest, b"")?;
    let summary: Value = serde_json::from_str(&summary)?;
    ensure!(summary["state"] == "done", "{summary}");
    eventually_within(PATIENCE, "everything is handled", || {
        let plugin = runtime.plugin(&name)?;
        (plugin["subscriptions"][0]["lag"] == 0 && plugin["in_flight"] == 0).then_some(())
    });
    let text = |bytes: Option<Vec<u8>>| String::from_utf8(bytes.context("empty")?).context("text");
    let outputs: Vec<_> = read(brokers, &output)?
        .into_iter()
        .map(|record| Ok((text(record.key)?, text(record.payload)?)))
        .collect::<Result<_>>()?;
    check(&outputs)?;
    ensure!(read(brokers, &letters)?.len() == LETTERS, "letters went");
    ensure!(runtime.terminate()?.success());
    Ok(read(brokers, &inbox)?.len())
}

/// Letters of a queue broker.
const FEW: usize = 300;

#[test]
fn d3_d4_letters_come_back_through_an_inbox_on_rabbitmq() -> Result<()> {
    let Some(uri) = RABBITMQ.address() else { return Ok(()) };
    // an event must not be lost before its queue is there
    redriven_through("rabbitmq", &format!("uri = \"{uri}\"\nmandatory = true\n"))
}

#[test]
fn d3_d4_letters_come_back_through_an_inbox_on_sqs() -> Result<()> {
    let Some(endpoint) = ELASTICMQ.address() else { return Ok(()) };
    let settings = format!(
        "endpoint = \"{endpoint}\"\nregion = \"us-east-1\"\naccess-key-id = \"x\"\n\
         secret-access-key = \"x\"\nfifo = true\nvisibility-timeout = \"20s\"\nwait = \"0s\"\n"
    );
    redriven_through("sqs", &settings)
}

/// Dead letters of a broker that keeps none lie in the log beside it, and go back through the
/// plugin's inbox on the broker. A kill in their midst loses none.
fn redriven_through(broker: &str, settings: &str) -> Result<()> {
    let name = format!("redrive-{broker}-{}", std::process::id());
    let input = format!("{name}-in");
    let folder = tempfile::tempdir()?;
    let path = folder.path();
    let config = format!(
        "[admin]\nlisten = \"127.0.0.1:0\"\n\
         [connections.{broker}]\ntype = \"{broker}\"\ncreate-topics = true\n{settings}"
    );
    fs::write(path.join("sandbar.toml"), config)?;
    Runtime::install(path, &guest("program-echo"), &name)?;
    configure(path, &name, &input, false, "local")?;
    let runtime = Runtime::start(path)?;
    let line = |n| {
        let (key, payload) = event(n);
        json!({ "key": key, "payload": payload, "headers": [["ce_id", n.to_string()]] }).to_string()
    };
    let lines: Vec<_> = (0..FEW).map(line).collect();
    let publish = ["publish", "--envelope", &input];
    let publish = || Runtime::command(path, &publish, lines.join("\n").as_bytes());
    // a server that is starved may not answer in time; where events are known by their ids, as on SQS,
    // none arrives twice
    publish().or_else(|_| publish())?;
    wait_for_letters(&runtime, &name, FEW);
    ensure!(runtime.terminate()?.success());

    configure(path, &name, &input, true, "local")?;
    let runtime = Runtime::start(path)?;
    let mut redrive = Runtime::begin(path, &["dlq", "redrive", &name, "--rate", "100"])?;
    let outputs = |runtime: &Runtime| -> Result<Vec<(String, usize)>> {
        let outputs =
            runtime.get_lines(&format!("/api/topics/{input}.out/events?connection=local"))?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        outputs.iter().map(|o| Ok((text(&o["key"]), text(&o["payload"]).parse()?))).collect()
    };
    eventually_within(PATIENCE, "some came back", || {
        outputs(&runtime).ok().filter(|all| all.len() > FEW / 10)
    });
    runtime.kill_9()?;
    ensure!(!redrive.wait()?.success(), "it came to its end before the kill");

    let runtime = Runtime::start(path)?;
    let summary = Runtime::command(path, &["dlq", "redrive", &name, "-o", "json"], b"")?;
    let summary: Value = serde_json::from_str(&summary)?;
    ensure!(summary["state"] == "done" && summary["progress"]["left"] == 0, "{summary}");
    let mut all = Vec::new();
    eventually_within(PATIENCE, "all came back", || {
        all = outputs(&runtime).ok()?;
        (all.iter().collect::<HashSet<_>>().len() == FEW).then_some(())
    });
    let mut next: HashMap<&str, usize> = HashMap::new();
    for (key, number) in &all {
        // what a kill left unsettled comes again
        let due = next.entry(key).or_default();
        ensure!(*number <= *due, "event {number} of key {key}: {due} was due");
        *due = (*due).max(number + 1);
    }
    ensure!(runtime.terminate()?.success());
    Ok(())
}
