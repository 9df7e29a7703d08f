//! Plugins whose handler is an `async func`: many events at a time in one instance.
//!
//! One task owns the instance and lets its calls take turns ([`instance`]); whoever has an
//! event sends it there and waits for the outcome, for as long as the event may take. Guest
//! code cannot be stopped in one call alone. So where one must end, by its deadline or a trap
//! or because nobody waits for it any more, all of the instance ends: the event to blame
//! fails, and the others are handled again, each alone in an instance of its own, where
//! nothing but itself can fail it.

mod event;
mod instance;
mod pulse;
mod tasks;

use std::sync::Arc;

use futures::future::join_all;
use sandbar_core::{Call, HandlerError, Outcome};
use serde::Serialize;
use tokio::sync::{Mutex, Semaphore};
use wasmtime::{
    Store,
    component::{self, ComponentExportIndex, InstancePre, TypedFunc},
};

use self::event::Event;
pub(crate) use self::{
    instance::Handle,
    tasks::{Tasks, caller},
};
use crate::{
    Isolation,
    bindings::sandbar::events::types,
    failure,
    foreign::wasmcloud_async,
    instance::{Stillborn, Template},
    load::exports_interface,
    state::State,
};

const HANDLER: &str = "sandbar:events-async/handler";

/// An interface by which a component takes many events at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Concurrent {
    /// `sandbar:events-async/handler`.
    #[serde(rename = "async")]
    Events,
    /// `wasmcloud:messaging/handler@0.3.0`.
    #[serde(rename = "wasmcloud-messaging-async")]
    WasmcloudMessaging,
}

impl Concurrent {
    /// The one that `exports` show.
    pub(crate) fn among(exports: &[String]) -> Option<Self> {
        if exports_interface(exports, HANDLER) {
            return Some(Self::Events);
        }
        exports.iter().any(|e| e == wasmcloud_async::HANDLER).then_some(Self::WasmcloudMessaging)
    }

    /// Whether a component with an export of this name is one, in whatever version.
    pub(crate) fn shows_in(export: &str) -> bool {
        export.split('@').next() == Some(HANDLER) || export == wasmcloud_async::HANDLER
    }

    /// Package and version, as `inspect` shows them.
    pub(crate) fn api(self) -> &'static str {
        match self {
            Self::Events => "sandbar:events-async 0.1",
            Self::WasmcloudMessaging => "wasmcloud:messaging 0.3.0",
        }
    }
}

/// Where the export is in a component.
pub(crate) struct Indices {
    kind: Concurrent,
    function: ComponentExportIndex,
}

/// The export of one instance.
#[derive(Clone, Copy)]
pub(crate) enum Guest {
    Events(TypedFunc<(Event,), (Result<Vec<types::Outgoing>, types::Failure>,)>),
    WasmcloudMessaging(wasmcloud_async::Handler),
}

impl Indices {
    pub(crate) fn new(kind: Concurrent, pre: &InstancePre<State>) -> wasmtime::Result<Self> {
        let (interface, name) = match kind {
            Concurrent::Events => ("sandbar:events-async/handler@0.1.0", "handle"),
            Concurrent::WasmcloudMessaging => (wasmcloud_async::HANDLER, "handle-message"),
        };
        let component = pre.component();
        let instance = component.get_export_index(None, interface);
        instance
            .and_then(|instance| component.get_export_index(Some(&instance), name))
            .map(|function| Self { kind, function })
            .ok_or_else(|| wasmtime::Error::msg(format!("`{interface}` does not export `{name}`")))
    }

    fn load(
        &self,
        store: &mut Store<State>,
        instance: &component::Instance,
    ) -> wasmtime::Result<Guest> {
        Ok(match self.kind {
            Concurrent::Events => Guest::Events(instance.get_typed_func(store, self.function)?),
            Concurrent::WasmcloudMessaging => {
                Guest::WasmcloudMessaging(instance.get_typed_func(store, self.function)?)
            }
        })
    }
}

/// What takes the events of one generation.
pub(crate) struct Shared {
    template: Arc<Template<Indices>>,
    isolation: Isolation,
    at_once: usize,
    permits: Semaphore,
    /// The instance that new events go to.
    current: Mutex<Handle>,
}

impl Shared {
    pub(crate) fn new(
        template: Arc<Template<Indices>>,
        at_once: usize,
        isolation: Isolation,
        first: Handle,
    ) -> Self {
        let at_once = at_once.max(1);
        let (permits, current) = (Semaphore::new(at_once), Mutex::new(first));
        Self { template, isolation, at_once, permits, current }
    }

    /// One outcome per call, in order; none waits for another but to be told with it.
    pub(crate) async fn call(&self, calls: &[&Call]) -> Vec<Outcome> {
        join_all(calls.iter().map(|call| self.one(call))).await
    }

    async fn one(&self, call: &Call) -> Outcome {
        let closed = |_| failure::host("the plugin's instances are closed");
        let _permit = self.permits.acquire().await.map_err(closed)?;
        if self.isolation == Isolation::Warm
            && let Some(outcome) = self.together(call).await?
        {
            return outcome;
        }
        let alone = Handle::new(&self.template, 1).await.map_err(Stillborn::into_error)?;
        let outcome = match alone.begin(call).await {
            Some(attempt) => attempt.outcome().await,
            None => None,
        };
        outcome.unwrap_or_else(|| Err(failure::host("the instance ended without an outcome")))
    }

    /// Handles it beside others. `None`: it was not to blame for what ended the instance.
    async fn together(&self, call: &Call) -> Result<Option<Outcome>, HandlerError> {
        loop {
            let instance = self.instance().await.map_err(Stillborn::into_error)?;
            // one that takes no more since a moment ago has never begun it
            if let Some(attempt) = instance.begin(call).await {
                return Ok(attempt.outcome().await);
            }
        }
    }

    /// The instance that takes events now, or a new one.
    async fn instance(&self) -> Result<Handle, Stillborn> {
        let mut current = self.current.lock().await;
        if current.is_closed() {
            *current = Handle::new(&self.template, self.at_once).await?;
        }
        Ok(current.clone())
    }
}
