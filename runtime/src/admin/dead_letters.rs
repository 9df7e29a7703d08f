//! `/api/plugins/{name}/dead-letters`.

use axum::{
    Json,
    extract::{Path, Query, State},
};
use sandbar_core::ReadFrom;
use sandbar_pipeline::DeadLetter;
use serde::Deserialize;

use super::{Admin, error::ApiError, plugins};
use crate::{
    api::{DeadLetterEvent, DeadLetters},
    event_json::EventJson,
};

/// Dead letters in one answer when nobody says how many.
const LIMIT: usize = 100;
/// Most in one answer: each may be as large as an event.
const MOST: usize = 1000;
/// Events read in one go.
const READ_BATCH: usize = 256;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    limit: Option<usize>,
    /// Position of the first one in every partition of the topic.
    from: Option<u64>,
}

/// The plugin's dead letters, oldest first. Several plugins may share a topic:
/// those of others are left out.
pub(super) async fn list(
    State(admin): State<Admin>,
    Path(name): Path<String>,
    Query(query): Query<ListQuery>,
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
