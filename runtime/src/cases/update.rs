//! Writes what came of cases into their file, and leaves everything else as it stands there.

use toml_edit::{Array, ArrayOfTables, DocumentMut, InlineTable, Item, Table, TableLike, Value};

use super::{
    Answer, Case, Expected, Kind, OutputJson, Ran,
    compare::output_differences,
    write::{log_lines, output_fields, set},
};

/// A table in either form; without a lifetime, so that it can be lent again.
type Entry = dyn TableLike + 'static;

/// Longest line for outputs that are written into one.
const LINE: usize = 100;

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
            for key in ["event", "step", "verdict", "code", "message", "after", "output", "log"] {
                table.remove(key);
            }
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
    update_outputs(table, expected, &answer.outputs);
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

fn update_outputs(table: &mut Entry, expected: &Expected, found: &[OutputJson]) {
    if found.is_empty() {
        table.remove("output");
        return;
    }
    if table.get("output").is_none() {
        let inline = inline(found);
        // tables stand only in tables
        let is_inline = table.get("event").is_some_and(|event| event.as_inline_table().is_some());
        if is_inline && inline.to_string().len() <= LINE {
            table.insert("output", Item::Value(inline.into()));
        } else {
            table.insert("output", Item::ArrayOfTables(tables(found)));
        }
        return;
    }
    let Some(item) = table.get_mut("output") else { return };
    for (at, output) in found.iter().enumerate() {
        let wanted = expected.outputs.get(at);
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
    // the space before a closing brace is the last value's
    let space = suffix(table).filter(|suffix| suffix.trim().is_empty());
    let gone: Vec<String> = table
        .iter()
        .map(|(key, _)| key.to_owned())
        .filter(|key| !fields.iter().any(|(name, _)| name == key))
        .collect();
    gone.iter().for_each(|key| drop(table.remove(key)));
    for (key, value) in fields {
        set(table, key, value);
    }
    if let Some(space) = space
        && suffix(table).is_none_or(|suffix| suffix.is_empty())
        && let Some((_, Item::Value(last))) = table.iter_mut().last()
    {
        last.decor_mut().set_suffix(space);
    }
}

fn suffix(table: &Entry) -> Option<String> {
    let (_, last) = table.iter().last()?;
    Some(last.as_value()?.decor().suffix()?.as_str()?.to_owned())
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
