//! The client, whether it is connected, and requests to JetStream.

use std::{sync::Arc, time::Duration};

use async_nats::{
    Client, ConnectOptions, Event, ServerAddr,
    jetstream::{
        self,
        context::{Context, ContextBuilder, RequestErrorKind},
        response::Response,
    },
};
use sandbar_core::SourceError;
use serde::{Serialize, de::DeserializeOwned};
use tokio::{sync::OnceCell, sync::watch, time::timeout};

use crate::config::{ConnectError, NatsConfig};

/// How long a call waits for a connection that is being made.
const CONNECTING: Duration = Duration::from_secs(2);
/// How long a call waits for an answer.
const ANSWER: Duration = Duration::from_secs(4);
/// Longest pause between pings; a connection without an answer to two of them is made anew.
const PING: Duration = Duration::from_secs(10);
/// Longest pause between attempts to connect.
const RECONNECT: Duration = Duration::from_secs(2);

/// The state of the connection.
#[derive(Debug, Clone, Default)]
pub(crate) struct Health {
    /// How often it was made.
    pub epoch: u64,
    pub connected: bool,
    /// What was last heard of trouble.
    pub trouble: Option<String>,
}

/// One client for all that a connection does.
pub(crate) struct Link {
    pub name: Arc<str>,
    pub config: NatsConfig,
    servers: Vec<ServerAddr>,
    options: ConnectOptions,
    context: OnceCell<Context>,
    health: watch::Sender<Health>,
}

/// Why a request was not done.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// The server's answer.
    Server(jetstream::Error),
    /// There was none.
    Away(String),
}

impl Refusal {
    /// As an error in `what` was asked.
    pub fn during(&self, what: &str) -> SourceError {
        match self {
            // not available, or changed while it was looked at
            Self::Server(e) if e.code() >= 500 || matches!(e.code(), 404 | 408 | 429) => {
                SourceError::Unavailable(format!("could not {what}: {e}"))
            }
            Self::Server(e) => SourceError::Fatal(format!("could not {what}: {e}")),
            Self::Away(why) => SourceError::Unavailable(format!("could not {what}: {why}")),
        }
    }

    /// Whether what was asked for does not exist.
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Server(e) if e.code() == 404)
    }
}

impl Link {
    pub fn new(name: Arc<str>, config: NatsConfig) -> Result<Self, ConnectError> {
        let (servers, options) = config.checked()?;
        let health = watch::Sender::default();
        let (heard, connection) = (health.clone(), name.clone());
        let options = options
            .name(format!("sandbar {name}"))
            .retry_on_initial_connect()
            .ping_interval(PING.min(config.ack_wait / 3))
            .reconnect_delay_callback(|attempts| {
                let grown =
                    Duration::from_millis(50) * 2u32.saturating_pow(attempts.min(10) as u32);
                grown.min(RECONNECT)
            })
            .event_callback(move |event| {
                note(&heard, &connection, event);
                std::future::ready(())
            });
        Ok(Self { name, config, servers, options, context: OnceCell::new(), health })
    }

    /// The client, connected or not. Made at the first call.
    pub async fn context(&self) -> Result<&Context, SourceError> {
        let make = || async {
            let client = async_nats::connect_with_options(&self.servers[..], self.options.clone());
            let client = client.await.map_err(|e| {
                SourceError::Fatal(format!("connection {}: no client: {e}", self.name))
            })?;
            Ok(ContextBuilder::new().timeout(ANSWER).ack_timeout(ANSWER).build(client))
        };
        self.context.get_or_try_init(make).await
    }

    /// The client, connected.
    pub async fn connected(&self) -> Result<&Context, SourceError> {
        let context = self.context().await?;
        let mut health = self.health.subscribe();
        let up = timeout(CONNECTING, health.wait_for(|h| h.connected)).await;
        match up {
            Ok(Ok(_)) => Ok(context),
            _ => Err(SourceError::Unavailable(self.away())),
        }
    }

    pub async fn client(&self) -> Result<Client, SourceError> {
        Ok(self.connected().await?.client())
    }

    pub fn health(&self) -> watch::Receiver<Health> {
        self.health.subscribe()
    }

    /// Says that no server answers, and why where that is known.
    pub fn away(&self) -> String {
        let heard = self.health.borrow().trouble.clone();
        let because = heard.map(|t| format!(": {t}")).unwrap_or_default();
        format!("connection {}: no NATS server answers{because}", self.name)
    }

    /// A request to JetStream: `subject` without its prefix.
    pub async fn ask<V: DeserializeOwned>(
        &self,
        subject: impl Into<String>,
        body: &impl Serialize,
    ) -> Result<V, Refusal> {
        let context = self.connected().await.map_err(|e| Refusal::Away(e.to_string()))?;
        match context.request(subject.into(), body).await {
            Ok(Response::Ok(answer)) => Ok(answer),
            Ok(Response::Err { error }) => Err(Refusal::Server(error)),
            Err(e) if e.kind() == RequestErrorKind::NoResponders => Err(Refusal::Away(
                "nobody answers for JetStream: is it enabled for this server and account?".into(),
            )),
            Err(e) => {
                // a request that is not permitted gets no answer, only this
                let heard = self.health.borrow().trouble.clone();
                Err(Refusal::Away(heard.map_or_else(|| e.to_string(), |t| format!("{e} ({t})"))))
            }
        }
    }
}

fn note(health: &watch::Sender<Health>, connection: &str, event: Event) {
    match event {
        Event::Connected => health.send_modify(|h| {
            *h = Health { epoch: h.epoch + 1, connected: true, trouble: None };
        }),
        Event::Disconnected | Event::Closed => health.send_modify(|h| h.connected = false),
        Event::ServerError(e) => {
            tracing::warn!(connection, error = %e, "the server reports an error");
            health.send_modify(|h| h.trouble = Some(e.to_string()));
        }
        Event::ClientError(e) => {
            tracing::debug!(connection, error = %e, "client error");
            health.send_modify(|h| h.trouble = Some(e.to_string()));
        }
        Event::SlowConsumer(_) => {
            tracing::warn!(connection, "events were dropped: a core subject is read too slowly");
        }
        Event::LameDuckMode | Event::Draining => {}
    }
}
