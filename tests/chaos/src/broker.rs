//! What the harness needs of a broker: its process, and a client of the harness's own, which
//! goes past the proxy and knows nothing of the runtime's adapters.

use std::{path::Path, sync::Arc};

use anyhow::{Result, bail};
use async_trait::async_trait;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

#[cfg(feature = "sqs")]
use crate::sqs;
use crate::{
    kafka, nats,
    options::{BrokerKind, Scenario},
    process::Process,
    rabbitmq,
    verifier::{Place, Verifier},
};

/// Key of the records behind which nothing comes.
pub const END: &str = "end";

/// A broker under test.
#[async_trait]
pub trait Broker: Send + Sync {
    /// What is started, killed and connected to.
    fn process(&self) -> &Process;

    /// `[connections.NAME]` of the runtimes, through the proxy.
    fn settings(&self, scenario: Scenario) -> String;

    /// Makes `topics`, and whatever the readers need to miss nothing that comes there.
    async fn create(&self, topics: &[(String, Place)]) -> Result<()>;

    /// A producer on the topic `input`.
    async fn sender(&self, input: &str, verifier: &Arc<Verifier>) -> Result<Arc<dyn Sender>>;

    /// Begins to read `topics`.
    fn read(&self, topics: Vec<(String, Place)>, reading: Reading) -> Vec<JoinHandle<Result<()>>>;

    /// Writes, where readers need that to know the ends of `topics`, a record with the key [`END`]
    /// behind everything that is there.
    async fn mark_ends(&self, _topics: &[String]) -> Result<()> {
        Ok(())
    }

    /// Lets nobody write to `topics`, or everybody again.
    async fn deny_writes(&self, _topics: &[String], _deny: bool) -> Result<()> {
        bail!("there is no such fault on this broker")
    }
}

/// Writes to one topic, each event once, those of a key in order, however often the broker dies.
#[async_trait]
pub trait Sender: Send + Sync {
    /// Queues an event.
    async fn send(&self, key: u32, payload: String) -> Result<()>;

    /// Waits until everything that was sent is acknowledged.
    async fn flush(&self) -> Result<()>;
}

/// How long to read, and where to.
#[derive(Clone)]
pub struct Reading {
    pub verifier: Arc<Verifier>,
    /// Nothing more is written: what is there is to be read to its end.
    pub written: CancellationToken,
    /// Nobody waits for the readers any more.
    pub dropped: CancellationToken,
}

/// Starts the broker of `kind` below `folder`; the embedded log has none.
pub async fn start(kind: BrokerKind, folder: &Path) -> Result<Option<Box<dyn Broker>>> {
    Ok(Some(match kind {
        BrokerKind::Log => return Ok(None),
        BrokerKind::Kafka => Box::new(kafka::Kafka::start(&folder.join("kafka")).await?),
        BrokerKind::Nats => Box::new(nats::Nats::start(&folder.join("nats")).await?),
        BrokerKind::Rabbitmq => {
            Box::new(rabbitmq::RabbitMq::start(&folder.join("rabbitmq")).await?)
        }
        #[cfg(feature = "sqs")]
        BrokerKind::Sqs => Box::new(sqs::Sqs::start(&folder.join("sqs")).await?),
        #[cfg(not(feature = "sqs"))]
        BrokerKind::Sqs => bail!("build this program, and sandbar, with `--features sqs`"),
    }))
}
