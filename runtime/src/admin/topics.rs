//! `/api/topics`.

use axum::{Json, extract::State};
use futures::future::join_all;
use sandbar_core::SourceError;

use super::{Admin, PATIENCE};
use crate::api::{Topic, Topics, Unavailable};

/// The topics of all connections. One that does not answer hides no other.
pub(super) async fn list(State(admin): State<Admin>) -> Json<Topics> {
    let asked = admin.connections.iter().map(async |(name, connection)| {
        let answer = tokio::time::timeout(PATIENCE, connection.topics()).await;
        let late = || SourceError::Unavailable(format!("no answer within {PATIENCE:?}"));
        (name.to_owned(), answer.unwrap_or_else(|_| Err(late())))
    });
    let mut answer = Topics { topics: Vec::new(), unavailable: Vec::new() };
    for (connection, listed) in join_all(asked).await {
        match listed {
            Ok(topics) => answer.topics.extend(topics.into_iter().map(|t| Topic {
                connection: connection.clone(),
                name: t.name,
                partitions: t.partitions,
                events: t.events,
                bytes: t.bytes,
            })),
            Err(e) => answer.unavailable.push(Unavailable { connection, error: e.to_string() }),
        }
    }
    Json(answer)
}
