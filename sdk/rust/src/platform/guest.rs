//! The plugin's side of the Wasm boundary.

mod bindings;
mod convert;
mod export;
mod logging;
mod publisher;
mod state;

use std::time::Duration;

pub use bindings::{base, batch, single};
pub use export::Export;
pub(crate) use publisher::publish;
pub(crate) use state::*;

use base::{
    sandbar::events::context,
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
