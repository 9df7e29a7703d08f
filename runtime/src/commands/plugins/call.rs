//! `sandbar plugin call`

use std::{collections::BTreeMap, num::NonZeroU32, path::PathBuf, time::Duration};

use anyhow::{Context as _, Result};
use clap::Args;
use sandbar::{
    cases::{Answer, Case, Settings, Step},
    event_json::BytesJson,
};
use sandbar_core::{Event, Header};
use sandbar_wasm::Grant;
use serde::Deserialize;

use super::{
    super::{
        Failed, Global,
        output::{Output, bytes_text, printable},
        publish::{header as pair, input},
    },
    subject::{SourceArgs, Subject},
};

#[derive(Debug, Args)]
pub struct CallArgs {
    /// The plugin: a name in the plugins folder, a .wasm file, or a folder of source, which is
    /// built first
    plugin: PathBuf,
    /// File with one event a line, as `tail -o json` prints them; standard input by default
    file: Option<PathBuf>,
    /// Value of the plugin's configuration; may be given several times
    #[arg(long = "config-value", value_name = "KEY=VALUE", env = "SANDBAR_CALL_CONFIG_VALUE", value_parser = pair)]
    values: Vec<(String, String)>,
    /// Capability that the plugin gets; may be given several times. Whatever it imports by default
    #[arg(long = "grant", value_name = "NAME", env = "SANDBAR_CALL_GRANT")]
    grants: Vec<Grant>,
    #[command(flatten)]
    source: SourceArgs,
}

/// An event on a line.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    topic: String,
    #[serde(default)]
    key: Option<BytesJson>,
    /// Must be there; `null` is a tombstone.
    #[serde(deserialize_with = "Option::deserialize")]
    payload: Option<BytesJson>,
    #[serde(default)]
    headers: Vec<(String, Option<BytesJson>)>,
    #[serde(default)]
    attributes: BTreeMap<String, String>,
    #[serde(default)]
    partition: u32,
    position: Option<u64>,
    /// Milliseconds since the Unix epoch; the plugin's clock moves on to it.
    timestamp: Option<u64>,
    attempt: Option<NonZeroU32>,
}

pub async fn call(args: &CallArgs, global: &Global) -> Result<()> {
    let config = global.config()?;
    let mut input = input::lines(args.file.as_deref())?;
    let subject = Subject::find(&args.plugin, &args.source, &config)?;
    let runner = subject.runner().await?;
    let settings = Settings {
        grants: (!args.grants.is_empty()).then(|| args.grants.iter().copied().collect()),
        ..Settings::new(args.values.iter().cloned().collect())
    };
    let session = runner
        .start(&settings)
        .await
        .with_context(|| format!("{} does not start", subject.file.display()))?;
    let out = global.out();
    let (mut position, mut bad) = (0, false);
    while let Some(lines) = input.next().await {
        for line in lines.context("cannot read the input")? {
            if line.text.trim_ascii().is_empty() {
                continue;
            }
            match serde_json::from_slice::<Line>(&line.text) {
                Ok(event) => {
                    let step = event.step(position, settings.time);
                    let answer = session.step(&step).await;
                    print(out, &step.event, &answer)?;
                    position += 1;
                }
                Err(e) => {
                    bad = true;
                    eprintln!("line {}: no event: {e}", line.number);
                }
            }
        }
    }
    if bad { Err(Failed.into()) } else { Ok(()) }
}

impl Line {
    fn step(self, position: u64, time: Duration) -> Step {
        let header = |(name, value): (String, Option<BytesJson>)| Header {
            name: name.into(),
            value: value.map(|value| value.0),
        };
        let time = self.timestamp.map_or(time, Duration::from_millis);
        let event = Event {
            topic: self.topic.into(),
            partition: self.partition,
            position: self.position.unwrap_or(position),
            key: self.key.map(|key| key.0),
            payload: self.payload.map(|payload| payload.0),
            headers: self.headers.into_iter().map(header).collect(),
            timestamp_ms: u64::try_from(time.as_millis()).unwrap_or(u64::MAX),
            attributes: self.attributes.into_iter().collect(),
        };
        let step = Case::of_event(event, BTreeMap::new()).steps.remove(0);
        Step { attempt: self.attempt.map_or(1, Into::into), time: Some(time), ..step }
    }
}

fn print(out: Output, event: &Event, answer: &Answer) -> Result<()> {
    if out.is_json() {
        return out.object(answer);
    }
    let (verdict, id) = (answer.verdict.as_str(), event.id());
    match (&answer.code, &answer.message) {
        (Some(code), Some(message)) => {
            out.line(format_args!("{id}: {verdict} ({code}: {})", printable(message)))?;
        }
        _ => out.line(format_args!("{id}: {verdict}"))?,
    }
    for line in &answer.log {
        out.line(format_args!("  log {}: {}", line.level, printable(&line.message)))?;
    }
    for request in &answer.requests {
        out.line(format_args!("  request {} {}: not sent", request.method, request.url))?;
    }
    for output in &answer.outputs {
        let bytes = |bytes: &Option<BytesJson>, none: &str| {
            bytes.as_ref().map_or_else(|| none.to_owned(), |b| bytes_text(&b.0))
        };
        let (key, payload) = (&output.event.key, &output.event.payload);
        let (key, payload) = (bytes(key, "-"), bytes(payload, "(tombstone)"));
        out.line(format_args!("  -> {}\t{key}\t{payload}", output.topic))?;
    }
    Ok(())
}
