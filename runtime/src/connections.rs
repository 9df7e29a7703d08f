//! The configured brokers, and whether they answer.

mod adapters;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use parking_lot::Mutex;
use sandbar_broker_kafka::{Kafka, KafkaConfig};
use sandbar_core::{Connection, SourceError};
use sandbar_store::{Log, LogConfig, LogStats, Retention};
use tokio::time::MissedTickBehavior;
use tokio_util::task::AbortOnDropHandle;
use tracing::{info, warn};

use crate::config::{Config, ConnectionConfig};

/// Time between two questions to a broker.
const PROBE_EVERY: Duration = Duration::from_secs(2);

/// The brokers by name. Closed by [`close`](Self::close).
pub struct Connections {
    by_name: BTreeMap<String, Probed>,
    default: String,
}

struct Probed {
    connection: Arc<dyn Connection>,
    /// Counters of an embedded log.
    log: Option<LogStats>,
    health: Arc<Mutex<Health>>,
    prober: AbortOnDropHandle<()>,
}

/// Whether a broker answers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Health {
    /// It answered at least once.
    pub answered: bool,
    /// Why it did not answer the last question.
    pub error: Option<String>,
}

impl Connections {
    /// Opens every connection of `config`.
    ///
    /// # Errors
    /// The first that cannot be opened. A Kafka broker that is away is no error.
    pub async fn open(config: &Config) -> Result<Self> {
        let opening = config.connections.iter().map(|(name, c)| open_counted(name, c));
        let opened = futures::future::try_join_all(opening).await?;
        Ok(Self::probing(opened, &config.default_connection))
    }

    /// Takes over opened connections, of which one is called `default`, and
    /// begins to ask each whether it is there.
    pub fn new(opened: impl IntoIterator<Item = Arc<dyn Connection>>, default: &str) -> Self {
        Self::probing(opened.into_iter().map(|connection| (connection, None)), default)
    }

    fn probing(opened: impl IntoIterator<Item = Counted>, default: &str) -> Self {
        let probed = |(connection, log): Counted| {
            let health = Arc::default();
            let probing = tokio::spawn(probe(connection.clone(), Arc::clone(&health)));
            let prober = AbortOnDropHandle::new(probing);
            (connection.name().to_owned(), Probed { connection, log, health, prober })
        };
        Self { by_name: opened.into_iter().map(probed).collect(), default: default.to_owned() }
    }

    /// The connection called `name`.
    pub fn get(&self, name: &str) -> Option<&Arc<dyn Connection>> {
        self.by_name.get(name).map(|p| &p.connection)
    }

    /// Name of the connection of those who name none.
    pub fn default_name(&self) -> &str {
        &self.default
    }

    /// All connections, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Arc<dyn Connection>)> {
        self.by_name.iter().map(|(name, p)| (name.as_str(), &p.connection))
    }

    /// Whether each broker answers, by name.
    pub fn health(&self) -> Vec<(&str, Health)> {
        self.by_name.iter().map(|(name, p)| (name.as_str(), p.health.lock().clone())).collect()
    }

    /// Counters of those that are embedded logs, by name.
    pub fn logs(&self) -> impl Iterator<Item = (&str, &LogStats)> {
        self.by_name.iter().filter_map(|(name, p)| Some((name.as_str(), p.log.as_ref()?)))
    }

    /// Flushes and closes them all. Every source must be closed before.
    pub async fn close(&self) {
        for probed in self.by_name.values() {
            probed.prober.abort();
        }
        let closing = self.by_name.values().map(|p| p.connection.close());
        futures::future::join_all(closing).await;
    }
}

/// Opens one connection. A Kafka broker need not be there.
///
/// # Errors
/// Where it can never work, or the log is open in another process.
pub async fn open(name: &str, config: &ConnectionConfig) -> Result<Arc<dyn Connection>> {
    open_counted(name, config).await.map(|(connection, _)| connection)
}

/// A connection, and what it counts where it is an embedded log.
type Counted = (Arc<dyn Connection>, Option<LogStats>);

async fn open_counted(name: &str, config: &ConnectionConfig) -> Result<Counted> {
    match config {
        ConnectionConfig::Log { path, partitions, retention_age, retention_bytes, .. } => {
            let config = LogConfig {
                name: name.to_owned(),
                partitions: *partitions,
                retention: Retention { age: *retention_age, size: *retention_bytes },
                ..LogConfig::default()
            };
            let path = path.clone();
            // may have to mend the file after a crash
            let opening = tokio::task::spawn_blocking(move || Log::open(path, config));
            let log = opening.await?;
            let log = log.with_context(|| format!("cannot open the log `{name}`"))?;
            let stats = log.stats().clone();
            Ok((Arc::new(log), Some(stats)))
        }
        ConnectionConfig::Kafka {
            brokers,
            create_topics,
            partitions,
            replication,
            properties,
            ..
        } => {
            let config = KafkaConfig {
                brokers: brokers.clone(),
                create_topics: *create_topics,
                partitions: *partitions,
                replication: *replication,
                properties: properties.clone(),
            };
            let kafka = Kafka::connect(name, config);
            let kafka = kafka.with_context(|| format!("connection `{name}` cannot work"))?;
            Ok((Arc::new(kafka), None))
        }
        #[cfg(feature = "nats")]
        ConnectionConfig::Nats { settings, .. } => {
            let nats = sandbar_broker_nats::Nats::connect(name, adapters::nats(settings));
            let nats = nats.with_context(|| format!("connection `{name}` cannot work"))?;
            Ok((Arc::new(nats), None))
        }
        #[cfg(feature = "rabbitmq")]
        ConnectionConfig::RabbitMq(settings) => {
            let config = adapters::rabbitmq(settings);
            let rabbitmq = sandbar_broker_rabbitmq::RabbitMq::connect(name, config);
            let rabbitmq = rabbitmq.with_context(|| format!("connection `{name}` cannot work"))?;
            Ok((Arc::new(rabbitmq), None))
        }
        #[cfg(feature = "sqs")]
        ConnectionConfig::Sqs(settings) => {
            let sqs = sandbar_broker_sqs::Sqs::connect(name, adapters::sqs(settings));
            let sqs = sqs.with_context(|| format!("connection `{name}` cannot work"))?;
            Ok((Arc::new(sqs), None))
        }
        #[cfg(not(all(feature = "nats", feature = "rabbitmq", feature = "sqs")))]
        _ => anyhow::bail!("connection `{name}` is of a type that is not in this build"),
    }
}

/// Whether the broker is there and lets us in.
///
/// # Errors
/// Why not.
pub async fn answers(connection: &dyn Connection) -> Result<(), SourceError> {
    match connection.answers().await {
        // a broker of queues may have no list of topics: that it says so is an answer
        Err(SourceError::Fatal(_)) if !connection.guarantees().retained => Ok(()),
        answer => answer,
    }
}

async fn probe(connection: Arc<dyn Connection>, health: Arc<Mutex<Health>>) {
    let mut ticks = tokio::time::interval(PROBE_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let answer = answers(connection.as_ref()).await;
        note(connection.name(), &mut health.lock(), answer);
    }
}

/// Updates what is known, and says aloud when it changes.
fn note(connection: &str, health: &mut Health, answer: Result<(), SourceError>) {
    let was_away = health.error.is_some();
    match answer {
        Ok(()) => {
            if was_away || !health.answered {
                info!(connection, "broker answers");
            }
            *health = Health { answered: true, error: None };
        }
        Err(error) => {
            if !was_away {
                warn!(connection, %error, "broker does not answer, trying again");
            }
            health.error = Some(error.to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_is_reported_and_does_not_undo_the_first_answer() {
        let mut health = Health::default();
        note("c", &mut health, Err(SourceError::Unavailable("refused".into())));
        assert_eq!(health, Health { answered: false, error: Some("refused".into()) });
        note("c", &mut health, Ok(()));
        assert_eq!(health, Health { answered: true, error: None });
        note("c", &mut health, Err(SourceError::Unavailable("gone".into())));
        assert_eq!(health, Health { answered: true, error: Some("gone".into()) });
    }
}
