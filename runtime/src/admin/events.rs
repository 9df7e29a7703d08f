//! `/api/topics/{topic}/events`: publish and read, one JSON object a line.

use std::{sync::Arc, time::SystemTime};

use axum::{
    Json,
    body::{Body, BodyDataStream, Bytes},
    extract::{Path, Query, State},
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
};
use futures::{FutureExt as _, StreamExt as _};
use sandbar_core::{Event, Outgoing, PublishError, Sink};
use serde::Deserialize;
use tracing::debug;

use super::{Admin, error::ApiError};
use crate::{
    event_json::{EventJson, NotPublished, OutgoingJson, Published, parse_from},
    reading::read_events,
};

/// Longest line that is read, in bytes: a payload of 10 MiB in base64, and some.
const MAX_LINE: usize = 16 << 20;
/// Bytes and records that are published in one go.
const BATCH_BYTES: usize = 1 << 20;
const BATCH_RECORDS: usize = 1000;
/// A body with more mistakes than this is not read to its end.
const MAX_ERRORS: usize = 100;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PublishQuery {
    connection: Option<String>,
}

/// Publishes a body of any length in pieces, in order. Answers 200 when all of it
/// is durable, 207 when some lines are not, and an error when none is.
pub(super) async fn publish(
    State(admin): State<Admin>,
    Path(topic): Path<String>,
    Query(query): Query<PublishQuery>,
    body: Body,
) -> Result<Response, ApiError> {
    let sink = admin.connection(query.connection.as_deref())?.sink();
    let mut publisher =
        Publisher { sink, topic, lines: 0, batch: Batch::default(), done: Published::default() };
    let cut_short = publisher.publish_all(body.into_data_stream()).await.err();
    let done = publisher.done;
    if let Some(why) = cut_short {
        return Err(with_details(ApiError::bad_request(why), done));
    }
    match done.errors.first() {
        None => Ok(Json(done).into_response()),
        Some(_) if done.published > 0 => Ok((StatusCode::MULTI_STATUS, Json(done)).into_response()),
        Some(first) => {
            let status = match first.retry {
                true => StatusCode::SERVICE_UNAVAILABLE,
                false => StatusCode::BAD_REQUEST,
            };
            let message = format!("line {}: {}", first.index + 1, first.message);
            Err(with_details(ApiError::new(status, message), done))
        }
    }
}

fn with_details(error: ApiError, done: Published) -> ApiError {
    let errors = serde_json::to_value(done.errors).unwrap_or_default();
    error.with("published", done.published).with("errors", errors)
}

struct Publisher {
    sink: Arc<dyn Sink>,
    topic: String,
    lines: usize,
    batch: Batch,
    done: Published,
}

#[derive(Default)]
struct Batch {
    records: Vec<Outgoing>,
    /// Line of each record.
    lines: Vec<usize>,
    bytes: usize,
}

impl Publisher {
    async fn publish_all(&mut self, mut body: BodyDataStream) -> Result<(), String> {
        let mut rest: Vec<u8> = Vec::new();
        loop {
            // what is there goes out before we wait for more: the sender may be a `tail -f`
            let chunk = match body.next().now_or_never() {
                Some(chunk) => chunk,
                None => {
                    self.flush().await;
                    body.next().await
                }
            };
            let Some(chunk) = chunk else { break };
            let chunk: Bytes = chunk.map_err(|e| format!("the body broke off: {e}"))?;
            let mut pieces = chunk.split(|b| *b == b'\n').peekable();
            while let Some(piece) = pieces.next() {
                if rest.len() + piece.len() > MAX_LINE {
                    self.flush().await;
                    let line = self.lines + 1;
                    return Err(format!("line {line} is longer than {MAX_LINE} bytes"));
                }
                rest.extend_from_slice(piece);
                if pieces.peek().is_some() {
                    self.line(&rest).await?;
                    rest.clear();
                }
            }
        }
        self.line(&rest).await?;
        self.flush().await;
        Ok(())
    }

    async fn line(&mut self, line: &[u8]) -> Result<(), String> {
        let index = self.lines;
        self.lines += 1;
        if line.trim_ascii().is_empty() {
            return Ok(());
        }
        match serde_json::from_slice::<OutgoingJson>(line) {
            Ok(event) => {
                self.batch.bytes += line.len();
                self.batch.records.push(event.into_outgoing(&self.topic));
                self.batch.lines.push(index);
            }
            Err(error) => self.refuse(index, error.to_string(), false),
        }
        if self.batch.bytes >= BATCH_BYTES || self.batch.records.len() >= BATCH_RECORDS {
            self.flush().await;
        }
        match self.done.errors.len() {
            ..MAX_ERRORS => Ok(()),
            _ => Err(format!("stopped after {MAX_ERRORS} lines that could not be published")),
        }
    }

    async fn flush(&mut self) {
        let batch = std::mem::take(&mut self.batch);
        if batch.records.is_empty() {
            return;
        }
        let results = self.sink.publish(&batch.records).await;
        for (index, result) in batch.lines.into_iter().zip(results) {
            match result {
                Ok(()) => self.done.published += 1,
                Err(PublishError::Unavailable(why)) => self.refuse(index, why, true),
                Err(PublishError::Rejected(why)) => self.refuse(index, why, false),
            }
        }
    }

    fn refuse(&mut self, index: usize, message: String, retry: bool) {
        self.done.errors.push(NotPublished { index, message, retry });
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ReadQuery {
    connection: Option<String>,
    /// See [`parse_from`]; `start` by default.
    from: Option<String>,
    limit: Option<u64>,
    #[serde(default)]
    follow: bool,
}

/// Streams events; with `follow`, until the client or the runtime has enough.
pub(super) async fn read(
    State(admin): State<Admin>,
    Path(topic): Path<String>,
    Query(query): Query<ReadQuery>,
) -> Result<Response, ApiError> {
    let connection = admin.connection(query.connection.as_deref())?;
    let from = query.from.as_deref().unwrap_or("start");
    let from = parse_from(from, SystemTime::now()).map_err(ApiError::bad_request)?;
    let limit = query.limit.map_or(usize::MAX, |n| usize::try_from(n).unwrap_or(usize::MAX));
    let events = read_events(connection.as_ref(), &topic, from, query.follow).await?;
    let lines = events
        .take_until(admin.stopping.cancelled_owned())
        .take(limit)
        // a reader that fails in mid-stream cannot change the status any more: break off
        .map(|event| {
            event.map(|e| line(&e)).inspect_err(|error| debug!(%error, "reading broke off"))
        });
    Ok(([(CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(lines)).into_response())
}

fn line(event: &Event) -> Bytes {
    let mut line = serde_json::to_vec(&EventJson::from(event)).unwrap_or_default();
    line.push(b'\n');
    line.into()
}
