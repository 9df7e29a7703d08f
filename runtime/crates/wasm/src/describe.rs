//! What a plugin says of itself, believed only as far as it can be true.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use sandbar_core::HandlerError;
use serde::{Deserialize, Serialize};
use wasmtime::component::{Component, Linker};

use crate::{
    HostStats, LoadError, TracingLog,
    bindings::exports::sandbar::events::plugin,
    capability::{
        Grants,
        logging::{self, PluginLog},
        secrets::Secrets,
    },
    deadline::until,
    failure,
    instance::{arm, conclude, store},
    limits::{Budget, Limits, Meter},
    share::{Cores, Share},
    state::{Facts, State},
};

/// The interface by which a plugin describes itself.
pub(crate) const PLUGIN: &str = "sandbar:events/plugin";
/// Memory that a plugin may use while it describes itself.
const MEMORY: usize = 64 << 20;

/// Longest name of a plugin, a topic or a connection, in bytes; Kafka's own limit
/// for topics is 249.
const LONGEST_NAME: usize = 249;
/// Most entries of one list.
const MOST_ENTRIES: usize = 256;

/// What a plugin says of itself. The operator's configuration wins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    /// Name by its author; the runtime calls it by its file.
    pub name: String,
    /// Version by its author.
    pub version: String,
    /// One line for people.
    pub description: String,
    /// Where its events come from.
    pub subscriptions: Vec<DeclaredSubscription>,
    /// Topics it may publish to, exact or with `*`.
    pub publishes: Vec<String>,
    /// JSON Schema of its configuration.
    pub config_schema: Option<serde_json::Value>,
    /// `homepage`, `license`, `authors`, ...
    pub annotations: BTreeMap<String, String>,
}

/// A subscription that a plugin asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeclaredSubscription {
    /// `None`: the default connection.
    pub connection: Option<String>,
    /// Exact names, or globs with `*`.
    pub topics: Vec<String>,
    /// Suggested settings by the name they have in `NAME.toml`.
    pub options: BTreeMap<String, String>,
}

/// Asks a plugin what it is, in an instance of its own with every import trapping.
pub(crate) async fn describe(
    component: &Component,
    tick: Duration,
) -> Result<Description, LoadError> {
    let misfit = |e: wasmtime::Error| LoadError::Incompatible { reason: format!("{e:#}") };
    let failed = |e: HandlerError| {
        // how wasmtime words an import that it made to trap
        let called = e.message.strip_prefix("unknown import: `").and_then(|m| m.split_once('`'));
        let message = called.map(|(import, _)| format!("it called {import}"));
        LoadError::Describe { class: e.class, message: message.unwrap_or(e.message) }
    };

    let mut linker = Linker::new(component.engine());
    logging::add_panic_to_linker(&mut linker).map_err(misfit)?;
    linker.define_unknown_imports_as_traps(component).map_err(misfit)?;
    let pre = linker.instantiate_pre(component).map_err(misfit)?;
    let export = plugin::GuestIndices::new(&pre).map_err(misfit)?;

    let mut store = store(&pre, nobody(tick));
    let deadline = arm(&mut store, Budget::describe());
    let made = until(deadline, pre.instantiate_async(&mut store)).await;
    let instance = conclude(&mut store, made).map_err(|e| failed(failure::of_host(e)))?;
    let guest = export.load(&mut store, &instance).map_err(misfit)?;
    let deadline = arm(&mut store, Budget::describe());
    let said = until(deadline, guest.call_describe(&mut store)).await;
    let said = conclude(&mut store, said).map_err(|e| failed(failure::of_guest(e)))?;
    said.try_into()
}

/// A store's state without any power.
fn nobody(tick: Duration) -> State {
    let facts = Facts {
        name: String::new(),
        version: String::new(),
        connection: String::new(),
        config: BTreeMap::new(),
        grants: Grants::new(),
        limits: Limits::default(),
        state: None,
        publisher: None,
        secrets: Secrets::new(),
        redactor: Arc::default(),
        http: None,
        clock: None,
    };
    let stats = HostStats::default().plugin("");
    let log = PluginLog::new("", 0, Arc::new(TracingLog), stats, Arc::default());
    let meter = Meter::new(tick, MEMORY, Budget::describe());
    State::new(Arc::new(facts), log, meter, Share::new(Cores::default(), tick))
}

impl TryFrom<plugin::Metadata> for Description {
    type Error = LoadError;

    fn try_from(said: plugin::Metadata) -> Result<Self, LoadError> {
        name("name", &said.name)?;
        name("version", &said.version)?;
        count("subscriptions", said.subscriptions.len())?;
        names("publishes", &said.publishes)?;
        let subscriptions = said
            .subscriptions
            .into_iter()
            .enumerate()
            .map(|(at, subscription)| declared(at, subscription))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            subscriptions,
            config_schema: said.config_schema.as_deref().map(schema).transpose()?,
            annotations: map("annotations", said.annotations)?,
            name: said.name,
            version: said.version,
            description: said.description,
            publishes: said.publishes,
        })
    }
}

fn declared(at: usize, said: plugin::Subscription) -> Result<DeclaredSubscription, LoadError> {
    let field = |part: &str| format!("subscriptions[{at}].{part}");
    if let Some(connection) = &said.connection {
        name(&field("connection"), connection)?;
    }
    if said.topics.is_empty() {
        return Err(bad(&field("topics"), "it names no topic"));
    }
    names(&field("topics"), &said.topics)?;
    Ok(DeclaredSubscription {
        options: map(&field("options"), said.options)?,
        connection: said.connection,
        topics: said.topics,
    })
}

fn bad(field: &str, reason: impl Into<String>) -> LoadError {
    LoadError::Description { field: field.to_owned(), reason: reason.into() }
}

fn count(field: &str, entries: usize) -> Result<(), LoadError> {
    if entries > MOST_ENTRIES {
        return Err(bad(field, format!("{entries} entries, more than {MOST_ENTRIES}")));
    }
    Ok(())
}

fn names(field: &str, all: &[String]) -> Result<(), LoadError> {
    count(field, all.len())?;
    all.iter().enumerate().try_for_each(|(at, one)| name(&format!("{field}[{at}]"), one))
}

fn name(field: &str, name: &str) -> Result<(), LoadError> {
    if name.is_empty() {
        return Err(bad(field, "it is empty"));
    }
    if name.len() > LONGEST_NAME {
        return Err(bad(field, format!("{} bytes, more than {LONGEST_NAME}", name.len())));
    }
    match name.chars().find(|c| c.is_control() || c.is_whitespace()) {
        Some(c) => Err(bad(field, format!("{c:?} has no place in {name:?}"))),
        None => Ok(()),
    }
}

fn map(field: &str, pairs: Vec<(String, String)>) -> Result<BTreeMap<String, String>, LoadError> {
    count(field, pairs.len())?;
    let mut map = BTreeMap::new();
    for (key, value) in pairs {
        name(field, &key)?;
        if map.contains_key(&key) {
            return Err(bad(field, format!("{key:?} is there twice")));
        }
        map.insert(key, value);
    }
    Ok(map)
}

fn schema(text: &str) -> Result<serde_json::Value, LoadError> {
    let value: serde_json::Value = serde_json::from_str(text)
        .map_err(|e| bad("config-schema", format!("it is no JSON: {e}")))?;
    if !value.is_object() && !value.is_boolean() {
        return Err(bad("config-schema", "a JSON Schema is an object"));
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata() -> plugin::Metadata {
        plugin::Metadata {
            name: "router".into(),
            version: "1.2.3".into(),
            description: "routes".into(),
            subscriptions: vec![plugin::Subscription {
                connection: None,
                topics: vec!["github.*".into()],
                options: vec![("ordering".into(), "key".into())],
            }],
            publishes: vec!["out".into()],
            config_schema: Some("{}".into()),
            annotations: Vec::new(),
        }
    }

    #[test]
    fn a_true_description_is_taken_over() {
        let description = Description::try_from(metadata()).unwrap();
        assert_eq!(description.subscriptions[0].topics, ["github.*"]);
        assert_eq!(description.subscriptions[0].options["ordering"], "key");
        assert_eq!(description.config_schema, Some(serde_json::json!({})));
    }

    #[test]
    fn what_cannot_be_true_is_refused_by_field() {
        let refused = |change: fn(&mut plugin::Metadata)| {
            let mut said = metadata();
            change(&mut said);
            Description::try_from(said).unwrap_err().to_string()
        };
        let messages = [
            refused(|m| m.name.clear()),
            refused(|m| m.version = "1 2".into()),
            refused(|m| m.subscriptions[0].topics.clear()),
            refused(|m| m.subscriptions[0].topics.push("a\nb".into())),
            refused(|m| m.subscriptions[0].options.push(("ordering".into(), "none".into()))),
            refused(|m| m.publishes = vec!["t".repeat(250)]),
            refused(|m| m.publishes = vec!["t".into(); 257]),
            refused(|m| m.config_schema = Some("{".into())),
            refused(|m| m.config_schema = Some("1".into())),
        ];
        insta::assert_snapshot!(messages.join("\n"), @r#"
        describe returned a bad name: it is empty
        describe returned a bad version: ' ' has no place in "1 2"
        describe returned a bad subscriptions[0].topics: it names no topic
        describe returned a bad subscriptions[0].topics[1]: '\n' has no place in "a\nb"
        describe returned a bad subscriptions[0].options: "ordering" is there twice
        describe returned a bad publishes[0]: 250 bytes, more than 249
        describe returned a bad publishes: 257 entries, more than 256
        describe returned a bad config-schema: it is no JSON: EOF while parsing an object at line 1 column 1
        describe returned a bad config-schema: a JSON Schema is an object
        "#);
    }
}
