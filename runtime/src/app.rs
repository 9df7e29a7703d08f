//! The composition root: here, and nowhere else, the parts are put together.
//!
//! Brokers and Wasm host are made from the configuration; the supervisor joins
//! them for each plugin; the folder watch tells it which; the admin listener
//! shows what it does.

use std::{net::SocketAddr, sync::Arc};

use anyhow::{Context as _, Result, anyhow};
use sandbar_wasm::{Host, HostConfig};
use serde::Serialize;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::{
    admin::{Admin, Server},
    api::Counts,
    config::Config,
    connections::Connections,
    metrics::Metrics,
    redrive::Jobs,
    supervisor::{PluginHandle, Supervisor},
    watch::Watcher,
};

/// A runtime: started, and run until it is told to stop.
pub struct App {
    config: Arc<Config>,
    connections: Arc<Connections>,
    supervisor: Arc<Supervisor>,
    redrives: Arc<Jobs>,
    watcher: Watcher,
    server: Option<Server>,
    /// Set when the runtime begins to stop.
    stopping: CancellationToken,
}

/// What a run came to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// Plugins that were there at the end, by name.
    pub plugins: Vec<PluginSummary>,
}

/// What became of one plugin's events.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PluginSummary {
    /// Plugin name.
    pub name: String,
    /// Versions swapped in.
    pub reloads: u64,
    /// What became of its events.
    #[serde(flatten)]
    pub counts: Counts,
}

impl App {
    /// Opens everything that `config` names and begins to load plugins. A Kafka
    /// broker that is away is waited for; everything else that cannot be had is an error.
    ///
    /// # Errors
    /// What cannot be opened, and why.
    pub async fn start(config: Config) -> Result<Self> {
        let data = &config.data_folder;
        tokio::fs::create_dir_all(data)
            .await
            .with_context(|| format!("cannot create the data folder {}", data.display()))?;
        let connections = Connections::open(&config).await?;
        Self::with_connections(config, connections).await
    }

    /// As [`start`](Self::start), with brokers that are open already.
    ///
    /// # Errors
    /// What cannot be opened, and why.
    pub async fn with_connections(config: Config, connections: Connections) -> Result<Self> {
        let cache_dir = Some(config.data_folder.join("cache"));
        let max_instances = config.max_instances;
        let host = Host::new(HostConfig { cache_dir, max_instances, ..HostConfig::default() })?;
        let connections = Arc::new(connections);
        let watcher =
            Watcher::start(config.plugins_folder.clone(), config.watch).await.with_context(
                || format!("cannot watch the plugins folder {}", config.plugins_folder.display()),
            )?;
        info!(folder = %config.plugins_folder.display(), "watching the plugins folder");

        let config = Arc::new(config);
        let (registry, pipeline) = Metrics::registry();
        let supervisor =
            Supervisor::new(config.clone(), connections.clone(), host.clone(), pipeline);
        let supervisor = Arc::new(supervisor);
        let redrives = Arc::new(Jobs::default());
        let metrics = Metrics::new(registry, &host, &supervisor, &connections, &redrives);
        let metrics = Arc::new(metrics);
        let snapshot = watcher.snapshots().borrow().clone();
        for name in config.configured_plugins().filter(|name| !snapshot.contains_key(*name)) {
            info!(
                plugin = name,
                "configured, but there is no {name}.wasm in the plugins folder yet"
            );
        }
        // before the listener is up: it must not say "ready" while they load
        supervisor.apply(&snapshot);

        let stopping = CancellationToken::new();
        let server = match config.admin {
            None => None,
            Some(address) => {
                let listener = TcpListener::bind(address).await.with_context(|| {
                    format!("cannot listen on {address}: set another address as `admin.listen`")
                })?;
                let admin = Admin {
                    config: config.clone(),
                    connections: connections.clone(),
                    supervisor: supervisor.clone(),
                    redrives: redrives.clone(),
                    metrics,
                    stopping: stopping.clone(),
                };
                let server = Server::start(listener, admin)?;
                let file = config.admin_address_file();
                tokio::fs::write(&file, server.address().to_string())
                    .await
                    .with_context(|| format!("cannot write {}", file.display()))?;
                Some(server)
            }
        };
        Ok(Self { config, connections, supervisor, redrives, watcher, server, stopping })
    }

    /// Where the admin listener is, if there is one.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.server.as_ref().map(Server::address)
    }

    /// The plugins.
    pub fn supervisor(&self) -> &Arc<Supervisor> {
        &self.supervisor
    }

    /// The brokers.
    pub fn connections(&self) -> &Arc<Connections> {
        &self.connections
    }

    /// When cancelled, a shutdown no longer waits for what is in work: it stays
    /// uncommitted and is delivered again.
    pub fn abort_token(&self) -> CancellationToken {
        self.supervisor.abort_token()
    }

    /// Follows the plugins folder until `shutdown`; then takes in no more events,
    /// finishes those in work within the configured time, commits, and closes
    /// sources before brokers.
    ///
    /// # Errors
    /// Never because of a plugin or a broker: those are reported and tried again.
    /// But without its folder watch it stops, for whoever started it to know.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<Summary> {
        let mut snapshots = self.watcher.snapshots();
        let follow = async {
            while snapshots.changed().await.is_ok() {
                self.supervisor.apply(&snapshots.borrow_and_update());
            }
        };
        let cause = tokio::select! {
            () = shutdown => Ok(()),
            () = follow => Err(anyhow!("the watch of the plugins folder failed, which is a bug")),
        };
        info!(timeout = ?self.config.shutdown_timeout, "stopping: finishing what is in work");
        self.stopping.cancel();
        tokio::join!(self.supervisor.stop(), self.redrives.stop());
        let summary = self.summary();
        if let Some(server) = self.server {
            server.stop().await;
            // gone already: then nobody is misled either
            let _ = tokio::fs::remove_file(self.config.admin_address_file()).await;
        }
        self.connections.close().await;
        info!("stopped");
        cause.map(|()| summary)
    }

    fn summary(&self) -> Summary {
        let summary = |plugin: &PluginHandle| {
            let status = plugin.status();
            PluginSummary { name: status.name, reloads: status.reloads, counts: plugin.counts() }
        };
        Summary { plugins: self.supervisor.plugins().iter().map(summary).collect() }
    }
}
