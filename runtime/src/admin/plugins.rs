//! `/api/plugins`.

use axum::{
    Json,
    extract::{Path, State},
};
use futures::future::join_all;
use sandbar_core::{PartitionId, ResumeFrom};

use super::{Admin, PATIENCE, error::ApiError};
use crate::{
    api::{Cursor, Kind, Place, Plugin, Plugins, Subscription},
    config::PluginConfig,
    connections::Connections,
    supervisor::PluginHandle,
};

pub(super) async fn list(State(admin): State<Admin>) -> Json<Plugins> {
    let plugins = admin.supervisor.plugins();
    let mut plugins = join_all(plugins.iter().map(|p| view(p, &admin.connections))).await;
    for subscription in plugins.iter_mut().flat_map(|p| &mut p.subscriptions) {
        subscription.cursors.clear();
    }
    Json(Plugins { plugins })
}

pub(super) async fn show(
    State(admin): State<Admin>,
    Path(name): Path<String>,
) -> Result<Json<Plugin>, ApiError> {
    let plugin = find(&admin, &name)?;
    Ok(Json(view(&plugin, &admin.connections).await))
}

/// The plugin called `name`.
pub(super) fn find(admin: &Admin, name: &str) -> Result<PluginHandle, ApiError> {
    admin.supervisor.plugin(name).ok_or_else(|| {
        ApiError::not_found(format!("no plugin `{name}`; `GET /api/plugins` lists them"))
    })
}

async fn view(plugin: &PluginHandle, connections: &Connections) -> Plugin {
    let status = plugin.status();
    let version = status.version.as_ref();
    let subscriptions = match &status.config {
        Some(config) => vec![subscription(plugin, config, connections).await],
        None => Vec::new(),
    };
    let time = |t| humantime::format_rfc3339_millis(t).to_string();
    Plugin {
        name: status.name.clone(),
        kind: Kind::of(&status.name),
        state: status.state,
        reason: status.reason.clone(),
        file: status.file.display().to_string(),
        version: version.map(|v| v.version.clone()),
        description: version.map(|v| v.description.clone()),
        digest: version.map(|v| v.digest.clone()),
        size: version.map(|v| v.size),
        loaded_at: version.map(|v| time(v.loaded_at)),
        load_ms: version.map(|v| v.load_time.as_millis().try_into().unwrap_or(u64::MAX)),
        reloads: status.reloads,
        restarts: status.restarts,
        refusals: status.refusals,
        last_error: status.last_error.clone(),
        subscriptions,
        counts: plugin.counts(),
        in_flight: plugin.in_flight(),
    }
}

async fn subscription(
    plugin: &PluginHandle,
    config: &PluginConfig,
    connections: &Connections,
) -> Subscription {
    let cursors = match connections.get(&config.connection) {
        Some(connection) => {
            let asked = connection.cursors(&config.group);
            tokio::time::timeout(PATIENCE, asked).await.ok().and_then(Result::ok)
        }
        None => None,
    };
    let cursors: Option<Vec<_>> = cursors.map(|all| all.into_iter().map(cursor).collect());
    Subscription {
        connection: config.connection.clone(),
        group: config.group.clone(),
        topics: config.topics.clone(),
        ordering: config.ordering,
        delivery: config.delivery,
        dedup_window_ms: config.dedup.map(|w| w.as_millis().try_into().unwrap_or(u64::MAX)),
        breaker: plugin.stats().0.snapshot().breaker,
        halted_keys: plugin.stats().0.halted_keys.get().try_into().unwrap_or(0),
        publish: config.publish.clone(),
        output_connection: config.output_connection.clone(),
        dead_letters: plugin.dead_letters().map(|(topic, connection)| Place { connection, topic }),
        lag: cursors.as_ref().map(|all| all.iter().map(|c: &Cursor| c.lag).sum()),
        cursors: cursors.unwrap_or_default(),
    }
}

fn cursor((id, from, end): (PartitionId, ResumeFrom, ResumeFrom)) -> Cursor {
    Cursor {
        topic: id.topic.to_string(),
        partition: id.partition,
        resume_from: from.0,
        end: end.0,
        lag: end.0.saturating_sub(from.0),
    }
}
