//! What a dead letter is to an expression.

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;
use cel::{
    Value,
    objects::{Key, Map},
};

use super::Letter;

/// The value of one of [`VARIABLES`](super::expression::VARIABLES).
pub(super) fn variable(name: &str, letter: &Letter, now_ms: u64) -> Value {
    let Letter { event, says } = letter;
    let text = |text: &str| Value::String(Arc::new(text.to_owned()));
    let whole = |number: u64| i64::try_from(number).map_or(Value::UInt(number), Value::Int);
    match name {
        "plugin" => text(&says.plugin),
        "version" => says.plugin_version.as_deref().map_or(Value::Null, text),
        "class" => text(&says.error_class),
        "code" => text(&says.error_code),
        "message" => text(&says.message),
        "topic" => text(&says.topic),
        "partition" => whole(says.partition.into()),
        "offset" => whole(says.offset),
        "attempts" => whole(says.attempts.into()),
        "redrives" => whole(says.redrives.into()),
        "age_seconds" => whole(now_ms.saturating_sub(event.timestamp_ms) / 1000),
        "key" => bytes(event.key.as_ref()),
        "headers" => {
            let headers = event.headers.iter();
            map(headers.map(|h| (h.name.to_string(), bytes(h.value.as_ref()))))
        }
        "payload" => match event.payload.as_deref().map(serde_json::from_slice) {
            Some(Ok(payload)) => json(payload),
            Some(Err(_)) | None => bytes(event.payload.as_ref()),
        },
        // the expression was checked to name no other
        _ => Value::Null,
    }
}

/// Text where it is some, so that it can be compared with a literal.
fn bytes(value: Option<&Bytes>) -> Value {
    let Some(value) = value else { return Value::Null };
    match std::str::from_utf8(value) {
        Ok(text) => Value::String(Arc::new(text.to_owned())),
        Err(_) => Value::Bytes(Arc::new(value.to_vec())),
    }
}

fn map(entries: impl Iterator<Item = (String, Value)>) -> Value {
    let entries = entries.map(|(name, value)| (Key::String(Arc::new(name)), value));
    Value::Map(Map { map: Arc::new(entries.collect::<HashMap<_, _>>()) })
}

fn json(value: serde_json::Value) -> Value {
    match value {
        serde_json::Value::Null => Value::Null,
        serde_json::Value::Bool(b) => Value::Bool(b),
        // a literal such as 100 is signed: a whole number should be, too
        serde_json::Value::Number(n) => match (n.as_i64(), n.as_u64()) {
            (Some(n), _) => Value::Int(n),
            (None, Some(n)) => Value::UInt(n),
            (None, None) => n.as_f64().map_or(Value::Null, Value::Float),
        },
        serde_json::Value::String(text) => Value::String(Arc::new(text)),
        serde_json::Value::Array(items) => {
            Value::List(Arc::new(items.into_iter().map(json).collect()))
        }
        serde_json::Value::Object(fields) => {
            map(fields.into_iter().map(|(name, value)| (name, json(value))))
        }
    }
}
