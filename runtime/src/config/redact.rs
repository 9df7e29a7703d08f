//! Secrets are never shown: not in errors, logs, dumps or answers.

use std::collections::BTreeMap;

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
