//! `sandbar run` on Apache Kafka, killed as a power cut would: at least once, in order.

use std::{collections::HashMap, fs, time::Duration};

use anyhow::{Context, Result, ensure};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use sandbar_testkit::{Runtime, eventually, eventually_within, guest, server::KAFKA};
use sandbar_tests::{Record, create_topics, ends, lag, produce, read};

const KEYS: usize = 50;
const EVENTS: usize = 200_000;
const KILLS: usize = 10;

#[tokio::test(flavor = "multi_thread")]
async fn c1_kill_9_at_ten_random_moments_loses_nothing_on_kafka() -> Result<()> {
    let Some(brokers) = KAFKA.address() else { return Ok(()) };
    let name = format!("kill-{}", std::process::id());
    let (input, output) = (format!("{name}.in"), format!("{name}.in.out"));
    create_topics(&brokers, &[&input, &output], 4).await?;

    let folder = tempfile::tempdir()?;
    let config = format!(
        "[admin]\nlisten = \"127.0.0.1:0\"\n\
         [connections.kafka]\ntype = \"kafka\"\nbrokers = \"{brokers}\"\ncreate-topics = true\n\
         [connections.kafka.properties]\n\"session.timeout.ms\" = \"6000\"\n"
    );
    fs::write(folder.path().join("sandbar.toml"), config)?;
    Runtime::install(folder.path(), &guest("program-echo"), &name)?;
    let settings = format!("topics = [\"{input}\"]\npublish = [\"{output}\"]\n");
    fs::write(folder.path().join(format!("plugins/{name}.toml")), settings)?;

    let records: Vec<Record> = (0..EVENTS)
        .map(|n| {
            Record::new(Some((n % KEYS).to_string().as_bytes()), (n / KEYS).to_string().as_bytes())
        })
        .collect();
    produce(&brokers, &input, &records)?;

    let mut random = StdRng::seed_from_u64(10);
    for _ in 0..KILLS {
        let runtime = Runtime::start(folder.path())?;
        let before = published(&brokers, &output)?;
        let some = random.random_range(1..(EVENTS / KILLS / 2) as i64);
        eventually_within(Duration::from_secs(120), "some events are handled", || {
            let done = lag(&brokers, &format!("sandbar.{name}"), &input).ok()? == 0;
            (done || published(&brokers, &output).ok()? >= before + some).then_some(())
        });
        runtime.kill_9()?;
    }

    let runtime = Runtime::start(folder.path())?;
    eventually_within(Duration::from_secs(300), "all events are committed", || {
        lag(&brokers, &format!("sandbar.{name}"), &input).ok().filter(|lag| *lag == 0)
    });
    eventually("nothing is in work", || {
        runtime.plugin(&name).filter(|plugin| plugin["in_flight"] == 0)
    });
    ensure!(runtime.terminate()?.success());

    let mut seen: HashMap<Vec<u8>, Vec<usize>> = HashMap::new();
    let outputs = read(&brokers, &output)?;
    println!("{} events, {} outputs after {KILLS} kills", EVENTS, outputs.len());
    for record in outputs {
        let number = String::from_utf8(record.payload.context("a tombstone")?)?.parse()?;
        let numbers = seen.entry(record.key.context("no key")?).or_default();
        // repeats are allowed, and start again from what was not committed; a first
        // appearance out of order is not
        if !numbers.contains(&number) {
            ensure!(number == numbers.len(), "event {number} came when {} was due", numbers.len());
            numbers.push(number);
        }
    }
    ensure!(seen.len() == KEYS);
    ensure!(seen.values().all(|numbers| numbers.len() == EVENTS / KEYS), "events are lost");
    Ok(())
}

fn published(brokers: &str, topic: &str) -> Result<i64> {
    Ok(ends(brokers, topic)?.values().sum())
}
