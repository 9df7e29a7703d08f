//! Cases as TOML.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use sandbar_core::{Event, Outgoing};
use serde_json::Value as Json;
use toml_edit::{Array, ArrayOfTables, DocumentMut, InlineTable, Item, Table, TableLike, Value};

use super::{Answer, Kind, OutputJson};
use crate::event_json::{BytesJson, OutgoingJson, time_text};

/// Longest JSON that is written as a table on one line.
const LINE: usize = 80;

/// A new file of cases: what was read, and what the plugin made of it. `heading` is a comment
/// of one or more lines.
pub fn write(
    heading: &str,
    config: &BTreeMap<String, String>,
    cases: &[(Event, Answer)],
) -> String {
    let mut document = DocumentMut::new();
    if !config.is_empty() {
        let config: InlineTable = config.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        document.insert("config", Item::Value(config.into()));
    }
    let mut tables = ArrayOfTables::new();
    for (event, answer) in cases {
        tables.push(case(event, answer));
    }
    document.insert("case", Item::ArrayOfTables(tables));
    let heading: String = heading.lines().map(|line| format!("# {line}\n")).collect();
    format!("{heading}\n{}", document.to_string().trim_start())
}

fn case(event: &Event, answer: &Answer) -> Table {
    let mut table = Table::new();
    let name = format!("{}/{}/{}", event.topic, event.partition, event.position);
    set(&mut table, "name", name.into());
    // its clock stands at the time of the event
    set(&mut table, "time", time_text(event.timestamp_ms).into());
    if answer.verdict != Kind::Ok {
        set(&mut table, "verdict", answer.verdict.as_str().into());
    }
    if let Some(code) = answer.code.as_deref().filter(|_| answer.verdict.has_code()) {
        set(&mut table, "code", code.into());
    }
    if let Some(after) = answer.after {
        set(&mut table, "after", humantime::format_duration(after).to_string().into());
    }
    table.insert("event", Item::Table(fields(event_fields(event))));
    for (name, outputs) in [("output", &answer.outputs), ("published", &answer.published)] {
        if !outputs.is_empty() {
            let outputs = outputs.iter().map(|output| fields(output_fields(output, true)));
            table.insert(name, Item::ArrayOfTables(outputs.collect()));
        }
    }
    if !answer.state.is_empty() {
        let mut state = Table::new();
        for (key, value) in &answer.state {
            set(&mut state, key, kept(value, true));
        }
        table.insert("state-after", Item::Table(state));
    }
    table
}

fn fields(fields: Vec<(&'static str, Value)>) -> Table {
    let mut table = Table::new();
    fields.into_iter().for_each(|(key, value)| set(&mut table, key, value));
    table
}

/// An event as the plugin got it, to the byte.
fn event_fields(event: &Event) -> Vec<(&'static str, Value)> {
    let outgoing = Outgoing {
        connection: None,
        topic: event.topic.clone(),
        key: event.key.clone(),
        payload: event.payload.clone(),
        headers: event.headers.to_vec(),
        attributes: event.attributes.to_vec(),
    };
    let mut fields = vec![("topic", Value::from(&*event.topic))];
    if event.partition != 0 {
        fields.push(("partition", i64::from(event.partition).into()));
    }
    fields.push(("position", whole(event.position)));
    rest(&OutgoingJson::from(&outgoing), &mut fields, |bytes| match std::str::from_utf8(bytes) {
        Ok(text) if serde_json::from_str::<Json>(text).is_ok() => ("json", text.into()),
        Ok(text) => ("text", text.into()),
        Err(_) => base64(bytes),
    });
    fields
}

/// An output as it is expected; `as_json` where text that is JSON is to be compared as such.
pub(super) fn output_fields(output: &OutputJson, as_json: bool) -> Vec<(&'static str, Value)> {
    let mut fields = vec![("topic", Value::from(output.topic.as_str()))];
    if let Some(connection) = &output.connection {
        fields.push(("connection", connection.as_str().into()));
    }
    rest(&output.event, &mut fields, |bytes| {
        let Ok(text) = std::str::from_utf8(bytes) else { return base64(bytes) };
        match serde_json::from_str::<Json>(text) {
            Ok(value @ (Json::Object(_) | Json::Array(_))) if as_json => {
                ("json", json(text, &value))
            }
            _ => ("text", text.into()),
        }
    });
    fields
}

fn rest(
    event: &OutgoingJson,
    fields: &mut Vec<(&'static str, Value)>,
    payload: impl Fn(&[u8]) -> (&'static str, Value),
) {
    if let Some(key) = &event.key {
        fields.push(("key", bytes(key)));
    }
    if !event.attributes.is_empty() {
        let attributes = event.attributes.iter().map(|(k, v)| (k.as_str(), v.as_str()));
        fields.push(("attributes", Value::InlineTable(attributes.collect())));
    }
    if !event.headers.is_empty() {
        fields.push(("headers", headers(&event.headers)));
    }
    fields.push(match &event.payload {
        Some(BytesJson(bytes)) => payload(bytes),
        None => ("tombstone", true.into()),
    });
}

/// A table on one line where TOML can say it that shortly, else JSON text, a member a line.
fn json(text: &str, value: &Json) -> Value {
    if text.len() <= LINE
        && let Some(value) = toml(value)
    {
        return value;
    }
    // never fails: keys are strings
    let pretty = serde_json::to_string_pretty(value).unwrap_or_else(|_| text.to_owned());
    Value::from(format!("{pretty}\n"))
}

/// JSON as a value of TOML, which has no null.
fn toml(value: &Json) -> Option<Value> {
    Some(match value {
        Json::Null => return None,
        Json::Bool(truth) => (*truth).into(),
        Json::Number(number) => match number.as_i64() {
            Some(whole) => whole.into(),
            None => number.as_f64().filter(|_| number.is_f64())?.into(),
        },
        Json::String(text) => text.as_str().into(),
        Json::Array(items) => Value::Array(items.iter().map(toml).collect::<Option<Array>>()?),
        Json::Object(members) => {
            let member = |(key, value): (&String, &Json)| Some((key.clone(), toml(value)?));
            Value::InlineTable(members.iter().map(member).collect::<Option<InlineTable>>()?)
        }
    })
}

fn headers(headers: &[(String, Option<BytesJson>)]) -> Value {
    let is_table = headers.windows(2).all(|pair| pair[0].0 < pair[1].0)
        && headers.iter().all(|(_, value)| value.is_some());
    if is_table {
        let header = |(name, value): &(String, Option<BytesJson>)| {
            value.as_ref().map(|value| (name.clone(), bytes(value)))
        };
        return Value::InlineTable(headers.iter().filter_map(header).collect());
    }
    let pair = |(name, value): &(String, Option<BytesJson>)| {
        let name = Value::from(name.as_str());
        Value::Array([name].into_iter().chain(value.as_ref().map(bytes)).collect())
    };
    Value::Array(headers.iter().map(pair).collect())
}

fn bytes(BytesJson(bytes): &BytesJson) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.into(),
        Err(_) => Value::InlineTable([base64(bytes)].into_iter().collect()),
    }
}

fn base64(bytes: &[u8]) -> (&'static str, Value) {
    ("base64", BASE64.encode(bytes).into())
}

/// A value of state; `as_json` where text that is JSON is to be compared as such.
pub(super) fn kept(value: &BytesJson, as_json: bool) -> Value {
    let text = std::str::from_utf8(&value.0).ok().filter(|_| as_json);
    match text.and_then(|text| Some((text, serde_json::from_str::<Json>(text).ok()?))) {
        Some((text, value @ (Json::Object(_) | Json::Array(_)))) => {
            Value::InlineTable([("json", json(text, &value))].into_iter().collect())
        }
        _ => bytes(value),
    }
}

/// A number that a plugin has counted; a whole one without a point.
pub(super) fn number(number: f64) -> Value {
    number.to_string().parse().unwrap_or_else(|_| number.into())
}

/// A position; one that TOML's numbers cannot hold does not come from any broker.
fn whole(number: u64) -> Value {
    i64::try_from(number).unwrap_or(i64::MAX).into()
}

/// What a case says of a log.
pub(super) fn log_lines(answer: &Answer) -> Vec<String> {
    answer.log.iter().map(super::LogJson::line).collect()
}

/// Puts a value in its place, or at the end; comments around an old one stay.
pub(super) fn set(table: &mut dyn TableLike, key: &str, value: Value) {
    match table.get_mut(key) {
        Some(Item::Value(old)) => {
            let decor = old.decor().clone();
            *old = value;
            *old.decor_mut() = decor;
        }
        Some(old) => *old = Item::Value(value),
        None => drop(table.insert(key, Item::Value(value))),
    }
}
