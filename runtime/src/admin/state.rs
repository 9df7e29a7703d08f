//! `/api/plugins/{name}/state`

use axum::{
    Json,
    extract::{Path, Query, State},
};
use serde::Deserialize;

use super::{Admin, error::ApiError};
use crate::plugin_state::{Deleted, Entry, Listing, MOST, NewValue, PluginState};

/// Keys in one answer when nobody says how many.
const LIMIT: usize = 100;

/// Where the state is of a plugin that is not there now.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Where {
    connection: Option<String>,
    group: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    connection: Option<String>,
    group: Option<String>,
    #[serde(default)]
    prefix: String,
    after: Option<String>,
    limit: Option<usize>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DeleteQuery {
    connection: Option<String>,
    group: Option<String>,
    /// Must be there: nobody deletes everything by leaving something out.
    prefix: String,
}

pub(super) async fn list(
    State(admin): State<Admin>,
    Path(name): Path<String>,
    Query(query): Query<ListQuery>,
) -> Result<Json<Listing>, ApiError> {
    let ListQuery { connection, group, prefix, after, limit } = query;
    let state = find(&admin, &name, connection, group).await?;
    let limit = limit.unwrap_or(LIMIT).min(MOST);
    Ok(Json(state.list(&prefix, after.as_deref(), limit).await?))
}

pub(super) async fn get(
    State(admin): State<Admin>,
    Path((name, key)): Path<(String, String)>,
    Query(Where { connection, group }): Query<Where>,
) -> Result<Json<Entry>, ApiError> {
    let found = find(&admin, &name, connection, group).await?.get(&key).await?;
    let missing = || ApiError::not_found(format!("the state of `{name}` has no key `{key}`"));
    found.map(Json).ok_or_else(missing)
}

pub(super) async fn set(
    State(admin): State<Admin>,
    Path((name, key)): Path<(String, String)>,
    Query(Where { connection, group }): Query<Where>,
    Json(new): Json<NewValue>,
) -> Result<Json<Entry>, ApiError> {
    Ok(Json(find(&admin, &name, connection, group).await?.set(&key, new).await?))
}

pub(super) async fn delete(
    State(admin): State<Admin>,
    Path((name, key)): Path<(String, String)>,
    Query(Where { connection, group }): Query<Where>,
) -> Result<Json<Deleted>, ApiError> {
    Ok(Json(find(&admin, &name, connection, group).await?.delete(&key).await?))
}

pub(super) async fn delete_all(
    State(admin): State<Admin>,
    Path(name): Path<String>,
    Query(DeleteQuery { connection, group, prefix }): Query<DeleteQuery>,
) -> Result<Json<Deleted>, ApiError> {
    Ok(Json(find(&admin, &name, connection, group).await?.delete_all(&prefix).await?))
}

/// The state of the plugin called `name`. It outlives the plugin's file, and is then
/// looked for where a plugin without settings would have it, unless told otherwise.
async fn find(
    admin: &Admin,
    name: &str,
    connection: Option<String>,
    group: Option<String>,
) -> Result<PluginState, ApiError> {
    let config = admin.supervisor.plugin(name).and_then(|plugin| plugin.status().config.clone());
    let known = config.as_ref();
    let connection = connection.or_else(|| known.map(|config| config.connection.clone()));
    let connection = admin.connection(connection.as_deref())?;
    let group = group.or_else(|| known.map(|config| config.group.clone()));
    let group = group.unwrap_or_else(|| format!("{}{name}", admin.config.group_prefix));
    Ok(PluginState::new(admin.supervisor.state_of(connection.as_ref()).await?, group))
}
