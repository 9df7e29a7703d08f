//! `/api/dead-letters` and what belongs to it under `/api/plugins/{name}`.

use std::{collections::BTreeSet, sync::Arc};

use axum::{
    Json,
    extract::{Path, Query, State},
};
use sandbar_core::{Connection, Event, ReadFrom};
use sandbar_pipeline::DeadLetter;
use serde::Deserialize;

use super::{Admin, error::ApiError, plugins};
use crate::{
    api::{DeadLetterEvent, DeadLetters, Released},
    event_json::{BytesJson, EventJson},
    redrive::{
        self, Criteria, Edit, Edited, Filter, Listing, PurgeRequest, Purged, ReleaseRequest,
    },
};

/// Dead letters in one answer when nobody says how many.
const LIMIT: usize = 100;
/// Most in one answer: each may be as large as an event.
const MOST: usize = 1000;
/// Events read in one go.
const READ_BATCH: usize = 256;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OfPluginQuery {
    limit: Option<usize>,
    /// Position of the first one in every partition of the topic.
    from: Option<u64>,
}

/// The plugin's dead letters, oldest first. Several plugins may share a topic:
/// those of others are left out.
pub(super) async fn of_plugin(
    State(admin): State<Admin>,
    Path(name): Path<String>,
    Query(query): Query<OfPluginQuery>,
) -> Result<Json<DeadLetters>, ApiError> {
    let Some((topic, connection)) = plugins::find(&admin, &name)?.dead_letters() else {
        return Err(ApiError::not_found(format!("plugin `{name}` has no dead-letter topic now")));
    };
    let connection = admin.connection(Some(&connection))?;
    let from = query.from.map_or(ReadFrom::Start, ReadFrom::Position);
    let limit = query.limit.unwrap_or(LIMIT).min(MOST);
    let mut reader = connection.read(&topic, from).await?;
    let mut dead_letters = Vec::new();
    while dead_letters.len() < limit {
        let events = reader.next(READ_BATCH).await?;
        if events.is_empty() {
            break;
        }
        let of_plugin = events.iter().filter_map(|event| {
            let letter = DeadLetter::parse(event).filter(|l| l.plugin == name)?;
            Some(DeadLetterEvent { letter, event: EventJson::from(event) })
        });
        dead_letters.extend(of_plugin);
    }
    dead_letters.truncate(limit);
    Ok(Json(DeadLetters { topic, dead_letters }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    connection: Option<String>,
    /// By default all that hold dead letters.
    topic: Option<String>,
    /// So many of the newest are listed one by one.
    limit: Option<usize>,
    plugin: Option<String>,
    version: Option<String>,
    class: Option<String>,
    code: Option<String>,
    key: Option<BytesJson>,
    older_than: Option<String>,
    newer_than: Option<String>,
    r#where: Option<String>,
}

/// Dead letters by plugin and error, and the newest of them.
pub(super) async fn list(
    State(admin): State<Admin>,
    Query(query): Query<ListQuery>,
) -> Result<Json<Listing>, ApiError> {
    let connection = admin.dead_letter_connection(query.connection.as_deref())?;
    let filter = Filter::new(Criteria {
        plugin: query.plugin,
        version: query.version,
        class: query.class,
        code: query.code,
        key: query.key,
        older_than: query.older_than,
        newer_than: query.newer_than,
        expression: query.r#where,
    })
    .map_err(ApiError::bad_request)?;
    let topics = match query.topic {
        Some(topic) => BTreeSet::from([topic]),
        None => {
            redrive::topics(connection.as_ref(), configured_topics(&admin, connection.name()))
                .await?
        }
    };
    let routes = admin.routes(connection);
    let limit = query.limit.unwrap_or(LIMIT).min(MOST);
    let listing = redrive::list(
        connection.as_ref(),
        topics,
        &filter,
        |group| routes.max_redrives(group),
        limit,
    );
    Ok(Json(listing.await?))
}

/// Dead-letter topics of the plugins that are there now.
fn configured_topics(admin: &Admin, connection: &str) -> BTreeSet<String> {
    let plugins = admin.supervisor.plugins();
    let places = plugins.iter().filter_map(|plugin| plugin.dead_letters());
    places.filter(|(_, on)| on == connection).map(|(topic, _)| topic).collect()
}

/// Which connection, where the address says all else.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OnConnection {
    pub(super) connection: Option<String>,
}

/// One dead letter whole.
pub(super) async fn show(
    State(admin): State<Admin>,
    Path(place): Path<(String, u32, u64)>,
    Query(query): Query<OnConnection>,
) -> Result<Json<DeadLetterEvent>, ApiError> {
    let (_, event) = find(&admin, &query, &place).await?;
    let letter = DeadLetter::parse(&event)
        .ok_or_else(|| ApiError::not_found("the event there is no dead letter of sandbar's"))?;
    Ok(Json(DeadLetterEvent { letter, event: EventJson::from(&event) }))
}

/// Changes one dead letter, and sends it to the group that failed.
pub(super) async fn edit(
    State(admin): State<Admin>,
    Path(place): Path<(String, u32, u64)>,
    Query(query): Query<OnConnection>,
    Json(edit): Json<Edit>,
) -> Result<Json<Edited>, ApiError> {
    let (connection, event) = find(&admin, &query, &place).await?;
    Ok(Json(edit.send(&event, &admin.routes(connection)).await?))
}

async fn find<'a>(
    admin: &'a Admin,
    query: &OnConnection,
    (topic, partition, position): &(String, u32, u64),
) -> Result<(&'a Arc<dyn Connection>, Event), ApiError> {
    let connection = admin.dead_letter_connection(query.connection.as_deref())?;
    let found = redrive::find(connection.as_ref(), topic, *partition, *position).await?;
    let missing = || ApiError::not_found(format!("no event at {topic}/{partition}/{position}"));
    Ok((connection, found.ok_or_else(missing)?))
}

/// Deletes the front of a dead-letter topic.
pub(super) async fn purge(
    State(admin): State<Admin>,
    Path(topic): Path<String>,
    Query(query): Query<OnConnection>,
    Json(request): Json<PurgeRequest>,
) -> Result<Json<Purged>, ApiError> {
    let connection = admin.dead_letter_connection(query.connection.as_deref())?;
    Ok(Json(redrive::purge(connection.as_ref(), &topic, &request).await?))
}

/// Lets keys go on that wait behind a dead letter of this plugin.
pub(super) async fn release(
    State(admin): State<Admin>,
    Path(name): Path<String>,
    Json(request): Json<ReleaseRequest>,
) -> Result<Json<Released>, ApiError> {
    let plugin = plugins::find(&admin, &name)?;
    let config = plugin.status().config.clone().ok_or_else(|| {
        ApiError::not_found(format!("plugin `{name}` is not loaded, so its group is not known"))
    })?;
    let connection = admin.connection(Some(&config.notes_connection))?;
    let released = redrive::release(connection.as_ref(), &config.group, &request).await?;
    Ok(Json(Released { group: config.group.clone(), released }))
}
