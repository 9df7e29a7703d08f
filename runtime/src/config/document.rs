//! From TOML text to settings, with the place of every mistake.

use std::collections::BTreeMap;

use serde::{Deserialize, de::DeserializeOwned};
use toml::{
    Spanned,
    de::{DeTable, DeValue, Deserializer, ValueDeserializer},
};

use super::{
    env::{Lookup, interpolate},
    error::{ConfigError, Text, suggestion},
    settings::{
        ConnectionSettings, FileSettings, KafkaSettings, LogSettings, NatsSettings, PluginSettings,
        RabbitMqSettings, SqsSettings,
    },
};

/// Types of connections.
const TYPES: [&str; 5] = ["log", "kafka", "nats", "rabbitmq", "sqs"];

/// Reads `sandbar.toml`.
///
/// # Errors
/// The first mistake found.
pub fn file(text: &Text, lookup: &Lookup<'_>) -> Result<FileSettings, ConfigError> {
    let mut document = parse(text, lookup)?;
    // taken out because serde loses all places inside a tagged enum
    let connections = document.get_mut().remove("connections");
    let mut settings: FileSettings = typed(text, document)?;
    if let Some(connections) = connections {
        settings.connections = connections_of(text, connections)?;
    }
    Ok(settings)
}

/// Reads `NAME.toml`.
///
/// # Errors
/// The first mistake found.
pub fn plugin(text: &Text, lookup: &Lookup<'_>) -> Result<PluginSettings, ConfigError> {
    typed(text, parse(text, lookup)?)
}

/// Reads settings in which `${` means nothing.
///
/// # Errors
/// The first mistake found.
pub fn literal<T: DeserializeOwned>(text: &Text) -> Result<T, ConfigError> {
    typed(text, parse_literal(text)?)
}

fn parse<'t>(text: &'t Text, lookup: &Lookup<'_>) -> Result<Spanned<DeTable<'t>>, ConfigError> {
    let mut document = parse_literal(text)?;
    for (_, value) in document.get_mut().iter_mut() {
        complete(text, value, lookup)?;
    }
    Ok(document)
}

fn parse_literal(text: &Text) -> Result<Spanned<DeTable<'_>>, ConfigError> {
    DeTable::parse(text.as_str()).map_err(|e| {
        let message = e.message().trim().replace('\n', ", ");
        text.error(e.span().unwrap_or(0..0), format!("not valid TOML: {message}"), "here")
    })
}

fn typed<T: DeserializeOwned>(text: &Text, table: Spanned<DeTable<'_>>) -> Result<T, ConfigError> {
    T::deserialize(Deserializer::from(table)).map_err(|e| explain(text, &e))
}

/// The cargo feature that brings this type of connection, where the build is without it.
fn missing_feature(kind: &str) -> Option<&'static str> {
    match kind {
        "nats" if !cfg!(feature = "nats") => Some("nats"),
        "rabbitmq" if !cfg!(feature = "rabbitmq") => Some("rabbitmq"),
        "sqs" if !cfg!(feature = "sqs") => Some("sqs"),
        _ => None,
    }
}

fn connections_of(
    text: &Text,
    value: Spanned<DeValue<'_>>,
) -> Result<BTreeMap<String, ConnectionSettings>, ConfigError> {
    let span = value.span();
    let DeValue::Table(table) = value.into_inner() else {
        return Err(text.error(span, "`connections` must be a table", "not a table"));
    };
    table
        .into_iter()
        .map(|(name, value)| Ok((name.get_ref().to_string(), connection(text, &name, value)?)))
        .collect()
}

fn connection<'t>(
    text: &Text,
    name: &Spanned<std::borrow::Cow<'t, str>>,
    mut value: Spanned<DeValue<'t>>,
) -> Result<ConnectionSettings, ConfigError> {
    let kind = match value.get_mut() {
        DeValue::Table(table) => table.remove("type"),
        _ => None,
    };
    let Some(kind) = kind else {
        let message = format!("connection `{}` has no type", name.get_ref());
        return Err(text
            .error(name.span(), message, "this connection")
            .with_help(format!("add `type = \"TYPE\"`, one of `{}`", TYPES.join("`, `"))));
    };
    let found = kind.get_ref().as_str().unwrap_or_default();
    if let Some(feature) = missing_feature(found) {
        return Err(text
            .error(
                kind.span(),
                format!("connection type `{found}` is not in this build"),
                "needed here",
            )
            .with_help(format!("build sandbar with the cargo feature `{feature}`")));
    }
    let value = ValueDeserializer::from(value);
    let read = match found {
        "log" => LogSettings::deserialize(value).map(ConnectionSettings::Log),
        "kafka" => KafkaSettings::deserialize(value).map(ConnectionSettings::Kafka),
        "nats" => NatsSettings::deserialize(value).map(ConnectionSettings::Nats),
        "rabbitmq" => RabbitMqSettings::deserialize(value).map(ConnectionSettings::RabbitMq),
        "sqs" => SqsSettings::deserialize(value).map(ConnectionSettings::Sqs),
        other => {
            return Err(text
                .error(kind.span(), format!("unknown connection type `{other}`"), "not a type")
                .with_help(suggestion(other, TYPES)));
        }
    };
    read.map_err(|e| match e.message().strip_prefix("missing field ") {
        // the error's own place is the whole table
        Some(field) => text
            .error(
                name.span(),
                format!("connection `{}` has no {field}", name.get_ref()),
                "this connection",
            )
            .with_help(format!("add the key {field}")),
        None => explain(text, &e),
    })
}

/// Puts variables into every string below `value`.
fn complete(
    text: &Text,
    value: &mut Spanned<DeValue<'_>>,
    lookup: &Lookup<'_>,
) -> Result<(), ConfigError> {
    let span = value.span();
    match value.get_mut() {
        DeValue::String(string) => match interpolate(string, lookup) {
            Ok(None) => {}
            Ok(Some(done)) => *string = done.into(),
            Err(e) => {
                let written = text.as_str().get(span.clone()).unwrap_or_default();
                let narrow = written.find(&e.part).map(|at| {
                    let start = span.start + at;
                    start..start + e.part.len()
                });
                return Err(text
                    .error(narrow.unwrap_or(span), e.message, "needed here")
                    .with_help(e.help));
            }
        },
        DeValue::Array(array) => {
            for item in array.iter_mut() {
                complete(text, item, lookup)?;
            }
        }
        DeValue::Table(table) => {
            for (_, item) in table.iter_mut() {
                complete(text, item, lookup)?;
            }
        }
        _ => {}
    }
    Ok(())
}

/// Says what serde or the parser found in words of the file's author.
fn explain(text: &Text, error: &toml::de::Error) -> ConfigError {
    let message = error.message();
    let span = error.span().unwrap_or(0..0);
    let names = quoted(message);
    if let Some((unknown, known)) = names.split_first() {
        if message.starts_with("unknown field") {
            return text
                .error(span, format!("unknown key `{unknown}`"), "not a key of this table")
                .with_help(suggestion(unknown, known.iter().copied()));
        }
        if message.starts_with("unknown variant") {
            return text
                .error(span, format!("unknown value `{unknown}`"), "not one of the values")
                .with_help(suggestion(unknown, known.iter().copied()));
        }
    }
    if let Some((found, expected)) =
        message.strip_prefix("invalid type: ").and_then(|m| m.rsplit_once(", expected "))
    {
        // the text is in the excerpt; what a variable put in must not be shown
        let found = if found.starts_with("string ") { "a string" } else { found };
        let label = format!("expected {}", plain(expected));
        return text.error(span, format!("wrong type: {label}, found {found}"), label);
    }
    if let Some((found, expected)) =
        message.strip_prefix("invalid value: ").and_then(|m| m.rsplit_once(", expected "))
    {
        let label = format!("expected {}", plain(expected));
        return text.error(span, format!("out of range: {label}, found {found}"), label);
    }
    text.error(span, message, "here")
}

/// Rust's names of types in words of the file's author.
fn plain(expected: &str) -> String {
    match expected {
        e if e.starts_with("a nonzero") => "a whole number of 1 or more".to_owned(),
        "u8" | "u16" | "u32" | "u64" | "usize" | "i64" => "a whole number".to_owned(),
        "f64" => "a number".to_owned(),
        "path string" => "a path".to_owned(),
        "a sequence" => "an array".to_owned(),
        e if e.starts_with("struct ") || e == "a map" => "a table".to_owned(),
        e => e.to_owned(),
    }
}

/// What stands between backticks, in order.
fn quoted(message: &str) -> Vec<&str> {
    message.split('`').skip(1).step_by(2).collect()
}
