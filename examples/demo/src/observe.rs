//! What did come out, read back from the topics and the admin API.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use sandbar_testkit::Runtime;
use serde_json::Value;

use crate::{broker::Broker, expect::Expected};

/// An event that a plugin published.
struct Output {
    /// Number of the webhook that it comes from.
    origin: u64,
    key: String,
    schema: u64,
    /// Milliseconds from the webhook's publishing to the output's arrival.
    latency: u64,
}

/// One plugin's side of the story.
pub struct Plugin {
    pub name: &'static str,
    pub version: String,
    pub counts: Value,
    pub reloads: u64,
    /// `None` where the broker lets nobody look at them.
    outputs: Option<Vec<Output>>,
    /// Numbers of the webhooks of its dead letters.
    dead: Vec<u64>,
    /// Inputs that it neither published for, nor skipped, nor buried.
    pub lost: u64,
    pub repeated: u64,
    /// Milliseconds.
    pub p50: Option<u64>,
    pub p99: Option<u64>,
}

pub struct Observed {
    pub router: Plugin,
    pub notifier: Plugin,
}

impl Observed {
    /// What came of `run`, whose webhooks were published at the times of `published`.
    pub fn read(runtime: &Runtime, broker: Broker, run: &str, published: &[u64]) -> Result<Self> {
        let outputs = |topic: &str, source: &str| {
            let Some(connection) = broker.readable(topic) else { return Ok(None) };
            let path = format!("/api/topics/{topic}/events?connection={connection}");
            let id = format!("{source}{run}-");
            outputs(&runtime.get_lines(&path)?, &id, published).map(Some)
        };
        let routed = outputs("github.events", "")?;
        let noted = outputs("github.notifications", "/github-router#")?;
        let router = Plugin::read(runtime, "router", &format!("{run}-"), routed)?;
        let homeless = format!("/github-router#{run}-");
        let notifier = Plugin::read(runtime, "notifier", &homeless, noted)?;
        Ok(Self { router, notifier })
    }

    /// Compares with what must be; one line per difference.
    pub fn check(&self, expected: &Expected) -> Vec<String> {
        let mut wrong = Vec::new();
        let well = expected.routed.len() as u64;
        let (malformed, homeless) =
            (expected.malformed.len() as u64, expected.homeless.len() as u64);
        let notified = expected.notified.len() as u64;
        self.router.check(
            &expected.routed.keys().copied().collect(),
            &expected.malformed,
            &[("received", well + malformed), ("handled", well), ("retried", 0), ("skipped", 0)],
            &mut wrong,
        );
        self.notifier.check(
            &expected.notified,
            &expected.homeless,
            &[
                ("received", well),
                ("handled", notified),
                ("retried", expected.retries),
                ("skipped", expected.skipped),
            ],
            &mut wrong,
        );
        let mut say = |ok: bool, what: &str| {
            if !ok {
                wrong.push(what.to_owned());
            }
        };
        say(malformed > 0 && homeless + expected.retries > 0, "the stream tests too little");
        say(self.router.reloads == 1, "the router was not replaced exactly once");
        for output in [&self.router, &self.notifier].iter().filter_map(|p| p.outputs.as_ref()) {
            let keys = output.iter().all(|o| expected.routed.get(&o.origin) == Some(&o.key));
            say(keys, "an output has another key than its repository");
        }
        if let Some(outputs) = &self.router.outputs {
            let schemas: BTreeSet<u64> = outputs.iter().map(|o| o.schema).collect();
            say(schemas == [1, 2].into(), "not both versions of the router have published");
            say(versions_in_order(outputs), "a key went back to the old version");
        }
        wrong
    }
}

impl Plugin {
    fn read(
        runtime: &Runtime,
        name: &'static str,
        id: &str,
        outputs: Option<Vec<Output>>,
    ) -> Result<Self> {
        let status = runtime.plugin(name).context("the plugin is gone")?;
        let place = &status["subscriptions"][0]["dead_letters"];
        let (topic, connection) = (place["topic"].as_str(), place["connection"].as_str());
        let (topic, connection) = topic.zip(connection).context("no dead-letter topic")?;
        let path = format!("/api/topics/{topic}/events?connection={connection}");
        let dead = runtime.get_lines(&path)?;
        let dead = dead.iter().filter_map(|letter| original_id(letter)?.strip_prefix(id));
        let dead: Result<Vec<u64>, _> = dead.map(str::parse).collect();
        let mut latencies: Vec<u64> = outputs.iter().flatten().map(|o| o.latency).collect();
        latencies.sort_unstable();
        let at = |percent: usize| latencies.get(latencies.len() * percent / 100).copied();
        Ok(Self {
            name,
            version: status["version"].as_str().unwrap_or("?").to_owned(),
            counts: status["counts"].clone(),
            reloads: status["reloads"].as_u64().unwrap_or(0),
            dead: dead.context("a dead letter with a foreign id")?,
            lost: 0,
            repeated: 0,
            p50: at(50),
            p99: at(99),
            outputs,
        }
        .counted())
    }

    /// Losses and repeats are counted on what the topics hold, not on what the
    /// runtime says of itself; where they cannot be read, what came after shows them.
    fn counted(mut self) -> Self {
        let count = |name: &str| self.counts[name].as_u64().unwrap_or(0);
        let (received, skipped) = (count("received"), count("skipped"));
        let dead: BTreeSet<u64> = self.dead.iter().copied().collect();
        let (all, out) = match &self.outputs {
            Some(outputs) => {
                let out: BTreeSet<u64> = outputs.iter().map(|o| o.origin).collect();
                (outputs.len(), out.len())
            }
            None => {
                let published = usize::try_from(count("published")).unwrap_or(usize::MAX);
                (published, published)
            }
        };
        self.repeated = (all - out + self.dead.len() - dead.len()) as u64;
        self.lost = received.saturating_sub(skipped + (out + dead.len()) as u64);
        self
    }

    fn check(
        &self,
        outputs: &BTreeSet<u64>,
        dead: &BTreeSet<u64>,
        counts: &[(&str, u64)],
        wrong: &mut Vec<String>,
    ) {
        let name = self.name;
        for (what, must) in counts {
            if self.counts[*what] != *must {
                wrong.push(format!("{name}: {} {what}, must be {must}", self.counts[*what]));
            }
        }
        let found: Option<BTreeSet<u64>> =
            self.outputs.as_ref().map(|outputs| outputs.iter().map(|o| o.origin).collect());
        if let Some(found) = found.filter(|found| found != outputs) {
            let missing = outputs.difference(&found).count();
            let extra = found.difference(outputs).count();
            wrong.push(format!(
                "{name}: {missing} outputs are missing and {extra} are not expected"
            ));
        }
        if self.dead.iter().copied().collect::<BTreeSet<_>>() != *dead {
            wrong.push(format!("{name}: {} dead letters, must be {}", self.dead.len(), dead.len()));
        }
        if self.lost + self.repeated > 0 {
            wrong.push(format!("{name}: {} lost, {} repeated", self.lost, self.repeated));
        }
        if self.outputs.as_deref().is_some_and(|outputs| !in_order(outputs)) {
            wrong.push(format!("{name}: outputs of a key are out of order"));
        }
    }
}

fn in_order(outputs: &[Output]) -> bool {
    let mut last = BTreeMap::<&str, u64>::new();
    outputs.iter().all(|o| last.insert(&o.key, o.origin).is_none_or(|before| before < o.origin))
}

fn versions_in_order(outputs: &[Output]) -> bool {
    let mut last = BTreeMap::<&str, u64>::new();
    outputs.iter().all(|o| last.insert(&o.key, o.schema).is_none_or(|before| before <= o.schema))
}

/// Those of `events` whose id begins with `id`, in their order.
fn outputs(events: &[Value], id: &str, published: &[u64]) -> Result<Vec<Output>> {
    let read = |event: &Value| {
        let number = event["attributes"]["id"].as_str()?.strip_prefix(id)?;
        Some(output(event, number, published))
    };
    events.iter().filter_map(read).collect()
}

fn output(event: &Value, number: &str, published: &[u64]) -> Result<Output> {
    let origin: u64 = number.parse().context("an output with a foreign id")?;
    let published = published.get(usize::try_from(origin)?).context("an output of no input")?;
    let payload = event["payload"].as_str().context("an output that is no text")?;
    let payload: Value = serde_json::from_str(payload)?;
    Ok(Output {
        origin,
        key: event["key"].as_str().context("an output without a key")?.to_owned(),
        schema: payload["schema"].as_u64().unwrap_or(1),
        latency: arrival(event).saturating_sub(*published),
    })
}

/// Id of the event that was dead-lettered.
fn original_id(letter: &Value) -> Option<&str> {
    header(letter, "sandbar-dlq-event-id")
}

/// When it reached the broker, whose time a route carries on.
fn arrival(event: &Value) -> u64 {
    let carried = header(event, "sandbar-timestamp-ms").and_then(|time| time.parse().ok());
    carried.or(event["timestamp"].as_u64()).unwrap_or(0)
}

fn header<'a>(event: &'a Value, name: &str) -> Option<&'a str> {
    let headers = event["headers"].as_array()?;
    headers.iter().find(|h| h[0] == name)?[1].as_str()
}
