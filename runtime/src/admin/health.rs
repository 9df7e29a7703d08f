//! `/livez` and `/readyz`.

use axum::{Json, extract::State, http::StatusCode};

use super::Admin;
use crate::api::Readiness;

/// The process runs and answers.
pub(super) async fn live() -> &'static str {
    "ok"
}

/// Every connection answered once, and every plugin that lay in the folder at the
/// start was loaded or reported. A broker that goes away later does not take
/// readiness away: the runtime waits for it, and nobody else could do better.
pub(super) async fn ready(State(admin): State<Admin>) -> (StatusCode, Json<Readiness>) {
    let mut waiting_for = Vec::new();
    if admin.stopping.is_cancelled() {
        waiting_for.push("stopping".to_owned());
    }
    for (name, health) in admin.connections.health() {
        if !health.answered {
            let why = health.error.map(|e| format!(": {e}")).unwrap_or_default();
            waiting_for.push(format!("connection `{name}`{why}"));
        }
    }
    waiting_for.extend(admin.supervisor.loading().iter().map(|p| format!("plugin `{p}`")));
    let ready = waiting_for.is_empty();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(Readiness { ready, waiting_for }))
}
