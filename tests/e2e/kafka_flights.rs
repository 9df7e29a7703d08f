//! All flights of 2013 through a plugin keyed by aircraft, on Apache Kafka, over six
//! partitions and two runtime processes, judged by an independent script.

use std::{collections::HashMap, fs, process::Command, time::Duration};

use anyhow::{Context, Result, ensure};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use sandbar_testkit::{Runtime, eventually, eventually_within, guest, root, server::KAFKA};
use sandbar_tests::{Record, create_topics, lag, produce, read};

const MALFORMED: usize = 100;

#[tokio::test(flavor = "multi_thread")]
async fn c1_o1_d2_all_flights_over_six_partitions_and_two_processes() -> Result<()> {
    let Some(brokers) = KAFKA.address() else { return Ok(()) };
    // a name of its own, so that the test can be run again on the same broker
    let name = format!("flight-delays-{}", std::process::id());
    let topics = ["flights", "alerts", "dead"].map(|what| format!("{name}.{what}"));
    let [flights, alerts, dead] = &topics;
    create_topics(&brokers, &topics.each_ref().map(String::as_str), 6).await?;

    let file = script_output(&["examples/data/fetch-flights"])?.trim().to_owned();
    let expected = script_output(&["examples/flight-delays/expected.py", "--keys", &file])?;
    let (records, malformed) = records(&file)?;

    let processes = [(); 2].map(|()| start(&brokers, &name, &topics));
    let mut runtimes = Vec::new();
    for process in processes {
        runtimes.push(process?);
    }
    produce(&brokers, flights, &records)?;
    let bound = Duration::from_secs(600);
    eventually_within(bound, "all flights are committed", || {
        lag(&brokers, &format!("sandbar.{name}"), flights).ok().filter(|lag| *lag == 0)
    });
    for (_, runtime) in &runtimes {
        let counts = runtime.plugin(&name).context("plugin")?["counts"].clone();
        println!("one process, of {} events: {counts}", records.len());
        ensure!(counts["received"] != 0, "a process was given no partition");
    }
    for (_folder, runtime) in runtimes {
        ensure!(runtime.terminate()?.success(), "sandbar did not end cleanly");
    }

    compare_alerts(&expected, &read(&brokers, alerts)?)?;
    compare_dead_letters(&malformed, &read(&brokers, dead)?)
}

/// A runtime in a folder of its own.
fn start(brokers: &str, name: &str, topics: &[String; 3]) -> Result<(tempfile::TempDir, Runtime)> {
    let [flights, alerts, dead] = topics;
    let folder = tempfile::tempdir()?;
    let config = format!(
        "[admin]\nlisten = \"127.0.0.1:0\"\n[connections.kafka]\ntype = \"kafka\"\nbrokers = \"{brokers}\"\n"
    );
    fs::write(folder.path().join("sandbar.toml"), config)?;
    Runtime::install(folder.path(), &guest("flight-delays"), name)?;
    let settings = format!(
        "topics = [\"{flights}\"]\npublish = [\"{alerts}\"]\nconfig = {{ topic = \"{alerts}\" }}\n\
         dead-letter = {{ topic = \"{dead}\" }}\n"
    );
    fs::write(folder.path().join(format!("plugins/{name}.toml")), settings)?;
    let runtime = Runtime::start(folder.path())?;
    eventually("the plugin runs", || {
        runtime.plugin(name).filter(|plugin| plugin["state"] == "running")
    });
    Ok((folder, runtime))
}

fn script_output(command: &[&str]) -> Result<String> {
    let output = Command::new(root().join(command[0])).args(&command[1..]).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{} failed: {said}", command[0]);
    Ok(String::from_utf8(output.stdout)?)
}

/// Each line of the file keyed by aircraft, and malformed records in between.
fn records(file: &str) -> Result<(Vec<Record>, Vec<Record>)> {
    let unpacked = Command::new("gzip").args(["-dc", file]).output()?;
    let text = String::from_utf8(unpacked.stdout)?;
    let mut lines = text.lines();
    let columns: Vec<&str> = lines.next().context("no header")?.split(',').collect();
    let aircraft = columns.iter().position(|c| *c == "tailnum").context("no column tailnum")?;
    let flight = |line: &str| {
        let key = line.split(',').nth(aircraft).filter(|k| !k.is_empty() && *k != "NA");
        Record::new(key.map(str::as_bytes), line.as_bytes())
    };
    let mut records: Vec<Record> = lines.map(flight).collect();
    let mut random = StdRng::seed_from_u64(2013);
    let malformed: Vec<Record> = (0..MALFORMED).map(|n| malformed(n, &mut random)).collect();
    for record in &malformed {
        let at = random.random_range(0..records.len());
        records.insert(at, record.clone());
    }
    Ok((records, malformed))
}

/// A record that is no flight: any bytes, a key that is no text, headers that are none.
fn malformed(n: usize, random: &mut StdRng) -> Record {
    let mut bytes: Vec<u8> = (0..random.random_range(1..200)).map(|_| random.random()).collect();
    // told apart from all others, and never a line of the right number of columns
    bytes.extend_from_slice(format!("\u{0}{n}").as_bytes());
    let mut record = Record::new(Some(&[0xff, u8::try_from(n).unwrap_or(0), 0xfe]), &bytes);
    record.headers = vec![
        ("trace".into(), vec![0xc3, 0x28]),
        ("trace".into(), Vec::new()),
        ("content-type".into(), b"text/csv".to_vec()),
    ];
    record
}

/// Per aircraft the same alerts in the same order, and the same ones without a key.
fn compare_alerts(expected: &str, alerts: &[Record]) -> Result<()> {
    let mut must: HashMap<&[u8], Vec<&[u8]>> = HashMap::new();
    for line in expected.lines() {
        let (key, alert) = line.split_once('\t').context("expected.py printed no tab")?;
        must.entry(key.as_bytes()).or_default().push(alert.as_bytes());
    }
    let mut are: HashMap<&[u8], Vec<&[u8]>> = HashMap::new();
    for alert in alerts {
        let key = alert.key.as_deref().unwrap_or_default();
        are.entry(key).or_default().push(alert.payload.as_deref().unwrap_or_default());
    }
    // events without a key are unordered among themselves (contract O3)
    for unordered in [must.get_mut(&b""[..]), are.get_mut(&b""[..])].into_iter().flatten() {
        unordered.sort_unstable();
    }
    println!("{} alerts on {} aircraft", alerts.len(), are.len());
    ensure!(alerts.len() == expected.lines().count(), "{} alerts", alerts.len());
    for (aircraft, alerts) in &must {
        let name = String::from_utf8_lossy(aircraft);
        ensure!(are.get(aircraft) == Some(alerts), "the alerts on aircraft {name:?} differ");
    }
    ensure!(are.len() == must.len(), "alerts on aircraft that have none");
    Ok(())
}

fn compare_dead_letters(malformed: &[Record], dead: &[Record]) -> Result<()> {
    ensure!(dead.len() == malformed.len(), "{} dead letters", dead.len());
    for record in malformed {
        let same = |d: &&Record| {
            d.key == record.key
                && d.payload == record.payload
                && d.headers.starts_with(&record.headers)
        };
        let letter =
            dead.iter().find(same).context("a malformed record is not in the DLQ as it was")?;
        let code = letter.headers.iter().find(|(name, _)| name == "sandbar-dlq-error-code");
        ensure!(
            code.is_some_and(|(_, code)| code == b"invalid-flight" || code == b"invalid-utf8"),
            "{code:?}"
        );
    }
    Ok(())
}
