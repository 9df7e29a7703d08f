//! Secrets are never shown: not in errors, logs, dumps or answers.

use std::{borrow::Cow, collections::BTreeMap, fmt};

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Deserialize;

/// What stands for a secret.
pub const HIDDEN: &str = "[redacted]";

/// Whether a value of this name is taken for a secret. Errs on the side of hiding.
pub fn is_secret(name: &str) -> bool {
    // `sasl.jaas.config` holds user and password in one line
    const MARKS: [&str; 7] =
        ["password", "passphrase", "secret", "token", "key", "credential", "jaas"];
    let name = name.to_lowercase();
    MARKS.iter().any(|mark| name.contains(mark))
}

/// The same map with its secrets replaced.
pub fn redacted(values: &BTreeMap<String, String>) -> BTreeMap<&str, &str> {
    values
        .iter()
        .map(|(name, value)| (name.as_str(), if is_secret(name) { HIDDEN } else { value.as_str() }))
        .collect()
}

/// A text that is never shown.
#[derive(Clone, PartialEq, Eq, Deserialize)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

impl JsonSchema for Secret {
    fn schema_name() -> Cow<'static, str> {
        String::schema_name()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        String::json_schema(generator)
    }
    fn inline_schema() -> bool {
        true
    }
}
