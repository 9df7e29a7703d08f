//! Components that were built for other hosts handle events of Apache Kafka: one in Rust for
//! `wasi:messaging`, one in JavaScript for `wasmcloud:messaging`, with retries and dead letters.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context, Result, ensure};
use sandbar_testkit::{Runtime, eventually, eventually_within, guest, server::KAFKA};
use sandbar_tests::{Record, create_topics, lag, produce, read};

const EVENTS: usize = 1000;
/// Every so many events one is not handled at its first attempt.
const EACH: usize = 50;

#[tokio::test(flavor = "multi_thread")]
async fn r2_a_wasi_messaging_component_on_kafka() -> Result<()> {
    let payload = |n: usize| match n {
        n if n % EACH == 1 => "fail once".to_owned(),
        n if n % EACH == 2 => "forbidden".to_owned(),
        n if n % EACH == 3 => "trap".to_owned(),
        n => format!("event {n}"),
    };
    let Some(plugin) = Plugin::new("wasi", &guest("program-wasi-messaging")).await? else {
        return Ok(());
    };
    let records: Vec<_> = (0..EVENTS).map(|n| record(n, &payload(n))).collect();
    let (outputs, letters) = plugin.handles(&records)?;

    for n in 0..EVENTS {
        let of = |key: &[u8]| outputs.iter().filter(|o| o.key.as_deref() == Some(key)).count();
        let expected = usize::from(payload(n).starts_with("event"));
        ensure!(of(key(n).as_bytes()) == expected, "event {n}");
    }
    let retried = outputs.iter().filter(|o| o.payload.as_deref() == Some(b"attempt 2")).count();
    ensure!(retried == EVENTS / EACH, "{retried} were handled by their second attempt");
    let first = outputs.iter().filter(|o| o.payload.as_deref() == Some(b"attempt 1")).count();
    ensure!(first == 0, "what a failed attempt published is there");
    let rejected = with_code(&letters, "permission-denied");
    let trapped = with_code(&letters, "trap");
    ensure!(rejected.len() == EVENTS / EACH && trapped.len() == EVENTS / EACH, "{letters:?}");
    ensure!(
        rejected.iter().all(|r| attempts(r) == "1") && trapped.iter().all(|r| attempts(r) == "3")
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn r2_a_wasmcloud_messaging_component_on_kafka() -> Result<()> {
    let file = guest_folder().join("wasmcloud-js.wasm");
    if !file.is_file() {
        let message = "MISSING LANGUAGE: js (scripts/build-languages.sh js says what it needs)";
        ensure!(std::env::var_os("CI").is_none(), "{message}");
        println!("{message}");
        return Ok(());
    }
    let payload = |n: usize| match n % EACH {
        1 => format!("bad event {n}"),
        _ => format!("event {n}"),
    };
    let Some(plugin) = Plugin::new("wasmcloud", &file).await? else { return Ok(()) };
    let records: Vec<_> = (0..EVENTS).map(|n| record(n, &payload(n))).collect();
    let (outputs, letters) = plugin.handles(&records)?;

    let mut said: Vec<_> = outputs.iter().filter_map(|o| o.payload.clone()).collect();
    let mut expected: Vec<_> = (0..EVENTS)
        .filter(|n| n % EACH != 1)
        .map(|n| payload(n).to_uppercase().into_bytes())
        .collect();
    said.sort();
    expected.sort();
    ensure!(said == expected, "{} outputs instead of {}", said.len(), expected.len());
    let failed = with_code(&letters, "other");
    ensure!(failed.len() == EVENTS / EACH && failed.len() == letters.len(), "{letters:?}");
    for letter in failed {
        ensure!(attempts(letter) == "3", "{letter:?}");
        let text = String::from_utf8(letter.payload.clone().unwrap_or_default())?;
        ensure!(
            header(letter, "__dlq.errors.message").contains(&format!("cannot do {text}")),
            "{letter:?}"
        );
    }
    Ok(())
}

/// A plugin on topics of its own, in a runtime of its own.
struct Plugin {
    brokers: String,
    name: String,
    folder: tempfile::TempDir,
}

impl Plugin {
    /// `None` where there is no Kafka.
    async fn new(what: &str, component: &Path) -> Result<Option<Self>> {
        let Some(brokers) = KAFKA.address() else { return Ok(None) };
        let name = format!("foreign-{what}-{}", std::process::id());
        let topics = ["in", "in.out", "dlq"].map(|topic| format!("{name}.{topic}"));
        create_topics(&brokers, &topics.each_ref().map(String::as_str), 3).await?;
        let folder = tempfile::tempdir()?;
        let config = format!(
            "[admin]\nlisten = \"127.0.0.1:0\"\n[connections.kafka]\ntype = \"kafka\"\n\
             brokers = \"{brokers}\"\n"
        );
        fs::write(folder.path().join("sandbar.toml"), config)?;
        Runtime::install(folder.path(), component, &name)?;
        let [input, output, _] = topics;
        let settings = format!(
            "topics = [\"{input}\"]\npublish = [\"{output}\"]\n\
             retry = {{ max-attempts = 3, initial-delay = \"20ms\" }}\n"
        );
        fs::write(folder.path().join(format!("plugins/{name}.toml")), settings)?;
        Ok(Some(Self { brokers, name, folder }))
    }

    /// Lets it handle `records`; what it published, and its dead letters.
    fn handles(&self, records: &[Record]) -> Result<(Vec<Record>, Vec<Record>)> {
        let Self { brokers, name, folder } = self;
        let input = format!("{name}.in");
        produce(brokers, &input, records)?;
        let runtime = Runtime::start(folder.path())?;
        eventually("the plugin runs", || {
            runtime.plugin(name).filter(|plugin| plugin["state"] == "running")
        });
        eventually_within(Duration::from_secs(120), "all events are committed", || {
            lag(brokers, &format!("sandbar.{name}"), &input).ok().filter(|lag| *lag == 0)
        });
        let counts = runtime.plugin(name).context("plugin")?["counts"].clone();
        println!("{name}: {counts}");
        ensure!(runtime.terminate()?.success(), "sandbar did not end cleanly");
        Ok((read(brokers, &format!("{input}.out"))?, read(brokers, &format!("{name}.dlq"))?))
    }
}

fn guest_folder() -> std::path::PathBuf {
    let built = guest("program-wasi-messaging");
    built.parent().expect("it is in a folder").to_owned()
}

fn key(n: usize) -> String {
    format!("key {n}")
}

fn record(n: usize, payload: &str) -> Record {
    Record::new(Some(key(n).as_bytes()), payload.as_bytes())
}

fn header<'a>(record: &'a Record, name: &str) -> std::borrow::Cow<'a, str> {
    let value = record.headers.iter().find(|(n, _)| n == name).map(|(_, value)| &**value);
    String::from_utf8_lossy(value.unwrap_or_default())
}

fn with_code<'a>(letters: &'a [Record], code: &str) -> Vec<&'a Record> {
    letters.iter().filter(|letter| header(letter, "sandbar-dlq-error-code") == code).collect()
}

fn attempts(letter: &Record) -> std::borrow::Cow<'_, str> {
    header(letter, "sandbar-dlq-attempts")
}
