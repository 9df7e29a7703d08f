//! A client of a running runtime's admin API, and [`RemoteLog`]: its embedded log
//! behind the same traits as the log itself, so that a command need not know
//! whether the log is open here or in another process.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

use async_trait::async_trait;
use bytes::{Buf as _, Bytes, BytesMut};
use http_body_util::{BodyExt as _, Full};
use hyper::{Method, Request, Response, StatusCode, body::Incoming, header};
use hyper_util::rt::TokioIo;
use sandbar_core::{
    Connection, Event, Guarantees, Outgoing, PartitionId, PublishError, ReadFrom, Reader,
    ResumeFrom, Sink, Source, SourceError, SubscriptionSpec, TopicInfo,
};
use serde::{Serialize, de::DeserializeOwned};
use tokio::net::TcpStream;

use crate::{
    api::Topics,
    event_json::{EventJson, OutgoingJson, Published, from_text},
};

/// Content types: one JSON document, and one object a line.
const DOCUMENT: &str = "application/json";
const LINES: &str = "application/x-ndjson";

/// Why the runtime did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens there.
    #[error("no runtime answers at {address}: {source}")]
    Unreachable {
        /// The address asked.
        address: SocketAddr,
        /// The system's error.
        source: std::io::Error,
    },
    /// It answered no.
    #[error("{message}")]
    Refused {
        /// The answer's status.
        status: StatusCode,
        /// Its reason, for people.
        message: String,
        /// The whole answer.
        body: Bytes,
    },
    /// The answer is none, or cannot be understood.
    #[error("the runtime at {address} gave no proper answer: {reason}")]
    Broken {
        /// The address asked.
        address: SocketAddr,
        /// What is wrong with the answer.
        reason: String,
    },
}

/// A client of the admin API. Each request has its own connection.
#[derive(Debug, Clone, Copy)]
pub struct Client {
    address: SocketAddr,
}

impl Client {
    /// A client of the runtime that listens on `address`.
    pub fn new(mut address: SocketAddr) -> Self {
        // "any address" can be listened on, but not connected to
        if address.ip().is_unspecified() {
            address.set_ip(match address.ip() {
                IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
                IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
            });
        }
        Self { address }
    }

    /// Where the runtime listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The JSON that the runtime answers to `GET path`.
    ///
    /// # Errors
    /// Where it is away, refuses, or answers something else.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.call(Method::GET, path, LINES, Bytes::new()).await
    }

    /// The JSON that the runtime answers to `POST path` with `body` as JSON.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        let body = serde_json::to_vec(body).map_err(|e| self.broken(e))?;
        self.call(Method::POST, path, DOCUMENT, body.into()).await
    }

    /// The JSON that the runtime answers to `PUT path` with `body` as JSON.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn put<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        let body = serde_json::to_vec(body).map_err(|e| self.broken(e))?;
        self.call(Method::PUT, path, DOCUMENT, body.into()).await
    }

    /// The JSON that the runtime answers to `DELETE path`.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn delete<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.call(Method::DELETE, path, LINES, Bytes::new()).await
    }

    async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        content_type: &str,
        body: Bytes,
    ) -> Result<T, ClientError> {
        let response = self.send(method, path, content_type, body).await?;
        let body = self.whole(response).await?;
        serde_json::from_slice(&body).map_err(|e| self.broken(e))
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        content_type: &str,
        body: Bytes,
    ) -> Result<Response<Incoming>, ClientError> {
        let unreachable = |source| ClientError::Unreachable { address: self.address, source };
        let stream = TcpStream::connect(self.address).await.map_err(unreachable)?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|e| self.broken(e))?;
        // ends when the answer has been read or dropped; its errors reach whoever reads
        tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, self.address.to_string())
            .header(header::CONTENT_TYPE, content_type)
            .body(Full::new(body))
            .map_err(|e| self.broken(e))?;
        let response = sender.send_request(request).await.map_err(|e| self.broken(e))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let body = self.whole(response).await?;
        let said: Option<serde_json::Value> = serde_json::from_slice(&body).ok();
        let message = said.as_ref().and_then(|v| v.get("error")?.as_str());
        let message = message.map_or_else(|| format!("it answered {status}"), str::to_owned);
        Err(ClientError::Refused { status, message, body })
    }

    async fn whole(&self, response: Response<Incoming>) -> Result<Bytes, ClientError> {
        let body = response.into_body().collect().await.map_err(|e| self.broken(e))?;
        Ok(body.to_bytes())
    }

    fn broken(&self, reason: impl std::fmt::Display) -> ClientError {
        ClientError::Broken { address: self.address, reason: reason.to_string() }
    }
}

/// A refusal stays one; everything else may go better later.
fn source_error(error: ClientError) -> SourceError {
    match &error {
        ClientError::Refused { status, .. } if status.is_client_error() => {
            SourceError::Fatal(error.to_string())
        }
        _ => SourceError::Unavailable(error.to_string()),
    }
}

/// A connection of a running runtime, reached through its admin API. It publishes,
/// reads and lists; subscriptions are the runtime's own.
pub struct RemoteLog {
    name: String,
    client: Client,
}

impl RemoteLog {
    /// The connection called `name` of the runtime that `client` reaches.
    pub fn new(name: impl Into<String>, client: Client) -> Self {
        Self { name: name.into(), client }
    }

    fn events_path(&self, topic: &str) -> String {
        let (topic, name) = (percent_encoded(topic), percent_encoded(&self.name));
        format!("/api/topics/{topic}/events?connection={name}")
    }
}

#[async_trait]
impl Connection for RemoteLog {
    fn name(&self) -> &str {
        &self.name
    }

    fn guarantees(&self) -> Guarantees {
        sandbar_store::GUARANTEES
    }

    async fn subscribe(&self, _: SubscriptionSpec) -> Result<Box<dyn Source>, SourceError> {
        let address = self.client.address();
        Err(SourceError::Fatal(format!("`{}` is open in the runtime at {address}", self.name)))
    }

    fn sink(&self) -> Arc<dyn Sink> {
        Arc::new(Self::new(&*self.name, self.client))
    }

    async fn read(&self, topic: &str, from: ReadFrom) -> Result<Box<dyn Reader>, SourceError> {
        let from = percent_encoded(&from_text(from));
        let path = format!("{}&from={from}", self.events_path(topic));
        let response = self
            .client
            .send(Method::GET, &path, LINES, Bytes::new())
            .await
            .map_err(source_error)?;
        Ok(Box::new(RemoteReader {
            body: response.into_body(),
            buffer: BytesMut::new(),
            endless: from == "end",
        }))
    }

    async fn topics(&self) -> Result<Vec<TopicInfo>, SourceError> {
        let all: Topics = self.client.get("/api/topics").await.map_err(source_error)?;
        if let Some(away) = all.unavailable.into_iter().find(|u| u.connection == self.name) {
            return Err(SourceError::Unavailable(away.error));
        }
        let ours = all.topics.into_iter().filter(|t| t.connection == self.name);
        Ok(ours
            .map(|t| TopicInfo {
                name: t.name,
                partitions: t.partitions,
                events: t.events,
                bytes: t.bytes,
            })
            .collect())
    }

    /// The runtime creates topics when they are published to.
    async fn ensure_topics(&self, _: &[String]) -> Result<(), SourceError> {
        Ok(())
    }

    async fn cursors(
        &self,
        _: &str,
    ) -> Result<Vec<(PartitionId, ResumeFrom, ResumeFrom)>, SourceError> {
        let address = self.client.address();
        Err(SourceError::Fatal(format!("cursors are listed by /api/plugins of {address}")))
    }

    async fn close(&self) {}
}

#[async_trait]
impl Sink for RemoteLog {
    async fn publish(&self, records: &[Outgoing]) -> Vec<Result<(), PublishError>> {
        let mut results = Vec::with_capacity(records.len());
        for run in records.chunk_by(|a, b| a.topic == b.topic) {
            results.extend(self.publish_to_one(run).await);
        }
        results
    }
}

impl RemoteLog {
    async fn publish_to_one(&self, records: &[Outgoing]) -> Vec<Result<(), PublishError>> {
        let mut body = Vec::new();
        for record in records {
            if let Err(e) = serde_json::to_writer(&mut body, &OutgoingJson::from(record)) {
                return vec![Err(PublishError::Rejected(e.to_string())); records.len()];
            }
            body.push(b'\n');
        }
        let path = self.events_path(&records[0].topic);
        let answer = match self.client.send(Method::POST, &path, LINES, body.into()).await {
            Ok(response) => self.client.whole(response).await,
            Err(error) => Err(error),
        };
        match answer {
            Ok(body) => match serde_json::from_slice(&body) {
                Ok(done) => results(&done, records.len()),
                Err(e) => unavailable(&self.client.broken(e), records.len()),
            },
            Err(ClientError::Refused { status, message, body }) => {
                match serde_json::from_slice::<Published>(&body) {
                    Ok(done) if !done.errors.is_empty() => results(&done, records.len()),
                    _ if status.is_client_error() => {
                        vec![Err(PublishError::Rejected(message)); records.len()]
                    }
                    _ => vec![Err(PublishError::Unavailable(message)); records.len()],
                }
            }
            Err(error) => unavailable(&error, records.len()),
        }
    }
}

fn unavailable(error: &ClientError, count: usize) -> Vec<Result<(), PublishError>> {
    vec![Err(PublishError::Unavailable(error.to_string())); count]
}

/// One result per record from the answer, which names the failed ones alone.
fn results(done: &Published, count: usize) -> Vec<Result<(), PublishError>> {
    let mut results = vec![Ok(()); count];
    for failed in &done.errors {
        let Some(result) = results.get_mut(failed.index) else { continue };
        *result = Err(match failed.retry {
            true => PublishError::Unavailable(failed.message.clone()),
            false => PublishError::Rejected(failed.message.clone()),
        });
    }
    // after many mistakes the runtime stops reading: what it does not vouch for counts as unsent
    let mut vouched = done.published;
    for result in results.iter_mut().filter(|result| result.is_ok()) {
        if vouched == 0 {
            *result = Err(PublishError::Unavailable("the runtime did not get to it".to_owned()));
        }
        vouched = vouched.saturating_sub(1);
    }
    results
}

struct RemoteReader {
    body: Incoming,
    buffer: BytesMut,
    endless: bool,
}

#[async_trait]
impl Reader for RemoteReader {
    async fn next(&mut self, max: usize) -> Result<Vec<Event>, SourceError> {
        loop {
            let mut events = Vec::new();
            while events.len() < max {
                let Some(end) = self.buffer.iter().position(|b| *b == b'\n') else { break };
                let line = self.buffer.split_to(end);
                self.buffer.advance(1);
                let event: EventJson = serde_json::from_slice(&line).map_err(|e| {
                    SourceError::Fatal(format!("the runtime sent what is no event: {e}"))
                })?;
                events.push(event.into());
            }
            if !events.is_empty() || max == 0 {
                return Ok(events);
            }
            let broken =
                |why: String| SourceError::Unavailable(format!("the runtime broke off: {why}"));
            match self.body.frame().await {
                Some(Ok(frame)) => self.buffer.extend(frame.into_data().ok().into_iter().flatten()),
                Some(Err(e)) => return Err(broken(e.to_string())),
                None if self.endless || !self.buffer.is_empty() => {
                    return Err(broken("it stopped".to_owned()));
                }
                None => return Ok(Vec::new()),
            }
        }
    }
}

/// `text` as one segment of a path or one value of a query.
pub fn percent_encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                out.push(byte.into());
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event_json::NotPublished;

    #[test]
    fn what_the_runtime_does_not_vouch_for_is_not_published() {
        let failed = |index, retry| NotPublished { index, message: "m".into(), retry };
        let done = Published { published: 2, errors: vec![failed(1, false), failed(2, true)] };
        let results = results(&done, 5);
        assert!(results[0].is_ok() && results[3].is_ok());
        assert!(matches!(results[1], Err(PublishError::Rejected(_))));
        assert!(matches!(results[2], Err(PublishError::Unavailable(_))));
        assert!(matches!(results[4], Err(PublishError::Unavailable(_))));
    }

    #[test]
    fn names_are_safe_in_paths() {
        assert_eq!(percent_encoded("a.b-c_d"), "a.b-c_d");
        assert_eq!(percent_encoded("a/../b?c=ü"), "a%2F..%2Fb%3Fc%3D%C3%BC");
    }

    #[test]
    fn any_address_is_reached_on_this_machine() {
        let client = |address: &str| Client::new(address.parse().unwrap()).address().to_string();
        assert_eq!(client("0.0.0.0:7070"), "127.0.0.1:7070");
        assert_eq!(client("[::]:7070"), "[::1]:7070");
        assert_eq!(client("10.0.0.1:1"), "10.0.0.1:1");
    }
}
