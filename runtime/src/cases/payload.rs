//! Values of a case file that are more than one TOML type: payloads, headers, times.

use std::{fmt, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use bytes::Bytes;
use sandbar_core::Header;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, de};
use serde_json::Value;

use crate::event_json::BytesJson;

/// JSON: a value of TOML, or its text in a string.
#[derive(Debug, Clone, PartialEq)]
pub struct JsonText(pub String);

/// Bytes in base64.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Base64(pub Vec<u8>);

/// Headers: a table, or pairs where names repeat or their order counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Headers(pub Vec<Header>);

/// A value of state: text, a whole number as its digits, `{ json = .. }` or `{ base64 = ".." }`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValueText {
    /// As it is stored.
    pub bytes: Bytes,
    /// Whether it is compared as JSON.
    pub as_json: bool,
}

/// A moment: a TOML date and time, or the same as text; UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment(pub Duration);

impl<'de> Deserialize<'de> for JsonText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match toml::Value::deserialize(deserializer)? {
            toml::Value::String(text) => match serde_json::from_str::<Value>(&text) {
                Ok(_) => Ok(Self(text)),
                Err(e) => Err(de::Error::custom(format!(
                    "no JSON: {e}; a string is JSON text here, so write `text` for plain text, and \
                     a JSON string with its quotes"
                ))),
            },
            value => json(value).map(|value| Self(value.to_string())).map_err(de::Error::custom),
        }
    }
}

fn json(value: toml::Value) -> Result<Value, String> {
    Ok(match value {
        toml::Value::String(text) => text.into(),
        toml::Value::Integer(number) => number.into(),
        toml::Value::Float(number) => serde_json::Number::from_f64(number)
            .map(Value::Number)
            .ok_or_else(|| format!("JSON has no number {number}"))?,
        toml::Value::Boolean(truth) => truth.into(),
        toml::Value::Datetime(time) => {
            return Err(format!("JSON has no time {time}: put it in quotes"));
        }
        toml::Value::Array(items) => items.into_iter().map(json).collect::<Result<_, _>>()?,
        toml::Value::Table(fields) => {
            let field = |(name, value)| Ok((name, json(value)?));
            Value::Object(fields.into_iter().map(field).collect::<Result<_, String>>()?)
        }
    })
}

impl<'de> Deserialize<'de> for Base64 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let lines: String = text.split_whitespace().collect();
        let bytes = BASE64.decode(lines);
        bytes.map(Self).map_err(|e| de::Error::custom(format!("no valid base64: {e}")))
    }
}

impl<'de> Deserialize<'de> for Headers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Headers;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table of headers, or an array of [name, value]")
            }
            fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Headers, A::Error> {
                let mut headers = Vec::new();
                while let Some((name, value)) = map.next_entry::<String, BytesJson>()? {
                    headers.push(Header::new(name, value.0));
                }
                Ok(Headers(headers))
            }
            fn visit_seq<A: de::SeqAccess<'de>>(self, mut pairs: A) -> Result<Headers, A::Error> {
                let mut headers = Vec::new();
                while let Some(NameAndValue(header)) = pairs.next_element()? {
                    headers.push(header);
                }
                Ok(Headers(headers))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// `[name, value]`, or `[name]` for a header whose value is null.
struct NameAndValue(Header);

impl<'de> Deserialize<'de> for NameAndValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = NameAndValue;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("[name, value], or [name] for a null value")
            }
            fn visit_seq<A: de::SeqAccess<'de>>(
                self,
                mut pair: A,
            ) -> Result<NameAndValue, A::Error> {
                let Some(name) = pair.next_element::<String>()? else {
                    return Err(de::Error::invalid_length(0, &self));
                };
                let value = pair.next_element::<BytesJson>()?.map(|value| value.0);
                Ok(NameAndValue(Header { name: name.into(), value }))
            }
        }
        deserializer.deserialize_seq(Visitor)
    }
}

impl<'de> Deserialize<'de> for ValueText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "kebab-case", deny_unknown_fields)]
        enum Form {
            Json(JsonText),
            Base64(Base64),
        }
        const FORMS: &str = "a value of state is text, a whole number, { json = .. } or \
                             { base64 = \"..\" }";
        let value = toml::Value::deserialize(deserializer)?;
        let (bytes, as_json) = match value {
            toml::Value::String(text) => (text.into(), false),
            toml::Value::Integer(number) => (number.to_string().into(), false),
            value @ toml::Value::Table(_) => match Form::deserialize(value) {
                Ok(Form::Json(JsonText(text))) => (text.into(), true),
                Ok(Form::Base64(Base64(bytes))) => (bytes.into(), false),
                Err(e) => return Err(de::Error::custom(format!("{FORMS}: {}", e.message()))),
            },
            _ => return Err(de::Error::custom(FORMS)),
        };
        Ok(Self { bytes, as_json })
    }
}

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = match toml::Value::deserialize(deserializer)? {
            toml::Value::Datetime(time) => time.to_string(),
            toml::Value::String(text) => text,
            _ => String::new(),
        };
        let since_epoch = humantime::parse_rfc3339_weak(&text)
            .ok()
            .and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
        since_epoch.map(Self).ok_or_else(|| {
            de::Error::custom(format!(
                "`{text}` is no time in UTC from 1970 on, such as 2026-01-31T12:00:00Z"
            ))
        })
    }
}

macro_rules! schema {
    ($($type:ident => $schema:tt),* $(,)?) => {$(
        impl JsonSchema for $type {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($type).into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!($schema)
            }
        }
    )*};
}

schema! {
    JsonText => { "description": "Any value, or JSON text in a string." },
    Base64 => { "type": "string" },
    Headers => { "type": ["object", "array"], "description": "A table, or an array of [name, value]." },
    ValueText => {
        "type": ["string", "integer", "object"],
        "description": "Text, a whole number as its digits, { json = .. } or { base64 = \"..\" }."
    },
    Moment => { "type": "string", "format": "date-time" },
}
