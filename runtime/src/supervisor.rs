//! Makes what runs equal to what lies in the plugins folder.
//!
//! The folder watch hands in snapshots of what is *wanted*; each plugin has one
//! task (see [`plugin`]) that compares the newest with what it runs and closes the
//! gap. So changes of one plugin happen one after the other, those of two plugins
//! side by side, and a change that is overtaken by the next is simply never made.

mod backoff;
mod candidate;
mod groups;
mod plugin;
mod running;
mod setback;
mod status;

use std::{collections::BTreeMap, panic::AssertUnwindSafe, sync::Arc};

use futures::FutureExt as _;
use parking_lot::Mutex;
use sandbar_pipeline::{self as pipeline, PipelineMetrics, SubscriptionStats};
use sandbar_wasm::Host;
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use self::status::{State, Status, Version};
use self::{groups::Groups, plugin::Plugin};
use crate::{
    api::Counts, config::Config, connections::Connections, plugin_file::PluginFile, watch::Snapshot,
};

/// Runs the plugins.
pub struct Supervisor {
    shared: Arc<Shared>,
    metrics: PipelineMetrics,
    members: Mutex<BTreeMap<String, Member>>,
    tasks: TaskTracker,
    /// Finish what is in work, take in nothing new.
    drain: CancellationToken,
    /// Let go of what is in work.
    abort: CancellationToken,
}

/// What all plugins share.
struct Shared {
    config: Arc<Config>,
    connections: Arc<Connections>,
    host: Arc<Host>,
    groups: Groups,
}

struct Member {
    wanted: watch::Sender<Option<PluginFile>>,
    handle: PluginHandle,
}

/// A look at one plugin.
#[derive(Clone)]
pub struct PluginHandle {
    status: watch::Receiver<Status>,
    stats: Arc<SubscriptionStats>,
}

impl Supervisor {
    /// A supervisor without plugins, whose counters are in `metrics`.
    pub fn new(
        config: Arc<Config>,
        connections: Arc<Connections>,
        host: Arc<Host>,
        metrics: PipelineMetrics,
    ) -> Self {
        let groups = Groups::default();
        let shared = Arc::new(Shared { config, connections, host, groups });
        let (members, tasks, drain, abort) = Default::default();
        Self { shared, metrics, members, tasks, drain, abort }
    }

    /// Makes `snapshot` what is wanted. Returns at once.
    pub fn apply(&self, snapshot: &Snapshot) {
        let mut members = self.members.lock();
        if self.drain.is_cancelled() {
            return;
        }
        for (name, file) in snapshot {
            let member = members.entry(name.clone()).or_insert_with(|| self.member(name));
            want(&member.wanted, Some(file));
        }
        for (name, member) in members.iter() {
            if !snapshot.contains_key(name) {
                want(&member.wanted, None);
            }
        }
    }

    fn member(&self, name: &str) -> Member {
        let (wanted, to_plugin) = watch::channel(None);
        let (from_plugin, status) = watch::channel(Status::new(name));
        let stats = self.metrics.subscription(name);
        let alarm = from_plugin.clone();
        let plugin = Plugin::new(self.shared.clone(), to_plugin, from_plugin, stats.clone());
        let life = plugin.run(self.drain.clone(), self.abort.clone());
        self.tasks.spawn(async move {
            if AssertUnwindSafe(life).catch_unwind().await.is_err() {
                alarm.send_modify(Status::panicked);
            }
        });
        Member { wanted, handle: PluginHandle { status, stats } }
    }

    /// All plugins by name, those included that are gone.
    pub fn plugins(&self) -> Vec<PluginHandle> {
        self.members.lock().values().map(|m| m.handle.clone()).collect()
    }

    /// The plugin called `name`.
    pub fn plugin(&self, name: &str) -> Option<PluginHandle> {
        self.members.lock().get(name).map(|m| m.handle.clone())
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
            let _members = self.members.lock();
            self.drain.cancel();
        }
        self.tasks.close();
        self.tasks.wait().await;
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
                    status.reason = Some("paused, as the plugin asked".into());
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
            released: stats.released.get(),
            published: stats.published.get(),
        }
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
