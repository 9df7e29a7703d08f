//! Events with keys through four routes, from one broker to the next and back to where
//! they came from: Kafka, NATS, RabbitMQ, SQS, Kafka. `EVENTS` says how many (`make bridge`).
//!
//! SQS is ElasticMQ here: moto hands out later messages of a FIFO group while earlier ones are in flight.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use sandbar_testkit::{
    Runtime,
    server::{ELASTICMQ, KAFKA, NATS, RABBITMQ},
};
use sandbar_tests::{Record, create_topics, produce, read};

const EVENTS: usize = 2_000;
/// SQS takes one event of a key at a time: the more keys, the more at once.
const KEYS: usize = 1_000;

/// The routes in the order of an event's way.
const ROUTES: [(&str, &str); 4] =
    [("kafka", "nats"), ("nats", "rabbitmq"), ("rabbitmq", "sqs"), ("sqs", "kafka")];

/// Longest time without any progress.
const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn o1_c1_events_cross_every_broker_in_order_and_none_is_lost() -> Result<()> {
    let Some(brokers) = brokers() else { return Ok(()) };
    let kafka = &brokers["kafka"];
    let events = std::env::var("EVENTS").map_or(Ok(EVENTS), |n| n.parse())?;
    // a name of its own, so that the test can be run again on the same brokers
    let name = format!("bridge-{}", std::process::id());
    let [input, output] = ["in", "out"].map(|what| format!("{name}-{what}"));
    create_topics(kafka, &[&input, &output], 4).await?;

    let folder = tempfile::tempdir()?;
    fs::write(folder.path().join("sandbar.toml"), config(&brokers, &name, &input, &output))?;
    fs::create_dir(folder.path().join("plugins"))?;
    let runtime = Runtime::start(folder.path())?;
    let sent: Vec<Record> = (0..events).map(event).collect();
    let began = Instant::now();
    produce(kafka, &input, &sent)?;
    wait(&runtime, events)?;
    let took = began.elapsed();
    let counts: Vec<_> = ROUTES.iter().map(|route| handled(&runtime, *route)).collect();
    ensure!(runtime.terminate()?.success(), "sandbar did not end cleanly");

    let rate = events as f64 / took.as_secs_f64();
    println!(
        "{events} events over four routes in {took:.1?} ({rate:.0} a second), handled {counts:?}"
    );
    compare(&sent, &read(kafka, &output)?)
}

/// The brokers' connections by name, and their addresses; `None` where one is missing.
fn brokers() -> Option<BTreeMap<&'static str, String>> {
    let kinds = [("kafka", KAFKA), ("nats", NATS), ("rabbitmq", RABBITMQ), ("sqs", ELASTICMQ)];
    // each that is missing is named
    let found: Vec<_> = kinds.map(|(name, kind)| Some((name, kind.address()?))).into();
    found.into_iter().collect()
}

fn config(brokers: &BTreeMap<&str, String>, name: &str, input: &str, output: &str) -> String {
    let topic = |connection: &str, of: &str| match (connection, of) {
        ("kafka", "from") => input.to_owned(),
        ("kafka", _) => output.to_owned(),
        _ => name.to_owned(),
    };
    let routes: String = ROUTES
        .iter()
        .map(|(from, to)| {
            let (read, write) = (topic(from, "from"), topic(to, "to"));
            format!(
                "[[route]]\nname = \"{from}-{to}\"\nfrom = {{ connection = \"{from}\", topics = [\"{read}\"] }}\n\
                 to = {{ connection = \"{to}\", topic = \"{write}\" }}\nconcurrency = 32\n"
            )
        })
        .collect();
    let [kafka, nats, rabbitmq, sqs] =
        ["kafka", "nats", "rabbitmq", "sqs"].map(|name| &brokers[name]);
    // an exchange must not drop what comes before the next route has bound its queue
    format!(
        r#"default-connection = "kafka"
group-prefix = "{name}."
[admin]
listen = "127.0.0.1:0"
[connections.kafka]
type = "kafka"
brokers = "{kafka}"
create-topics = true
[connections.nats]
type = "nats"
servers = "{nats}"
create-topics = true
[connections.rabbitmq]
type = "rabbitmq"
uri = "{rabbitmq}"
create-topics = true
mandatory = true
[connections.sqs]
type = "sqs"
endpoint = "{sqs}"
region = "eu-central-1"
access-key-id = "test"
secret-access-key = "test"
fifo = true
create-topics = true
wait = "0s"
{routes}"#
    )
}

/// The `n`th event: of its key, the `n / KEYS`th.
fn event(n: usize) -> Record {
    let key = format!("key {} \u{e4}", n % KEYS);
    let mut record = Record::new(Some(key.as_bytes()), n.to_string().as_bytes());
    let header = |name: &str, value: &[u8]| (name.to_owned(), value.to_vec());
    record.headers = vec![
        header("binary", &[0, 255, 10, 128]),
        header("empty", b""),
        header("ce_id", n.to_string().as_bytes()),
        header("ce_source", b"/bridge"),
        header("ce_type", b"test"),
        header("ce_specversion", b"1.0"),
        header("ce_subject", "50% \u{fc}ber \"x\"".as_bytes()),
        header("content-type", b"text/plain; charset=utf-8"),
    ];
    record
}

/// Waits until the last route has passed all of them on.
fn wait(runtime: &Runtime, events: usize) -> Result<()> {
    let (mut last, mut moved) = (Vec::new(), Instant::now());
    loop {
        let counts: Vec<u64> = ROUTES.iter().map(|route| handled(runtime, *route)).collect();
        if counts.last().is_some_and(|n| *n >= events as u64) {
            return Ok(());
        }
        if counts != last {
            (last, moved) = (counts, Instant::now());
        }
        ensure!(
            moved.elapsed() < PATIENCE,
            "nothing has moved for {PATIENCE:?}: handled {last:?} of {events}, in the order of the routes\n{}",
            runtime.log()
        );
        pause(Duration::from_millis(200));
    }
}

fn handled(runtime: &Runtime, (from, to): (&str, &str)) -> u64 {
    let route = runtime.plugin(&format!("route.{from}-{to}"));
    route.and_then(|route| route["counts"]["handled"].as_u64()).unwrap_or(0)
}

/// Nothing is lost, everything is as it was, and the first arrivals of each key are in order.
fn compare(sent: &[Record], arrived: &[Record]) -> Result<()> {
    let mut expected: HashMap<&[u8], Vec<usize>> = HashMap::new();
    let key = |record: &Record| record.key.clone().context("an event without its key");
    let number = |record: &Record| -> Result<usize> {
        let payload = record.payload.as_deref().context("an event without its payload")?;
        Ok(std::str::from_utf8(payload)?.parse()?)
    };
    for record in sent {
        let key = record.key.as_deref().context("key")?;
        expected.entry(key).or_default().push(number(record)?);
    }
    let mut seen = vec![false; sent.len()];
    let mut first: HashMap<Vec<u8>, Vec<usize>> = HashMap::new();
    for record in arrived {
        let n = number(record)?;
        let original = sent.get(n).context("an event that was never sent")?;
        ensure!(record.key == original.key, "event {n} has another key: {:?}", record.key);
        for header in &original.headers {
            ensure!(
                record.headers.iter().filter(|h| *h == header).count() == 1,
                "event {n} lost {header:?}: {:?}",
                record.headers
            );
        }
        let time = record.headers.iter().find(|(name, _)| name == "sandbar-timestamp-ms");
        let time = time.context("an event without its first time")?;
        ensure!(std::str::from_utf8(&time.1)?.parse::<u64>()? > 0, "its first time is {time:?}");
        if !std::mem::replace(&mut seen[n], true) {
            first.entry(key(record)?).or_default().push(n);
        }
    }
    let lost = seen.iter().filter(|seen| !**seen).count();
    let repeated = arrived.len() + lost - sent.len();
    println!("{} arrived: {lost} lost, {repeated} repeated", arrived.len());
    ensure!(lost == 0, "{lost} of {} events are lost", sent.len());
    for (key, order) in expected {
        let came = first.get(key);
        let key = String::from_utf8_lossy(key);
        ensure!(came == Some(&order), "events of `{key}` are out of order: {came:?}");
    }
    Ok(())
}

// drives another process: there is nothing else to do on this thread
#[allow(clippy::disallowed_methods)]
fn pause(time: Duration) {
    std::thread::sleep(time);
}
