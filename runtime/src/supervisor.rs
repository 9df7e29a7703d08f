//! Makes what runs equal to what lies in the plugins folder.
//!
//! The folder watch hands in snapshots of what is *wanted*; each plugin has one
//! task (see [`plugin`]) that compares the newest with what it runs and closes the
//! gap. So changes of one plugin happen one after the other, those of two plugins
//! side by side, and a change that is overtaken by the next is simply never made.

mod backoff;
mod candidate;
mod couriers;
mod groups;
mod plugin;
mod route;
mod running;
mod setback;
mod status;

use std::{collections::BTreeMap, panic::AssertUnwindSafe, sync::Arc};

use futures::FutureExt as _;
use parking_lot::Mutex;
use sandbar_core::{Connection, SourceError, SourceStats, StateStore};
use sandbar_pipeline::{self as pipeline, PipelineMetrics, SubscriptionStats};
use sandbar_wasm::Host;
use tokio::sync::{Semaphore, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::warn;

pub use self::status::{State, Status, Version};
use self::{
    couriers::Couriers,
    groups::Groups,
    plugin::{Counters, Plugin},
    route::Route,
};
use crate::{
    api::Counts,
    config::{Config, ROUTE},
    connections::Connections,
    plugin_file::PluginFile,
    side_store::SideStore,
    watch::Snapshot,
};

/// Runs the plugins.
pub struct Supervisor {
    shared: Arc<Shared>,
    /// As configured; they stay until the end.
    routes: Vec<PluginHandle>,
    tasks: TaskTracker,
    /// Finish what is in work, take in nothing new.
    drain: CancellationToken,
    /// Let go of what is in work.
    abort: CancellationToken,
}

/// Files that are read and compiled at once.
const LOADS: usize = 8;

/// What all plugins share.
struct Shared {
    config: Arc<Config>,
    connections: Arc<Connections>,
    host: Arc<Host>,
    /// Turns at reading and compiling files: each takes a thread and memory.
    loading: Arc<Semaphore>,
    groups: Groups,
    side_store: SideStore,
    couriers: Couriers,
    metrics: PipelineMetrics,
    members: Mutex<BTreeMap<String, Member>>,
}

struct Member {
    wanted: watch::Sender<Option<PluginFile>>,
    handle: PluginHandle,
}

impl Shared {
    /// Where a plugin or route tells how it is and counts, and a look at both.
    fn handle(&self, name: &str) -> (watch::Sender<Status>, Counters, PluginHandle) {
        let (told, status) = watch::channel(Status::new(name));
        let stats = self.metrics.subscription(name);
        let source = Arc::<SourceStats>::default();
        let counters = Counters { subscription: stats.clone(), source: source.clone() };
        (told, counters, PluginHandle { status, stats, source })
    }

    /// Forgets the plugin called `name` if its files are still gone. What it counted
    /// goes with it: metrics are of the plugins that there are.
    fn leave(&self, name: &str) -> bool {
        let mut members = self.members.lock();
        let is_gone = members.get(name).is_none_or(|member| member.wanted.borrow().is_none());
        if is_gone {
            members.remove(name);
            self.metrics.forget(name);
            self.host.stats().forget(name);
        }
        is_gone
    }
}

/// A look at one plugin.
#[derive(Clone)]
pub struct PluginHandle {
    status: watch::Receiver<Status>,
    stats: Arc<SubscriptionStats>,
    source: Arc<SourceStats>,
}

impl Supervisor {
    /// A supervisor of the configured routes and no plugin yet, whose counters are in `metrics`. To be made inside
    /// of an async runtime.
    pub fn new(
        config: Arc<Config>,
        connections: Arc<Connections>,
        host: Arc<Host>,
        metrics: PipelineMetrics,
    ) -> Self {
        let side_store = SideStore::new(config.marks.clone());
        let (groups, couriers, members) = Default::default();
        let shared = Shared {
            config,
            connections,
            host,
            loading: Arc::new(Semaphore::new(LOADS)),
            groups,
            side_store,
            couriers,
            metrics,
            members,
        };
        let shared = Arc::new(shared);
        let (tasks, drain, abort): (TaskTracker, CancellationToken, CancellationToken) =
            Default::default();
        for (_, connection) in shared.connections.iter() {
            let (shared, connection) = (shared.clone(), connection.clone());
            tasks.spawn(drain.clone().run_until_cancelled_owned(async move {
                shared.couriers.resume(&shared.config, &connection).await;
            }));
        }
        let mut routes = Vec::new();
        for route in &shared.config.routes {
            let name = &route.subscription.name;
            let (from_route, counters, handle) = shared.handle(name);
            let alarm = from_route.clone();
            let route = Route::new(route.clone(), shared.clone(), from_route, counters);
            let life = route.run(drain.clone(), abort.clone());
            tasks.spawn(guarded(life, alarm));
            routes.push(handle);
        }
        Self { shared, routes, tasks, drain, abort }
    }

    /// Makes `snapshot` what is wanted. Returns at once.
    pub fn apply(&self, snapshot: &Snapshot) {
        let mut members = self.shared.members.lock();
        if self.drain.is_cancelled() {
            return;
        }
        for (name, file) in snapshot {
            if name.starts_with(ROUTE) {
                warn!(
                    plugin = name,
                    "plugin refused: a name that begins with `{ROUTE}` is a route's"
                );
                continue;
            }
            let member = members.entry(name.clone()).or_insert_with(|| self.member(name));
            want(&member.wanted, Some(file));
        }
        members.retain(|name, member| {
            if snapshot.contains_key(name) {
                return true;
            }
            want(&member.wanted, None);
            // its task looks after the rest, unless it panicked
            !member.wanted.is_closed()
        });
    }

    fn member(&self, name: &str) -> Member {
        let (wanted, to_plugin) = watch::channel(None);
        let (from_plugin, counters, handle) = self.shared.handle(name);
        let alarm = from_plugin.clone();
        let plugin = Plugin::new(self.shared.clone(), to_plugin, from_plugin, counters);
        let life = plugin.run(self.drain.clone(), self.abort.clone());
        self.tasks.spawn(guarded(life, alarm));
        Member { wanted, handle }
    }

    /// All plugins by name, and the routes. One whose files are gone is among them until
    /// its subscription is closed.
    pub fn plugins(&self) -> Vec<PluginHandle> {
        let members = self.shared.members.lock();
        members.values().map(|m| &m.handle).chain(&self.routes).cloned().collect()
    }

    /// The plugin or route called `name`.
    pub fn plugin(&self, name: &str) -> Option<PluginHandle> {
        let member = self.shared.members.lock().get(name).map(|m| m.handle.clone());
        member.or_else(|| self.routes.iter().find(|r| r.stats.name() == name).cloned())
    }

    /// Where the state of subscriptions to `connection` is.
    ///
    /// # Errors
    /// Where its file cannot be opened.
    pub async fn state_of(
        &self,
        connection: &dyn Connection,
    ) -> Result<Arc<dyn StateStore>, SourceError> {
        self.shared.side_store.state_of(connection).await
    }

    /// What the couriers of delayed retries count, by connection.
    pub(crate) fn couriers(&self) -> Vec<(String, couriers::Counts)> {
        self.shared.couriers.counts()
    }

    /// Plugins that are neither loaded nor reported yet.
    pub fn loading(&self) -> Vec<String> {
        let statuses = self.plugins().into_iter().map(|p| p.status());
        statuses.filter(|s| s.state == State::Loading).map(|s| s.name).collect()
    }

    /// Takes in no more events, finishes those in work within the configured
    /// time, commits, and closes all sources (contract H5).
    pub async fn stop(&self) {
        {
            // no plugin is added after this
            let _members = self.shared.members.lock();
            self.drain.cancel();
        }
        self.tasks.close();
        self.tasks.wait().await;
        self.shared.couriers.stop().await;
        self.shared.side_store.close().await;
    }

    /// Whether it was told to stop.
    pub fn is_stopping(&self) -> bool {
        self.drain.is_cancelled()
    }

    /// What makes [`stop`](Self::stop) let go of what is in work: it stays
    /// uncommitted and is delivered again.
    pub fn abort_token(&self) -> CancellationToken {
        self.abort.clone()
    }
}

/// Makes it known if `life` panics.
async fn guarded(life: impl Future<Output = ()>, status: watch::Sender<Status>) {
    if AssertUnwindSafe(life).catch_unwind().await.is_err() {
        status.send_modify(Status::panicked);
    }
}

/// Only a change wakes the plugin's task.
fn want(wanted: &watch::Sender<Option<PluginFile>>, file: Option<&PluginFile>) {
    wanted.send_if_modified(|old| {
        let changed = old.as_ref() != file;
        if changed {
            *old = file.cloned();
        }
        changed
    });
}

impl PluginHandle {
    /// What is known of it now.
    pub fn status(&self) -> Status {
        let mut status = self.status.borrow().clone();
        if matches!(status.state, State::Running | State::Degraded) {
            // of an open subscription the pipeline knows more
            match self.stats.state() {
                (pipeline::State::Halted, reason) => {
                    (status.state, status.reason) = (State::Halted, reason);
                }
                (pipeline::State::Unavailable, reason) => {
                    (status.state, status.reason) = (State::Waiting, reason);
                }
                (pipeline::State::Paused, _) if status.reason.is_none() => {
                    let reason =
                        "paused: nothing works, or it asked for a pause; then one event is tried";
                    status.reason = Some(reason.into());
                }
                _ => {}
            }
        }
        status
    }

    /// What became of its events since the runtime started.
    pub fn counts(&self) -> Counts {
        let stats = &self.stats;
        Counts {
            received: stats.received.get(),
            handled: stats.handled.get(),
            skipped: stats.skipped.get(),
            retried: stats.retried.total(),
            dead_lettered: stats.dead_lettered.total(),
            dropped: stats.dropped.total(),
            duplicates: stats.dedup_hits.get(),
            released: stats.released.get(),
            published: stats.published.get(),
        }
    }

    /// Counters of its subscription, and what only its source can count.
    pub fn stats(&self) -> (&SubscriptionStats, &SourceStats) {
        (&self.stats, &self.source)
    }

    /// Events taken in and not settled.
    pub fn in_flight(&self) -> u64 {
        u64::try_from(self.stats.in_flight.get()).unwrap_or(0)
    }

    /// The topic and connection of its dead letters, where it has any.
    pub fn dead_letters(&self) -> Option<(String, String)> {
        let config = self.status.borrow().config.clone()?;
        let topic = running::dead_letters(&config)?.topic.to_string();
        Some((topic, config.dead_letter.connection.clone()))
    }
}
