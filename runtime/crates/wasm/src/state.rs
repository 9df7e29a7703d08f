//! What one instance has on the host's side: the data of its wasmtime store.

use std::{collections::BTreeMap, fmt, sync::Arc};

use sandbar_core::{Call, Publisher, StateChanges};
use tokio::time::Instant;

use crate::{
    ManualClock,
    capability::{
        Grants,
        http::{Gateway, Http},
        logging::PluginLog,
        publisher::Published,
        secrets::{Redactor, Secrets},
        state::{Overlay, StateAccess},
        wasi::Wasi,
    },
    concurrent::Tasks,
    convert::Used,
    foreign::Outbox,
    limits::{Limits, Meter},
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
    pub(crate) limits: Limits,
    pub(crate) secrets: Secrets,
    /// Hides the secrets, wherever the plugin says them.
    pub(crate) redactor: Arc<Redactor>,
    /// The way of its requests, where it may send any.
    pub(crate) http: Option<Gateway>,
    /// Where it keeps its state, if it was granted and imports that.
    pub(crate) state: Option<StateAccess>,
    /// By whom it publishes at once, if it was granted and imports that.
    pub(crate) publisher: Option<Direct>,
    /// Instead of the system's clocks.
    pub(crate) clock: Option<ManualClock>,
}

impl Facts {
    /// Whether what it does to the world belongs to the event that is handled, and so
    /// each event needs a call of its own.
    pub(crate) fn one_at_a_time(&self) -> bool {
        self.state.is_some() || self.publisher.is_some()
    }
}

/// A publisher.
pub(crate) struct Direct(pub(crate) Arc<dyn Publisher>);

impl fmt::Debug for Direct {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Direct")
    }
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
    /// What the call in progress has written.
    pub(crate) overlay: Overlay,
    /// What the call in progress has published.
    pub(crate) published: Published,
    /// What a foreign component publishes in the call in progress.
    pub(crate) outbox: Outbox,
    /// The calls in progress, where there are many at a time.
    pub(crate) tasks: Tasks,
    pub(crate) http: Http,
}

impl State {
    pub(crate) fn new(facts: Arc<Facts>, log: Arc<PluginLog>, meter: Meter, share: Share) -> Self {
        let http = Http::new(facts.http.clone());
        Self {
            facts,
            log,
            meter,
            share,
            deadline: Instant::now(),
            panic: None,
            wasi: Wasi::new(),
            http,
            overlay: Overlay::default(),
            published: Published::default(),
            outbox: Outbox::default(),
            tasks: Tasks::default(),
        }
    }

    /// From here on what the guest does is on behalf of the first of `calls`, which is
    /// the only one where that matters.
    pub(crate) fn begin(&mut self, calls: &[&Call]) {
        if self.facts.state.is_some() {
            self.overlay.reset();
        }
        if self.facts.publisher.is_some() {
            let event = calls.first().map(|call| call.event.clone());
            self.published = Published { event, used: Used::default() };
        }
    }

    /// What the call that is through has changed and published; nothing of it stays.
    pub(crate) fn end(&mut self) -> (Option<Box<StateChanges>>, Used) {
        let changes = match &self.facts.state {
            Some(access) => self.overlay.take(access),
            None => None,
        };
        (changes, std::mem::take(&mut self.published).used)
    }
}
