//! The plugin's side of the Wasm boundary.

mod bindings;
mod convert;
mod export;
mod http;
mod logging;
mod publisher;
mod state;

use std::time::Duration;

pub use bindings::{base, batch, packed, single};
pub use export::{Export, PackedEach, PackedWhole};
pub(crate) use http::send;
pub(crate) use publisher::publish;
pub(crate) use state::*;

use base::{
    sandbar::events::{context, metrics, secrets},
    wasi::config::store::{self, Error},
};

pub(crate) fn config_get(key: &str) -> Result<Option<String>, String> {
    store::get(key).map_err(reason)
}

pub(crate) fn config_all() -> Result<Vec<(String, String)>, String> {
    store::get_all().map_err(reason)
}

fn reason(error: Error) -> String {
    match error {
        Error::Upstream(reason) | Error::Io(reason) => reason,
    }
}

pub(crate) fn plugin_name() -> String {
    context::plugin_name()
}

pub(crate) fn plugin_version() -> String {
    context::plugin_version()
}

pub(crate) fn connection() -> String {
    context::connection()
}

pub(crate) fn remaining() -> Duration {
    Duration::from_millis(context::remaining_ms())
}

pub(crate) fn secret(name: &str) -> Option<Vec<u8>> {
    secrets::get(name)
}

pub(crate) fn count(name: &str, delta: u64, labels: &[(&str, &str)]) {
    metrics::count(name, delta, &owned(labels));
}

pub(crate) fn observe(name: &str, value: f64, labels: &[(&str, &str)]) {
    metrics::observe(name, value, &owned(labels));
}

/// As the bindings want them.
fn owned(labels: &[(&str, &str)]) -> Vec<(String, String)> {
    labels.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect()
}
