//! What did come out, read back from the topics and the admin API.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use anyhow::{Context, Result};
use sandbar_testkit::Runtime;
use serde_json::Value;

use crate::expect::Expected;

/// An event that a plugin published.
struct Output {
    /// Position of the webhook that it comes from.
    origin: u64,
    key: String,
    schema: u64,
    /// Milliseconds from the input's arrival in the log to the output's.
    latency: u64,
}

/// One plugin's side of the story.
pub struct Plugin {
    pub name: &'static str,
    pub version: String,
    pub counts: Value,
    pub reloads: u64,
    outputs: Vec<Output>,
    /// Positions, in its own topic, of its dead letters.
    dead: Vec<u64>,
    /// Inputs that it neither published for, nor skipped, nor buried.
    pub lost: u64,
    pub repeated: u64,
    /// Milliseconds.
    pub p50: u64,
    pub p99: u64,
}

pub struct Observed {
    pub router: Plugin,
    pub notifier: Plugin,
}

impl Observed {
    pub fn read(runtime: &Runtime) -> Result<Self> {
        let webhooks = runtime.get_lines("/api/topics/github.webhooks/events")?;
        let events = runtime.get_lines("/api/topics/github.events/events")?;
        let notes = runtime.get_lines("/api/topics/github.notifications/events")?;

        let arrived = webhooks.iter().filter_map(|e| Some((e["position"].as_u64()?, time(e))));
        let arrived: HashMap<u64, u64> = arrived.collect();
        let routed = outputs(&events, "", &arrived)?;
        let routed_at = events.iter().zip(&routed).map(|(e, o)| (o.origin, time(e))).collect();
        let noted = outputs(&notes, "/github-router#", &routed_at)?;
        let router = Plugin::read(runtime, "router", routed)?;
        let mut notifier = Plugin::read(runtime, "notifier", noted)?;
        // a dead letter names its place in github.events: tell it by the webhook
        for dead in &mut notifier.dead {
            let event = events.iter().find(|e| e["position"] == *dead);
            *dead = origin(event.context("a dead letter of no event")?, "")?;
        }
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
        let keys =
            self.router.outputs.iter().all(|o| expected.routed.get(&o.origin) == Some(&o.key));
        say(keys, "a typed event has another key than its repository");
        let schemas: BTreeSet<u64> = self.router.outputs.iter().map(|o| o.schema).collect();
        say(schemas == [1, 2].into(), "not both versions of the router have published");
        say(versions_in_order(&self.router.outputs), "a key went back to the old version");
        wrong
    }
}

impl Plugin {
    fn read(runtime: &Runtime, name: &'static str, outputs: Vec<Output>) -> Result<Self> {
        let status = runtime.plugin(name).context("the plugin is gone")?;
        let dead = runtime.get_lines(&format!("/api/topics/{name}.dlq/events")).unwrap_or_default();
        let dead: Option<Vec<u64>> = dead.iter().map(original_position).collect();
        let mut latencies: Vec<u64> = outputs.iter().map(|o| o.latency).collect();
        latencies.sort_unstable();
        let at = |percent: usize| latencies.get(latencies.len() * percent / 100).copied();
        Ok(Self {
            name,
            version: status["version"].as_str().unwrap_or("?").to_owned(),
            counts: status["counts"].clone(),
            reloads: status["reloads"].as_u64().unwrap_or(0),
            dead: dead.context("a dead letter without its original position")?,
            lost: 0,
            repeated: 0,
            p50: at(50).unwrap_or(0),
            p99: at(99).unwrap_or(0),
            outputs,
        }
        .counted())
    }

    /// Losses and repeats are counted on what the topics hold, not on what the
    /// runtime says of itself.
    fn counted(mut self) -> Self {
        let received = self.counts["received"].as_u64().unwrap_or(0);
        let skipped = self.counts["skipped"].as_u64().unwrap_or(0);
        let out: BTreeSet<u64> = self.outputs.iter().map(|o| o.origin).collect();
        let dead: BTreeSet<u64> = self.dead.iter().copied().collect();
        let all = self.outputs.len() + self.dead.len();
        self.repeated = (all - out.len() - dead.len()) as u64;
        self.lost = received.saturating_sub(skipped + out.len() as u64 + dead.len() as u64);
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
        let found: BTreeSet<u64> = self.outputs.iter().map(|o| o.origin).collect();
        if found != *outputs {
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
        if !in_order(&self.outputs) {
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

fn outputs(events: &[Value], prefix: &str, inputs: &HashMap<u64, u64>) -> Result<Vec<Output>> {
    let read = |event: &Value| {
        let origin = origin(event, prefix)?;
        let arrived = inputs.get(&origin).context("an output of no input")?;
        let payload = event["payload"].as_str().context("an output that is no text")?;
        let payload: Value = serde_json::from_str(payload)?;
        Ok(Output {
            origin,
            key: event["key"].as_str().context("an output without a key")?.to_owned(),
            schema: payload["schema"].as_u64().unwrap_or(1),
            latency: time(event).saturating_sub(*arrived),
        })
    };
    events.iter().map(read).collect()
}

/// Position of the webhook that an event comes from, told by its id.
fn origin(event: &Value, prefix: &str) -> Result<u64> {
    let id = event["attributes"]["id"].as_str().context("an output without an id")?;
    let position = id.strip_prefix(prefix).and_then(|id| id.strip_prefix("github.webhooks/0/"));
    Ok(position.with_context(|| format!("an output with the foreign id {id}"))?.parse()?)
}

fn original_position(letter: &Value) -> Option<u64> {
    let headers = letter["headers"].as_array()?;
    let offset = headers.iter().find(|h| h[0] == "__dlq.errors.offset")?;
    offset[1].as_str()?.parse().ok()
}

fn time(event: &Value) -> u64 {
    event["timestamp"].as_u64().unwrap_or(0)
}
