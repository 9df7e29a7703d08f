//! One route's life: its subscription is opened, and opened again whenever it ends,
//! until the runtime stops.

use std::{sync::Arc, time::Duration};

use sandbar_core::Handler;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{
    Shared, State, Status,
    backoff::Backoff,
    plugin::Counters,
    running::{self, Running},
    setback::Setback,
};
use crate::{
    config::{PluginConfig, RouteConfig},
    route::Forward,
};

pub(super) struct Route {
    config: Arc<PluginConfig>,
    handler: Arc<dyn Handler>,
    shared: Arc<Shared>,
    status: watch::Sender<Status>,
    counters: Counters,
    running: Option<Running>,
    backoff: Backoff,
}

impl Route {
    pub(super) fn new(
        route: RouteConfig,
        shared: Arc<Shared>,
        status: watch::Sender<Status>,
        counters: Counters,
    ) -> Self {
        let config = route.subscription.clone();
        status.send_modify(|s| s.config = Some(config.clone()));
        let handler = Arc::new(Forward::new(route));
        let (running, backoff) = Default::default();
        Self { config, handler, shared, status, counters, running, backoff }
    }

    /// Lives until `drain`, then finishes what is in work; lets go of it on `abort`.
    pub(super) async fn run(mut self, drain: CancellationToken, abort: CancellationToken) {
        for warning in self.config.warnings() {
            warn!(route = self.config.name, "{warning}");
        }
        let live = async {
            loop {
                self.open().await;
                tokio::select! {
                    end = running::ended(self.running.as_mut()) => self.ended(end),
                    () = self.backoff.wait() => self.backoff.settled(),
                }
            }
        };
        drain.run_until_cancelled(live).await;
        let let_go = async {
            abort.cancelled().await;
            Duration::ZERO
        };
        let timeout = self.shared.config.shutdown_timeout;
        if let Err(reason) = running::close(&mut self.running, timeout, let_go).await {
            warn!(route = self.config.name, reason, "the subscription did not close cleanly");
        }
    }

    async fn open(&mut self) {
        if self.running.is_some() || !self.backoff.is_due() {
            return;
        }
        let Self { config, handler, shared, counters, .. } = self;
        match running::open(shared, config, handler.clone(), counters).await {
            Ok(running) => {
                let PluginConfig { name, connection, output_connection, .. } = &**config;
                info!(route = name, from = connection, to = output_connection, "route is open");
                self.running = Some(running);
                self.status.send_modify(Status::opened);
            }
            Err(error) => {
                self.backoff.failed(None);
                let (state, reason) = Setback::from(error).told();
                warn!(route = config.name, reason, "cannot open the subscription, trying again");
                self.is(state, reason);
            }
        }
    }

    /// Nobody stopped it: whatever the reason, it is opened again.
    fn ended(&mut self, end: Result<sandbar_pipeline::RunEnd, String>) {
        let since = self.running.take().map(|running| running.since);
        self.backoff.failed(since);
        let reason = running::why(end);
        warn!(route = self.config.name, reason, "the subscription failed, it is opened again soon");
        self.is(State::Failed, reason);
    }

    fn is(&self, state: State, reason: String) {
        self.status.send_modify(|s| (s.state, s.reason) = (state, Some(reason)));
    }
}
