//! `/api/dead-letters/{topic}/redrive`: jobs that send dead letters back.

use axum::{
    Json,
    extract::{Path, Query, State},
    http::StatusCode,
};

use super::{Admin, dead_letters::OnConnection, error::ApiError};
use crate::{
    api::Redrives,
    redrive::{Job, RedriveRequest, owner},
};

/// Begins a job and answers at once.
pub(super) async fn start(
    State(admin): State<Admin>,
    Path(topic): Path<String>,
    Query(query): Query<OnConnection>,
    Json(request): Json<RedriveRequest>,
) -> Result<(StatusCode, Json<Job>), ApiError> {
    let connection = admin.dead_letter_connection(query.connection.as_deref())?;
    let group_of = |plugin: &str| {
        let plugin = admin.supervisor.plugin(plugin)?;
        Some(plugin.status().config.as_ref()?.group.clone())
    };
    let plugin = request.filter.plugin.clone();
    let group = owner(&admin.config.group_prefix, &topic, plugin.as_deref(), group_of);
    let name = request.name();
    let redrive =
        request.redrive(&topic, &group, admin.routes(connection)).map_err(ApiError::bad_request)?;
    let job = admin.redrives.start(&name, redrive)?;
    Ok((StatusCode::ACCEPTED, Json(job)))
}

/// The jobs of a topic since the start of the runtime.
pub(super) async fn list(
    State(admin): State<Admin>,
    Path(topic): Path<String>,
    Query(query): Query<OnConnection>,
) -> Result<Json<Redrives>, ApiError> {
    let connection = admin.dead_letter_connection(query.connection.as_deref())?;
    Ok(Json(Redrives { redrives: admin.redrives.of(connection.name(), &topic) }))
}

/// How far a job has come.
pub(super) async fn show(
    State(admin): State<Admin>,
    Path((topic, job)): Path<(String, String)>,
    Query(query): Query<OnConnection>,
) -> Result<Json<Job>, ApiError> {
    let connection = admin.dead_letter_connection(query.connection.as_deref())?;
    let found = admin.redrives.get(connection.name(), &topic, &job);
    found.map(Json).ok_or_else(|| missing(&topic, &job))
}

/// Stops a job, and answers when it has stopped.
pub(super) async fn cancel(
    State(admin): State<Admin>,
    Path((topic, job)): Path<(String, String)>,
    Query(query): Query<OnConnection>,
) -> Result<Json<Job>, ApiError> {
    let connection = admin.dead_letter_connection(query.connection.as_deref())?;
    let stopped = admin.redrives.cancel(connection.name(), &topic, &job).await;
    stopped.map(Json).ok_or_else(|| missing(&topic, &job))
}

fn missing(topic: &str, job: &str) -> ApiError {
    ApiError::not_found(format!(
        "no redrive `{job}` of {topic} since the start of the runtime; `GET \
         /api/dead-letters/{topic}/redrive` lists them"
    ))
}
