//! The admin listener: health, metrics and the API behind the commands.
//!
//! It has no authentication and so binds to the loopback address unless told
//! otherwise. What it says is in [`crate::api`] and [`crate::event_json`].

mod dead_letters;
mod error;
mod events;
mod health;
mod plugins;
mod redrives;
mod state;
mod topics;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::State,
    http::header::CONTENT_TYPE,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use sandbar_core::Connection;
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use tracing::{error, info};

use self::error::ApiError;
use crate::{
    config::Config,
    connections::Connections,
    metrics::{self, Metrics},
    redrive::{Jobs, Routes},
    supervisor::Supervisor,
};

/// How long requests in work may take to end once the runtime has stopped.
const LINGER: Duration = Duration::from_secs(1);

/// How long a broker may take to answer a list; the rest is shown without it.
const PATIENCE: Duration = Duration::from_secs(2);

/// What the handlers look at.
#[derive(Clone)]
pub struct Admin {
    /// What the operator set.
    pub config: Arc<Config>,
    /// The brokers.
    pub connections: Arc<Connections>,
    /// The plugins.
    pub supervisor: Arc<Supervisor>,
    /// Redrives of dead letters.
    pub redrives: Arc<Jobs>,
    /// What `/metrics` shows.
    pub metrics: Arc<Metrics>,
    /// Set when the runtime begins to stop: no longer ready, and endless answers end.
    pub stopping: CancellationToken,
}

impl Admin {
    /// The connection called `name`, by default the default one.
    fn connection(&self, name: Option<&str>) -> Result<&Arc<dyn Connection>, ApiError> {
        let name = name.unwrap_or_else(|| self.connections.default_name());
        self.connections.get(name).ok_or_else(|| {
            let known: Vec<_> = self.connections.iter().map(|(name, _)| name).collect();
            let known = known.join("`, `");
            ApiError::not_found(format!("unknown connection `{name}`; connections: `{known}`"))
        })
    }

    /// The connection called `name`, by default the one where dead letters are kept.
    fn dead_letter_connection(&self, name: Option<&str>) -> Result<&Arc<dyn Connection>, ApiError> {
        self.connection(Some(name.unwrap_or_else(|| self.config.dead_letter_connection())))
    }

    /// Where dead letters go that lie on `home`, as the plugins are configured now.
    fn routes(&self, home: &Arc<dyn Connection>) -> Routes {
        let mut routes = Routes::new(home.clone());
        for plugin in self.supervisor.plugins() {
            let status = plugin.status();
            let Some(config) = &status.config else { continue };
            if let Some(connection) = self.connections.get(&config.connection) {
                let max_redrives = config.dead_letter.max_redrives;
                routes.add(&config.group, connection.clone(), max_redrives);
            }
        }
        routes
    }
}

/// All routes.
pub fn router(admin: Admin) -> Router {
    Router::new()
        .route("/livez", get(health::live))
        .route("/readyz", get(health::ready))
        .route("/metrics", get(metrics_text))
        .route("/api/plugins", get(plugins::list))
        .route("/api/plugins/{name}", get(plugins::show))
        .route("/api/plugins/{name}/dead-letters", get(dead_letters::of_plugin))
        .route("/api/plugins/{name}/release", post(dead_letters::release))
        .route("/api/plugins/{name}/state", get(state::list).delete(state::delete_all))
        .route(
            "/api/plugins/{name}/state/{key}",
            get(state::get).put(state::set).delete(state::delete),
        )
        .route("/api/dead-letters", get(dead_letters::list))
        .route("/api/dead-letters/{topic}/redrive", get(redrives::list).post(redrives::start))
        .route(
            "/api/dead-letters/{topic}/redrive/{job}",
            get(redrives::show).delete(redrives::cancel),
        )
        .route("/api/dead-letters/{topic}/purge", post(dead_letters::purge))
        .route("/api/dead-letters/{topic}/{partition}/{position}", get(dead_letters::show))
        .route("/api/dead-letters/{topic}/{partition}/{position}/edit", post(dead_letters::edit))
        .route("/api/topics", get(topics::list))
        .route("/api/topics/{topic}/events", get(events::read).post(events::publish))
        .fallback(async || ApiError::not_found("no such page; the API is under /api"))
        .with_state(admin)
}

async fn metrics_text(State(admin): State<Admin>) -> Response {
    let text = admin.metrics.text();
    ([(CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response()
}

/// The running listener.
pub struct Server {
    address: SocketAddr,
    task: AbortOnDropHandle<()>,
    stop: CancellationToken,
}

impl Server {
    /// Serves on `listener` from now on.
    ///
    /// # Errors
    /// If the listener has no address.
    pub fn start(listener: TcpListener, admin: Admin) -> std::io::Result<Self> {
        let address = listener.local_addr()?;
        let stop = CancellationToken::new();
        let stopped = stop.clone().cancelled_owned();
        let serving = axum::serve(listener, router(admin)).with_graceful_shutdown(stopped);
        let task = tokio::spawn(async move {
            if let Err(error) = serving.await {
                error!(%error, "the admin listener failed");
            }
        });
        info!(%address, "admin listener is up");
        Ok(Self { address, task: AbortOnDropHandle::new(task), stop })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes no more requests and lets those in work end.
    pub async fn stop(self) {
        self.stop.cancel();
        // whoever lingers longer is cut off
        let _ = tokio::time::timeout(LINGER, self.task).await;
    }
}
