//! What was expected against what came of it.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::Value;
use similar::{ChangeTag, TextDiff};

use super::{
    Answer, Case, Content, Expected, ExpectedOutput, OutputJson, Ran,
    structure::{self, member},
};
use crate::event_json::BytesJson;

/// One thing that is not as expected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// What: `verdict`, `output 1 payload.user.name`, `step 2: log`.
    pub at: String,
    /// What was expected; nothing where it should not be there.
    pub expected: Option<String>,
    /// What was found; nothing where it is missing.
    pub found: Option<String>,
}

impl Difference {
    fn new(
        at: impl Into<String>,
        expected: impl Into<Option<String>>,
        found: impl Into<Option<String>>,
    ) -> Self {
        Self { at: at.into(), expected: expected.into(), found: found.into() }
    }

    /// Lines for people: one where both sides are short, else the changed lines.
    pub fn lines(&self) -> Vec<String> {
        let Self { at, expected, found } = self;
        let (Some(expected), Some(found)) = (expected, found) else {
            return match (expected, found) {
                (Some(text), _) => vec![format!("{at}: missing"), format!("  - {text}")],
                (_, Some(text)) => vec![format!("{at}: not expected"), format!("  + {text}")],
                (None, None) => vec![at.clone()],
            };
        };
        let mut lines = vec![format!("{at}:")];
        let diff = TextDiff::from_lines(expected, found);
        for (at, group) in diff.grouped_ops(2).iter().enumerate() {
            if at > 0 {
                lines.push("  ...".to_owned());
            }
            for change in group.iter().flat_map(|op| diff.iter_changes(op)) {
                let sign = match change.tag() {
                    ChangeTag::Delete => '-',
                    ChangeTag::Insert => '+',
                    ChangeTag::Equal => ' ',
                };
                lines.push(format!("  {sign} {}", change.value().trim_end_matches('\n')));
            }
        }
        lines
    }
}

/// All that is not as the case expects.
pub fn compare(case: &Case, ran: &Ran) -> Vec<Difference> {
    match (&case.start_error, &ran.start_error) {
        (None, None) => {}
        (Some(expected), Some(found)) if found.contains(expected) => return Vec::new(),
        (expected, found) => {
            return vec![Difference::new("start-error", expected.clone(), found.clone())];
        }
    }
    let mut all = Vec::new();
    for (at, (step, answer)) in case.steps.iter().zip(&ran.answers).enumerate() {
        let found = answer_differences(&step.expected, answer);
        all.extend(found.into_iter().map(|difference| match case.in_steps {
            true => Difference { at: format!("step {}: {}", at + 1, difference.at), ..difference },
            false => difference,
        }));
    }
    all
}

/// What a case would have to say for `answer` to be as expected.
pub fn expected_of(answer: &Answer) -> Expected {
    let outputs = |outputs: &[OutputJson]| {
        let output =
            |output: &OutputJson| ExpectedOutput { event: output.clone().into(), as_json: true };
        outputs.iter().map(output).collect()
    };
    let value = |(key, BytesJson(bytes)): (&String, &BytesJson)| {
        (key.clone(), Content { bytes: bytes.clone(), as_json: true })
    };
    Expected {
        verdict: answer.verdict,
        code: answer.code.clone(),
        message: answer.message.clone(),
        after: answer.after,
        outputs: outputs(&answer.outputs),
        published: Some(outputs(&answer.published)),
        state: Some(answer.state.iter().map(value).collect()),
        metrics: Some(answer.metrics.clone()),
        log: Some(answer.log.iter().map(super::LogJson::line).collect()),
    }
}

/// All that is not as expected of one event.
fn answer_differences(expected: &Expected, answer: &Answer) -> Vec<Difference> {
    let mut all = Vec::new();
    if expected.verdict != answer.verdict {
        let found = match (&answer.code, &answer.message) {
            (Some(code), Some(message)) => {
                format!("{} ({code}: {message})", answer.verdict.as_str())
            }
            _ => answer.verdict.as_str().to_owned(),
        };
        all.push(Difference::new("verdict", expected.verdict.as_str().to_owned(), found));
        if answer.verdict != super::Kind::Ok {
            // the rest follows from it
            return all;
        }
    }
    let code = answer.code.as_deref();
    if let Some(wanted) = expected.code.as_deref().filter(|wanted| Some(*wanted) != code) {
        all.push(Difference::new("code", wanted.to_owned(), answer.code.clone()));
    }
    let message = answer.message.as_deref().unwrap_or_default();
    if let Some(wanted) = expected.message.as_deref().filter(|part| !message.contains(part)) {
        all.push(Difference::new("message", wanted.to_owned(), answer.message.clone()));
    }
    if let Some(wanted) = expected.after.filter(|wanted| Some(*wanted) != answer.after) {
        let text = |time| humantime::format_duration(time).to_string();
        all.push(Difference::new("after", text(wanted), answer.after.map(text)));
    }
    outputs(["outputs", "output"], &expected.outputs, &answer.outputs, &mut all);
    if let Some(wanted) = &expected.published {
        outputs(["published"; 2], wanted, &answer.published, &mut all);
    }
    if let Some(wanted) = &expected.state {
        state(wanted, &answer.state, &mut all);
    }
    if let Some(wanted) = &expected.metrics {
        metrics(wanted, &answer.metrics, &mut all);
    }
    if let Some(wanted) = &expected.log {
        let found: Vec<_> = answer.log.iter().map(super::LogJson::line).collect();
        if *wanted != found {
            all.push(Difference::new("log", wanted.join("\n"), found.join("\n")));
        }
    }
    all
}

/// `names` is what many and one of them are called.
fn outputs(
    names: [&str; 2],
    expected: &[ExpectedOutput],
    found: &[OutputJson],
    all: &mut Vec<Difference>,
) {
    if expected.len() != found.len() {
        let wanted: Vec<_> = expected.iter().map(|e| summary(&(&e.event).into())).collect();
        let got: Vec<_> = found.iter().map(summary).collect();
        let at = format!("{}: expected {}, found {}", names[0], expected.len(), found.len());
        all.push(Difference::new(at, wanted.join("\n"), got.join("\n")));
        return;
    }
    for (at, (expected, found)) in expected.iter().zip(found).enumerate() {
        let name = format!("{} {}", names[1], at + 1);
        let differences = output_differences(expected, found);
        all.extend(
            differences.into_iter().map(|d| Difference { at: format!("{name} {}", d.at), ..d }),
        );
    }
}

/// Where an output is not as expected.
pub(super) fn output_differences(expected: &ExpectedOutput, found: &OutputJson) -> Vec<Difference> {
    let wanted = OutputJson::from(&expected.event);
    let mut all = Vec::new();
    let mut differ = |at: &str, wanted: Option<String>, found: Option<String>| {
        if wanted != found {
            all.push(Difference::new(at, wanted, found));
        }
    };
    differ("topic", Some(wanted.topic.clone()), Some(found.topic.clone()));
    differ("connection", wanted.connection.clone(), found.connection.clone());
    let text = |bytes: &Option<BytesJson>| bytes.as_ref().map(|b| bytes_text(&b.0));
    differ("key", text(&wanted.event.key), text(&found.event.key));
    for (at, wanted, found) in [
        ("headers", headers(&wanted), headers(found)),
        ("attributes", attributes(&wanted), attributes(found)),
    ] {
        differ(at, Some(wanted.join("\n")), Some(found.join("\n")));
    }
    content("payload", wanted.payload(), found.payload(), expected.as_json, &mut all);
    all
}

fn state(
    expected: &BTreeMap<String, Content>,
    found: &BTreeMap<String, BytesJson>,
    all: &mut Vec<Difference>,
) {
    for key in expected.keys().chain(found.keys()).collect::<BTreeSet<_>>() {
        let wanted = expected.get(key);
        let as_json = wanted.is_some_and(|wanted| wanted.as_json);
        let (wanted, found) = (wanted.map(|w| &*w.bytes), found.get(key).map(|f| &*f.0));
        content(&format!("state{}", member(key)), wanted, found, as_json, all);
    }
}

fn metrics(
    expected: &BTreeMap<String, f64>,
    found: &BTreeMap<String, f64>,
    all: &mut Vec<Difference>,
) {
    for name in expected.keys().chain(found.keys()).collect::<BTreeSet<_>>() {
        if count(expected, name) != count(found, name) {
            let text = |counts: &BTreeMap<String, f64>| counts.get(name).map(f64::to_string);
            all.push(Difference::new(format!("metric {name}"), text(expected), text(found)));
        }
    }
}

/// What is counted as `name`: to be left out is to be 0.
pub(super) fn count(counts: &BTreeMap<String, f64>, name: &str) -> f64 {
    counts.get(name).copied().unwrap_or_default()
}

/// Where bytes differ that are called `name`: in their structure, where both are JSON and `as_json`.
pub(super) fn content(
    name: &str,
    expected: Option<&[u8]>,
    found: Option<&[u8]>,
    as_json: bool,
    all: &mut Vec<Difference>,
) {
    if expected == found {
        return;
    }
    let json = |bytes: Option<&[u8]>| -> Option<Value> { serde_json::from_slice(bytes?).ok() };
    if as_json && let (Some(expected), Some(found)) = (json(expected), json(found)) {
        let mut places = Vec::new();
        structure::differences(name, &expected, &found, &mut places);
        all.extend(places.into_iter().map(|(at, e, f)| Difference::new(at, e, f)));
        return;
    }
    let text = |bytes: Option<&[u8]>| bytes.map(bytes_text);
    all.push(Difference::new(name, text(expected), text(found)));
}

/// Headers in order of their names: that of different names means nothing.
fn headers(output: &OutputJson) -> Vec<String> {
    let value = |value: &Option<BytesJson>| {
        value.as_ref().map_or_else(|| "(null)".to_owned(), |value| bytes_text(&value.0))
    };
    let mut headers: Vec<_> = output.event.headers.iter().collect();
    headers.sort_by(|a, b| a.0.cmp(&b.0));
    headers.into_iter().map(|(name, v)| format!("{name} = {}", value(v))).collect()
}

fn attributes(output: &OutputJson) -> Vec<String> {
    output.event.attributes.iter().map(|(name, value)| format!("{name} = {value}")).collect()
}

/// One line of an output.
fn summary(output: &OutputJson) -> String {
    let key = output.event.key.as_ref().map(|key| format!(" key {}", bytes_text(&key.0)));
    let payload = output.payload().map_or_else(|| "(tombstone)".to_owned(), bytes_text);
    format!("{}{}: {}", output.topic, key.unwrap_or_default(), payload.replace('\n', " "))
}

fn bytes_text(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => {
            use base64::Engine as _;
            format!("base64:{}", base64::engine::general_purpose::STANDARD.encode(bytes))
        }
    }
}
