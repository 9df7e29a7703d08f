//! A connection that is opened when it is needed and again when it was lost.

use std::{sync::Arc, time::Duration};

use lapin::{Channel, ConnectionProperties, tcp::OwnedTLSConfig};
use sandbar_core::SourceError;
use tokio::{sync::Mutex, time::timeout};

use crate::{config::Settings, error};

/// Longest time that opening may take, where the URI does not say it.
const OPEN: Duration = Duration::from_secs(10);
/// Longest time that closing may take.
const CLOSE: Duration = Duration::from_secs(5);

/// One TCP connection. Publishers and consumers have one each: a broker that is short of
/// memory stops reading from publishers, and acknowledgements must not wait behind them.
pub(crate) struct Link {
    settings: Arc<Settings>,
    /// What the broker's own tools show.
    title: String,
    current: Mutex<Option<lapin::Connection>>,
}

impl Link {
    pub fn new(settings: Arc<Settings>, name: &str, purpose: &str) -> Self {
        let title = format!("sandbar {name} ({purpose})");
        Self { settings, title, current: Mutex::default() }
    }

    /// A channel of its own, on a connection that is opened for it if need be.
    ///
    /// # Errors
    /// [`SourceError::Unavailable`] while the broker is away, and while it refuses us: what
    /// it holds against us may be mended over there.
    pub async fn channel(&self) -> Result<Channel, SourceError> {
        // an answer may never come from a broker that has stopped
        let limit = self.settings.uri.query.connection_timeout.map_or(OPEN, Duration::from_millis);
        let opened = timeout(limit, async {
            let mut current = self.current.lock().await;
            if let Some(connection) = current.as_ref().filter(|c| c.status().connected()) {
                return connection.create_channel().await;
            }
            let connection = current.insert(self.connect().await?);
            connection.create_channel().await
        });
        let address = self.settings.address();
        match opened.await {
            Ok(Ok(channel)) => Ok(channel),
            Ok(Err(e)) => Err(SourceError::Unavailable(format!(
                "RabbitMQ at {address}: {}",
                error::words(&e)
            ))),
            Err(_) => {
                *self.current.lock().await = None;
                Err(SourceError::Unavailable(format!("RabbitMQ at {address} does not answer")))
            }
        }
    }

    async fn connect(&self) -> Result<lapin::Connection, lapin::Error> {
        let properties =
            ConnectionProperties::default().with_connection_name(self.title.as_str().into());
        let certificates = self.settings.certificates.clone();
        let tls = OwnedTLSConfig { cert_chain: certificates, ..OwnedTLSConfig::default() };
        let runtime = lapin::runtime::default_runtime()?;
        let uri = self.settings.uri.clone();
        lapin::Connection::connect_uri_with_config(uri, properties, tls, runtime).await
    }

    /// Says farewell to the broker.
    pub async fn close(&self) {
        let Some(connection) = self.current.lock().await.take() else { return };
        // it is closed either way: by the broker's word, or by ours alone
        let _ = timeout(CLOSE, connection.close(200, "OK".into())).await;
    }
}

/// Closes `channel` in order; all that was sent on it before has reached the broker then.
///
/// # Errors
/// [`SourceError::Unavailable`] where the broker's word for that did not come.
pub(crate) async fn close(channel: &Channel) -> Result<(), SourceError> {
    let unclear = |what: String| {
        SourceError::Unavailable(format!("{what}; what was settled last may be delivered again"))
    };
    match timeout(CLOSE, channel.close(200, "OK".into())).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(e)) => Err(unclear(error::words(&e))),
        Err(_) => Err(unclear("closing the channel was not confirmed in time".into())),
    }
}

/// Pauses between attempts: they grow up to a limit that lets a broker that is back be
/// found within seconds.
pub(crate) struct Backoff(Duration);

impl Backoff {
    const FIRST: Duration = Duration::from_millis(100);
    const LONGEST: Duration = Duration::from_secs(3);

    pub fn new() -> Self {
        Self(Self::FIRST)
    }

    pub async fn pause(&mut self) {
        tokio::time::sleep(self.0).await;
        self.0 = (self.0 * 2).min(Self::LONGEST);
    }
}
