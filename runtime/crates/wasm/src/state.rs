//! What one instance has on the host's side: the data of its wasmtime store.

use std::{collections::BTreeMap, sync::Arc};

use tokio::time::Instant;

use crate::{
    capability::{Grants, logging::PluginLog, wasi::Wasi},
    limits::Meter,
    share::Share,
};

/// Facts of a plugin that do not change while it serves.
#[derive(Debug)]
pub(crate) struct Facts {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) connection: String,
    pub(crate) config: BTreeMap<String, String>,
    pub(crate) grants: Grants,
}

/// Every power of one instance, in one plain struct.
pub(crate) struct State {
    pub(crate) facts: Arc<Facts>,
    pub(crate) log: Arc<PluginLog>,
    pub(crate) meter: Meter,
    pub(crate) share: Share,
    /// When the host interrupts the call in progress.
    pub(crate) deadline: Instant,
    /// Text of the last panic, for the trap that follows it.
    pub(crate) panic: Option<String>,
    pub(crate) wasi: Wasi,
}

impl State {
    pub(crate) fn new(facts: Arc<Facts>, log: Arc<PluginLog>, meter: Meter, share: Share) -> Self {
        Self { facts, log, meter, share, deadline: Instant::now(), panic: None, wasi: Wasi::new() }
    }
}
