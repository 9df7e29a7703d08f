//! A broker of its own, and requests to it.

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::Result;
use async_trait::async_trait;
use tokio::{
    task::{JoinHandle, spawn_blocking},
    time::{Instant, sleep},
};

use super::{acl, reader, sender::KafkaSender};
use crate::{
    broker::{Broker, Reading, Sender},
    options::{BrokerKind, Scenario},
    process::{Process, Scripts},
    verifier::{Place, Verifier},
    world::SESSION,
};

/// The version that is started is the last one that loses nothing when the only broker is killed.
/// A broker that comes back has no leader for a moment in the middle of its start. From 4.1 on the
/// transaction coordinator then takes a partition for deleted and leaves its transaction open for
/// ever (`KRaftMetadataCache.getPartitionLeaderEndpoint`); the group coordinator of 4.0 goes back
/// to a snapshot and hands out positions of long ago.
const SCRIPTS: Scripts = Scripts {
    name: "kafka",
    proxied: 2,
    advertises: true,
    version: Some(("SANDBAR_KAFKA_VERSION", "3.9.2")),
};
/// Partitions of every topic.
const PARTITIONS: i32 = BrokerKind::Kafka.partitions();
/// A request to a broker that may be starting is repeated for so long.
const PATIENCE: Duration = Duration::from_secs(120);

/// Apache Kafka.
pub struct Kafka(Process);

impl Kafka {
    /// Starts a broker that keeps everything in `folder`.
    pub async fn start(folder: &Path) -> Result<Self> {
        Ok(Self(Process::start(SCRIPTS, folder).await?))
    }
}

#[async_trait]
impl Broker for Kafka {
    fn process(&self) -> &Process {
        &self.0
    }

    /// Short times, so that a fault and what follows it fit into seconds. In a storm a member that
    /// does not poll is thrown out quickly.
    fn settings(&self, scenario: Scenario) -> String {
        let poll = match scenario {
            Scenario::Faults => 60_000,
            Scenario::Storm => 10_000,
        };
        let (port, session) = (self.0.proxy().port(), SESSION.as_millis());
        format!(
            "[connections.kafka]\ntype = \"kafka\"\nbrokers = \"127.0.0.1:{port}\"\n\
             create-topics = true\npartitions = {PARTITIONS}\n\
             [connections.kafka.properties]\n\"session.timeout.ms\" = \"{session}\"\n\
             \"max.poll.interval.ms\" = \"{poll}\"\n\"socket.timeout.ms\" = \"10000\"\n\
             \"transaction.timeout.ms\" = \"{session}\"\n"
        )
    }

    async fn create(&self, topics: &[(String, Place)]) -> Result<()> {
        let topics: Vec<&str> = topics.iter().map(|(topic, _)| topic.as_str()).collect();
        sandbar_tests::create_topics(&self.0.address(), &topics, PARTITIONS).await
    }

    async fn sender(&self, input: &str, _: &Arc<Verifier>) -> Result<Arc<dyn Sender>> {
        Ok(Arc::new(KafkaSender::new(&self.0.address(), input)?))
    }

    fn read(&self, topics: Vec<(String, Place)>, reading: Reading) -> Vec<JoinHandle<Result<()>>> {
        let address = self.0.address();
        vec![spawn_blocking(move || reader::read(&address, &topics, PARTITIONS, &reading))]
    }

    async fn mark_ends(&self, topics: &[String]) -> Result<()> {
        let sender = KafkaSender::new(&self.0.address(), "")?;
        sender.mark(topics, PARTITIONS)?;
        sender.flush().await
    }

    async fn deny_writes(&self, topics: &[String], deny: bool) -> Result<()> {
        let address = self.0.address();
        let deadline = Instant::now() + PATIENCE;
        for topic in topics {
            loop {
                let said = match deny {
                    true => acl::deny_writes(&address, topic).await,
                    false => acl::allow_all(&address, topic).await,
                };
                match said {
                    Ok(()) => break,
                    Err(error) if Instant::now() >= deadline => return Err(error),
                    // it may be just starting
                    Err(_) => sleep(Duration::from_millis(200)).await,
                }
            }
        }
        Ok(())
    }
}
