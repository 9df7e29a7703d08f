//! Writes what came of cases into their file, and leaves everything else as it stands there.

use std::collections::{BTreeMap, BTreeSet};

use toml_edit::{Array, ArrayOfTables, DocumentMut, InlineTable, Item, Table, TableLike, Value};

use super::{
    Answer, Case, Content, Expected, ExpectedOutput, Kind, OutputJson, Ran,
    compare::{count, output_differences},
    write::{kept, log_lines, number, output_fields, set},
};
use crate::event_json::BytesJson;

/// A table in either form; without a lifetime, so that it can be lent again.
type Entry = dyn TableLike + 'static;

/// Longest line for outputs that are written into one.
const LINE: usize = 100;

/// What a case has no use for when the plugin does not start.
const OF_AN_EVENT: [&str; 11] = [
    "event",
    "step",
    "verdict",
    "code",
    "message",
    "after",
    "output",
    "published",
    "state-after",
    "metrics",
    "log",
];

/// The text of a file in which each of `ran` expects what came of it. Comments and whatever
/// was as expected stay.
///
/// # Errors
/// Where the text is not TOML any more.
pub fn update(text: &str, ran: &[(&Case, &Ran)]) -> anyhow::Result<String> {
    let mut document: DocumentMut = text.parse()?;
    for (case, ran) in ran {
        let Some(table) = document.get_mut("case").and_then(|cases| entry(cases, case.index))
        else {
            anyhow::bail!("the file has changed: it has no case {} any more", case.index + 1);
        };
        update_case(table, case, ran);
    }
    Ok(document.to_string())
}

fn update_case(table: &mut Entry, case: &Case, ran: &Ran) {
    match &ran.start_error {
        Some(error) if case.start_error.as_ref().is_some_and(|part| error.contains(part)) => {}
        Some(error) => {
            OF_AN_EVENT.iter().for_each(|key| drop(table.remove(key)));
            set(table, "start-error", error.as_str().into());
        }
        None => {
            table.remove("start-error");
        }
    }
    for (at, (step, answer)) in case.steps.iter().zip(&ran.answers).enumerate() {
        let step_table = match case.in_steps {
            true => table.get_mut("step").and_then(|steps| entry(steps, at)),
            false => Some(&mut *table),
        };
        if let Some(step_table) = step_table {
            update_step(step_table, &step.expected, answer);
        }
    }
}

fn update_step(table: &mut Entry, expected: &Expected, answer: &Answer) {
    match answer.verdict {
        Kind::Ok => {
            for key in ["verdict", "code", "message", "after"] {
                table.remove(key);
            }
        }
        verdict => {
            set(table, "verdict", verdict.as_str().into());
            let code = answer.code.as_deref().filter(|_| verdict.has_code());
            or_remove(table, "code", code.map(Value::from));
            let message = answer.message.as_deref().unwrap_or_default();
            match expected.message.as_deref() {
                Some(part) if message.contains(part) => {}
                Some(_) => set(table, "message", message.into()),
                None => {}
            }
            let after = answer.after.map(|after| humantime::format_duration(after).to_string());
            or_remove(table, "after", after.map(Value::from));
        }
    }
    update_outputs(table, "output", &expected.outputs, &answer.outputs);
    if let Some(wanted) = &expected.published {
        match answer.published.is_empty() {
            // without the key it would not be compared any more
            true if !wanted.is_empty() => set(table, "published", Array::new().into()),
            true => {}
            false => update_outputs(table, "published", wanted, &answer.published),
        }
    }
    if let Some(wanted) = &expected.state {
        update_state(table, wanted, &answer.state);
    }
    if let Some(wanted) = &expected.metrics {
        update_metrics(table, wanted, &answer.metrics);
    }
    if expected.log.is_some() {
        let lines = log_lines(answer);
        if expected.log.as_ref() != Some(&lines) {
            set(table, "log", Value::from_iter(lines));
        }
    }
}

fn or_remove(table: &mut Entry, key: &str, value: Option<Value>) {
    match value {
        Some(value) => set(table, key, value),
        None => drop(table.remove(key)),
    }
}

/// State as it was found; a value that is as expected stays as it is written.
fn update_state(
    table: &mut Entry,
    expected: &BTreeMap<String, Content>,
    found: &BTreeMap<String, BytesJson>,
) {
    let as_expected = |key: &String, value: &BytesJson| {
        expected.get(key).is_some_and(|wanted| wanted.says(&value.0))
    };
    let values = found.iter().map(|(key, value)| {
        let as_json = expected.get(key).is_some_and(|wanted| wanted.as_json);
        (key, (!as_expected(key, value)).then(|| kept(value, as_json)))
    });
    update_values(table, "state-after", values);
}

/// Counts as they were found; one that is as expected stays as it is written, also a 0.
fn update_metrics(
    table: &mut Entry,
    expected: &BTreeMap<String, f64>,
    found: &BTreeMap<String, f64>,
) {
    let zeros = expected.iter().filter(|(_, wanted)| **wanted == 0.0).map(|(name, _)| name);
    let names: BTreeSet<&String> = found.keys().chain(zeros).collect();
    let values = names.into_iter().map(|name| {
        let found = count(found, name);
        (name, (expected.get(name) != Some(&found)).then(|| number(found)))
    });
    update_values(table, "metrics", values);
}

/// Makes the table under `name` hold these values, and no others; `None` leaves one as it is.
fn update_values<'a>(
    table: &mut Entry,
    name: &str,
    values: impl Iterator<Item = (&'a String, impl Into<Option<Value>>)>,
) {
    let inner: &mut Entry = match table.get_mut(name) {
        Some(Item::Table(inner)) => inner,
        Some(Item::Value(Value::InlineTable(inner))) => inner,
        _ => return,
    };
    let mut gone: BTreeSet<String> = inner.iter().map(|(key, _)| key.to_owned()).collect();
    edit(inner, |inner| {
        for (key, value) in values {
            gone.remove(key);
            if let Some(value) = value.into() {
                set(inner, key, value);
            }
        }
        gone.iter().for_each(|key| drop(inner.remove(key)));
    });
}

fn update_outputs(
    table: &mut Entry,
    name: &str,
    expected: &[ExpectedOutput],
    found: &[OutputJson],
) {
    if found.is_empty() {
        table.remove(name);
        return;
    }
    if table.get(name).is_none() {
        let inline = inline(found);
        // tables stand only in tables
        let is_inline = table.get("event").is_some_and(|event| event.as_inline_table().is_some());
        if is_inline && inline.to_string().len() <= LINE {
            table.insert(name, Item::Value(inline.into()));
        } else {
            table.insert(name, Item::ArrayOfTables(tables(found)));
        }
        return;
    }
    let Some(item) = table.get_mut(name) else { return };
    for (at, output) in found.iter().enumerate() {
        let wanted = expected.get(at);
        if wanted.is_some_and(|wanted| output_differences(wanted, output).is_empty()) {
            continue;
        }
        match entry(item, at) {
            Some(table) => rewrite(table, output),
            None => push(item, output),
        }
    }
    truncate(item, found.len());
}

/// Replaces the fields of an output, each in its place.
fn rewrite(table: &mut Entry, output: &OutputJson) {
    let as_json = table.contains_key("json") || table.contains_key("file");
    let fields = output_fields(output, as_json);
    let gone: Vec<String> = table
        .iter()
        .map(|(key, _)| key.to_owned())
        .filter(|key| !fields.iter().any(|(name, _)| name == key))
        .collect();
    edit(table, |table| {
        gone.iter().for_each(|key| drop(table.remove(key)));
        for (key, value) in fields {
            set(table, key, value);
        }
    });
}

/// Changes a table. The space before a closing brace, which is the last value's, stays there.
fn edit(table: &mut Entry, change: impl FnOnce(&mut Entry)) {
    let space = last(table).and_then(|last| {
        let space = last.decor().suffix()?.as_str().filter(|s| s.trim().is_empty())?.to_owned();
        last.decor_mut().set_suffix("");
        Some(space)
    });
    change(table);
    if let (Some(space), Some(last)) = (space, last(table))
        && last.decor().suffix().and_then(|suffix| suffix.as_str()).is_none_or(str::is_empty)
    {
        last.decor_mut().set_suffix(space);
    }
}

fn last(table: &mut Entry) -> Option<&mut Value> {
    table.iter_mut().last()?.1.as_value_mut()
}

fn inline(outputs: &[OutputJson]) -> Array {
    outputs.iter().map(|output| Value::from(inline_table(output))).collect()
}

fn inline_table(output: &OutputJson) -> InlineTable {
    output_fields(output, true).into_iter().collect()
}

fn table(output: &OutputJson) -> Table {
    let mut table = Table::new();
    for (key, value) in output_fields(output, true) {
        table.insert(key, Item::Value(value));
    }
    table
}

fn tables(outputs: &[OutputJson]) -> ArrayOfTables {
    let mut tables = ArrayOfTables::new();
    outputs.iter().for_each(|output| tables.push(table(output)));
    tables
}

fn push(item: &mut Item, output: &OutputJson) {
    match item {
        Item::ArrayOfTables(tables) => tables.push(table(output)),
        Item::Value(Value::Array(array)) => array.push(inline_table(output)),
        _ => {}
    }
}

fn truncate(item: &mut Item, len: usize) {
    match item {
        Item::ArrayOfTables(tables) => {
            while tables.len() > len {
                tables.remove(tables.len() - 1);
            }
        }
        Item::Value(Value::Array(array)) => {
            while array.len() > len {
                array.remove(array.len() - 1);
            }
        }
        _ => {}
    }
}

/// An element of an array in either form.
fn entry(item: &mut Item, at: usize) -> Option<&mut Entry> {
    match item {
        Item::ArrayOfTables(tables) => Some(tables.get_mut(at)?),
        Item::Value(Value::Array(array)) => Some(array.get_mut(at)?.as_inline_table_mut()?),
        _ => None,
    }
}
