//! Stand-ins for the imports, so that handlers run in unit tests.

use std::time::Duration;

use crate::testing::{config, context};

pub(crate) fn config_get(key: &str) -> Result<Option<String>, String> {
    Ok(config(|values| values.get(key).cloned()))
}

pub(crate) fn config_all() -> Result<Vec<(String, String)>, String> {
    Ok(config(|values| values.iter().map(|(k, v)| (k.clone(), v.clone())).collect()))
}

pub(crate) fn plugin_name() -> String {
    context(|c| c.plugin_name.clone())
}

pub(crate) fn plugin_version() -> String {
    context(|c| c.plugin_version.clone())
}

pub(crate) fn connection() -> String {
    context(|c| c.connection.clone())
}

pub(crate) fn remaining() -> Duration {
    context(|c| c.remaining)
}
