//! The embedded log under test: written and read over HTTP, as it is inside the runtime.

use std::{
    collections::HashMap,
    io::{BufRead, BufReader},
    time::{Duration, UNIX_EPOCH},
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::{
    script::number_of,
    timeline::Millis,
    verifier::{Record, Verifier},
    world::Kept,
};

/// Longest wait for the runtime to take a connection or begin an answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// Longest time for which a reader hears nothing before it asks again.
const SILENCE: Duration = Duration::from_secs(5);
/// A reader that comes back asks for what is this much older than the last it saw.
const OVERLAP: Millis = 2000;

/// A record as the admin API shows it.
#[derive(Debug)]
struct Line {
    partition: u64,
    position: u64,
    timestamp: Millis,
    key: String,
    payload: String,
}

impl Line {
    fn parse(line: &str) -> Option<Self> {
        let value: Value = serde_json::from_str(line).ok()?;
        let number = |name: &str| value[name].as_u64();
        let text = |name: &str| value[name].as_str().map(str::to_owned);
        Some(Self {
            partition: number("partition")?,
            position: number("position")?,
            timestamp: number("timestamp")?,
            key: text("key")?,
            payload: text("payload")?,
        })
    }
}

fn agent() -> ureq::Agent {
    ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_connect(Some(PATIENCE))
        .timeout_recv_response(Some(PATIENCE))
        .timeout_recv_body(Some(SILENCE))
        .build()
        .into()
}

/// Writes `events`, given as keys and payloads; whether all of them are durable for certain.
pub fn publish(admin: &str, topic: &str, events: &[(u32, String)]) -> Result<bool> {
    let line = |(key, payload): &(u32, String)| {
        format!("{}\n", serde_json::json!({"key": key.to_string(), "payload": payload}))
    };
    let body: String = events.iter().map(line).collect();
    let url = format!("http://{admin}/api/topics/{topic}/events");
    let mut answer = agent().post(url).send(body.as_bytes())?;
    let text = answer.body_mut().read_to_string()?;
    let published = serde_json::from_str::<Value>(&text)?["published"].as_u64();
    Ok(published == Some(events.len() as u64))
}

/// One topic, read from its beginning and again from where it broke off.
pub struct Follower {
    kept: Kept,
    /// The next position of each partition.
    next: HashMap<u64, u64>,
    newest: Millis,
}

impl Follower {
    pub fn new(kept: Kept) -> Self {
        Self { kept, next: HashMap::new(), newest: 0 }
    }

    /// The runtime that is to be asked.
    pub fn runtime(&self) -> usize {
        self.kept.runtime
    }

    /// Reads into `verifier` up to the end, or with `follow` until it breaks off or `stop`.
    pub fn read(
        &mut self,
        admin: &str,
        verifier: &Verifier,
        follow: bool,
        stop: &CancellationToken,
    ) -> Result<()> {
        let from = UNIX_EPOCH + Duration::from_millis(self.newest.saturating_sub(OVERLAP));
        let from = humantime::format_rfc3339_millis(from);
        let Kept { connection, topic, place, .. } = &self.kept;
        let url = format!(
            "http://{admin}/api/topics/{topic}/events?connection={connection}&from={from}&follow={follow}"
        );
        let answer = agent().get(url).call()?;
        ensure!(answer.status().is_success(), "reading {topic}: {}", answer.status());
        let lines = BufReader::new(answer.into_body().into_reader()).lines();
        for line in lines {
            let line = line?;
            let record = Line::parse(&line).with_context(|| format!("not a record: {line}"))?;
            let next = self.next.entry(record.partition).or_default();
            if record.position < *next {
                continue;
            }
            *next = record.position + 1;
            self.newest = record.timestamp.max(self.newest);
            verifier.observe(&Record {
                place: *place,
                key: record.key.as_bytes(),
                payload: record.payload.as_bytes(),
                timestamp: record.timestamp,
            });
            if stop.is_cancelled() {
                break;
            }
        }
        Ok(())
    }
}

/// The number that comes next for each key, by what is in the log: after a request that broke
/// off nobody else knows.
pub fn next_numbers(admin: &str, topic: &str, since: Millis, known: &[u64]) -> Result<Vec<u64>> {
    let from = humantime::format_rfc3339_millis(UNIX_EPOCH + Duration::from_millis(since));
    let url = format!("http://{admin}/api/topics/{topic}/events?from={from}");
    let answer = agent().get(url).call()?;
    ensure!(answer.status().is_success(), "reading {topic}: {}", answer.status());
    let mut next = known.to_vec();
    for line in BufReader::new(answer.into_body().into_reader()).lines() {
        let line = line?;
        let record = Line::parse(&line).with_context(|| format!("not a record: {line}"))?;
        let number = number_of(&record.payload).context("not a payload of this run")?;
        match next.get_mut(record.key.parse::<usize>()?) {
            Some(next) => *next = (number + 1).max(*next),
            None => bail!("a foreign key in {topic}: {}", record.key),
        }
    }
    Ok(next)
}
