//! One plugin's life. Everything that happens to it happens in its own task, one
//! thing after the other:
//!
//! 1. *wait* until the folder shows something new, the subscription ends, or
//!    something that failed is due again;
//! 2. *take in* the newest files: read, compile, merge the configuration; then swap
//!    the new version in or, where the subscription itself changed, replace that;
//! 3. *open* the subscription if it should be running and is not.
//!
//! A step that fails leaves everything as it was and says why.

use std::{sync::Arc, time::Duration};

use sandbar_core::SourceStats;
use sandbar_pipeline::{self as pipeline, RunEnd, SubscriptionStats};
use sandbar_wasm::HandlerSlot;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{
    Shared, State, Status, Version,
    backoff::Backoff,
    candidate::{self, Candidate, Fingerprint},
    groups::Claim,
    running::{self, Running},
    setback::Setback,
};
use crate::{
    config::PluginConfig,
    plugin_file::{self, PluginFile},
};

pub(super) struct Plugin {
    name: String,
    shared: Arc<Shared>,
    wanted: watch::Receiver<Option<PluginFile>>,
    status: watch::Sender<Status>,
    counters: Counters,
    /// What was looked at last: the same is not looked at twice.
    seen: Option<Fingerprint>,
    /// What handles events, or would if its subscription were open.
    service: Option<Service>,
    running: Option<Running>,
    backoff: Backoff,
    /// Why it has no inbox, so that this is said once.
    no_inbox: Option<String>,
}

/// Where a plugin's subscriptions count, one after the other.
#[derive(Clone)]
pub(super) struct Counters {
    pub(super) subscription: Arc<SubscriptionStats>,
    pub(super) source: Arc<SourceStats>,
}

/// A loaded plugin.
struct Service {
    slot: Arc<HandlerSlot>,
    config: Arc<PluginConfig>,
    fingerprint: Fingerprint,
    /// Nobody else may have its cursor, even while it is not open.
    claim: Claim,
}

impl Plugin {
    pub(super) fn new(
        shared: Arc<Shared>,
        wanted: watch::Receiver<Option<PluginFile>>,
        status: watch::Sender<Status>,
        counters: Counters,
    ) -> Self {
        let name = counters.subscription.name().to_owned();
        let (seen, service, running, backoff, no_inbox) = Default::default();
        Self { name, shared, wanted, status, counters, seen, service, running, backoff, no_inbox }
    }

    /// Lives until its files are gone or until `drain`, then finishes what is in work;
    /// lets go of it on `abort`.
    pub(super) async fn run(mut self, drain: CancellationToken, abort: CancellationToken) {
        let live = async {
            loop {
                self.wait().await;
                // in a box: plugins mostly wait, and need no room for these steps meanwhile
                Box::pin(self.reconcile()).await;
                if self.service.is_none() && self.shared.leave(&self.name) {
                    break;
                }
            }
        };
        tokio::select! {
            biased;
            () = drain.cancelled() => {}
            () = live => {}
        }
        let let_go = async {
            abort.cancelled().await;
            Duration::ZERO
        };
        Box::pin(self.close(let_go)).await;
    }

    async fn wait(&mut self) {
        tokio::select! {
            biased;
            Ok(()) = self.wanted.changed() => self.backoff.reset(),
            end = running::ended(self.running.as_mut()) => self.subscription_ended(end),
            () = self.backoff.wait() => self.backoff.settled(),
        }
    }

    /// Nobody stopped it: whatever the reason, it is opened again.
    fn subscription_ended(&mut self, end: Result<RunEnd, String>) {
        let since = self.running.take().map(|r| r.since);
        self.backoff.failed(since);
        let reason = running::why(end);
        warn!(plugin = self.name, reason, "the subscription failed, it is opened again soon");
        self.is(State::Failed, Some(reason));
    }

    async fn reconcile(&mut self) {
        let wanted = self.wanted.borrow_and_update().clone();
        let Some(file) = wanted else { return self.remove().await };
        let is_due = self.backoff.is_due();
        if let Err(setback) = self.take_in(&file).await {
            self.set_back(setback);
        }
        if self.running.is_none() && is_due {
            self.open().await;
        }
    }

    /// Makes the files what serves. Nothing changes unless all of it works.
    async fn take_in(&mut self, file: &PluginFile) -> Result<(), Setback> {
        self.status.send_modify(|s| s.found(&file.wasm));
        if !plugin_file::is_valid_name(&self.name) {
            return Err(Setback::bad_name(&self.name));
        }
        // never closed; were it, the file would merely be read at once
        let turn = self.shared.loading.clone().acquire_owned().await.ok();
        let found = candidate::read(file.clone()).await?;
        if self.seen.as_ref() == Some(&found.fingerprint) {
            return Ok(());
        }
        // what may work later forgets this again
        self.seen = Some(found.fingerprint.clone());
        let serving = self.service.as_ref().map(|s| &s.fingerprint);
        if serving == Some(&found.fingerprint) {
            info!(plugin = self.name, "the files are again those that are serving");
            self.status.send_modify(Status::accepted);
            return Ok(());
        }
        match Candidate::load(&self.shared, &self.name, file, found, turn, &self.counters).await? {
            Some(candidate) => self.put_into_service(candidate).await,
            None => {
                self.disable().await;
                Ok(())
            }
        }
    }

    async fn put_into_service(&mut self, new: Candidate) -> Result<(), Setback> {
        let Candidate { generation, config, version, fingerprint } = new;
        let same = |s: &Service| running::same_subscription(&s.config, &config);
        match &mut self.service {
            // H1, H2: the subscription does not notice; a halted one has to
            Some(service)
                if same(service)
                    && self.counters.subscription.state().0 != pipeline::State::Halted =>
            {
                service.slot.swap(generation);
                (service.config, service.fingerprint) = (config.clone(), fingerprint);
                self.serves(config, version, "plugin replaced");
            }
            Some(service) => {
                // all that may fail comes before the old subscription is touched
                running::ensure_topics(&self.shared.connections, &config).await?;
                let is_same = service.claim.covers(&config.connection, &config.group);
                let claim = if is_same { None } else { Some(self.claim(&config)?) };
                self.close(std::future::pending()).await;
                if let Some(service) = &mut self.service {
                    service.slot = Arc::new(HandlerSlot::new(generation));
                    (service.config, service.fingerprint) = (config.clone(), fingerprint);
                    if let Some(claim) = claim {
                        service.claim = claim;
                    }
                }
                self.backoff.reset();
                self.serves(config, version, "plugin replaced, its subscription is opened anew");
            }
            None => {
                let claim = self.claim(&config)?;
                let slot = Arc::new(HandlerSlot::new(generation));
                self.service = Some(Service { slot, config: config.clone(), fingerprint, claim });
                self.serves(config, version, "plugin added");
            }
        }
        Ok(())
    }

    fn claim(&self, config: &PluginConfig) -> Result<Claim, Setback> {
        let claimed = self.shared.groups.claim(&self.name, &config.connection, &config.group);
        claimed.map_err(|holder| Setback::group_taken(config, &holder))
    }

    /// Opens the subscription of what is in service.
    async fn open(&mut self) {
        let Some(Service { config, slot, .. }) = &self.service else { return };
        match running::open(&self.shared, config, slot.clone(), &self.counters).await {
            Ok(running) => {
                self.note_inbox(&running);
                self.running = Some(running);
                self.status.send_modify(Status::opened);
            }
            Err(error) => {
                self.backoff.failed(None);
                let (state, reason) = Setback::from(error).told();
                warn!(plugin = self.name, reason, "cannot open the subscription, trying again");
                self.is(state, Some(reason));
            }
        }
    }

    fn note_inbox(&mut self, running: &Running) {
        if let Some(reason) = &running.no_inbox
            && self.no_inbox != running.no_inbox
        {
            warn!(
                plugin = self.name,
                reason,
                "it has no inbox: dead letters cannot be redriven to it until that topic is there \
                 and the plugin is opened anew"
            );
        }
        self.no_inbox.clone_from(&running.no_inbox);
    }

    /// Drains and closes the subscription; the broker keeps its cursor. `hurry`
    /// may cut the time short.
    async fn close(&mut self, hurry: impl Future<Output = Duration>) {
        let timeout = self.shared.config.shutdown_timeout;
        if let Err(reason) = running::close(&mut self.running, timeout, hurry).await {
            warn!(plugin = self.name, reason, "the subscription did not close cleanly");
        }
    }

    async fn disable(&mut self) {
        self.retire(State::Disabled, Some("`enabled = false` in its settings".into())).await;
        info!(plugin = self.name, "plugin disabled, its cursor is kept");
    }

    async fn remove(&mut self) {
        self.seen = None;
        self.retire(State::Removed, None).await;
        info!(plugin = self.name, "plugin removed, its cursor is kept");
    }

    async fn retire(&mut self, state: State, reason: Option<String>) {
        // told first: what is in work may take its time to finish
        self.status.send_modify(|s| s.retired(state, reason));
        self.close(std::future::pending()).await;
        self.service = None;
        self.backoff.reset();
    }

    fn is(&self, state: State, reason: Option<String>) {
        self.status.send_modify(|s| (s.state, s.reason) = (state, reason));
    }

    /// H3: nothing was changed, and here is why.
    fn set_back(&mut self, setback: Setback) {
        if matches!(setback, Setback::Unsettled) {
            self.seen = None;
            return;
        }
        if setback.may_work_later() {
            self.seen = None;
            self.backoff.failed(None);
        }
        let (state, reason) = setback.told();
        warn!(plugin = self.name, reason, serving = self.service.is_some(), "plugin refused");
        let is_running = self.running.is_some();
        self.status.send_modify(|s| s.refused(state, reason, is_running));
    }

    fn serves(&self, config: Arc<PluginConfig>, version: Version, what: &str) {
        for warning in config.warnings() {
            warn!(plugin = self.name, "{warning}");
        }
        self.status.send_modify(|s| s.serves(config, version));
        let status = self.status.borrow();
        let version = status.version.as_ref();
        info!(
            plugin = self.name,
            version = version.map(|v| &*v.version),
            digest = version.map(|v| &*v.digest),
            load_ms = version.map(|v| v.load_time.as_millis() as u64),
            topics = ?status.config.as_ref().map_or(&[][..], |c| &c.topics[..]),
            reloads = status.reloads,
            "{what}"
        );
    }
}
