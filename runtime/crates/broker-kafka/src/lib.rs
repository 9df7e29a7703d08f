//! Apache Kafka behind the seams of `sandbar-core`.
//!
//! A subscription is one consumer group member with a polling thread of its own
//! ([`poll`](mod@poll)); group callbacks run there and hand partitions to the pipeline
//! and take them back (`assignment`). Each partition is read from librdkafka's own
//! queue (`intake`), so back-pressure is not reading it, or together with other groups
//! (`sharing`, `feed`, `window`); its position (`partition`) is
//! committed only as far as [`Watermark`](sandbar_core::Watermark) says, with what is
//! finished beyond it as metadata (`ledger`, `metadata`) that the next owner reads first
//! (`committed`). The sink is one idempotent producer per connection (`sink`, `producer`);
//! topics are made and positions looked up beside both (`admin`, `cursors`, `known`).
//!
//! An exactly-once subscription settles through a thread of its own (`transactions`,
//! `transactor`), which writes everything that waits in one transaction (`transaction`)
//! as the member that the group knows (`membership`).
#![warn(missing_docs)]

use std::sync::Arc;

use async_trait::async_trait;
use sandbar_core::{
    Connection, Extent, Guarantees, PartitionId, ReadFrom, Reader, ResumeFrom, Sink, Source,
    SourceError, SubscriptionSpec, TopicInfo,
};

mod admin;
mod assignment;
mod client;
mod committed;
mod config;
mod creation;
mod cursors;
mod drain;
mod error;
mod feed;
mod intake;
mod known;
mod ledger;
mod membership;
mod metadata;
mod partition;
mod poll;
mod producer;
mod reader;
mod record;
mod sharing;
mod sink;
mod source;
mod together;
mod topics;
mod transaction;
mod transactions;
mod transactor;
mod window;

pub use config::KafkaConfig;
pub use error::ConnectError;

use admin::Admin;
use config::Settings;
use creation::Kept;
use producer::Producers;
use reader::KafkaReader;
use sharing::Sharing;
use sink::KafkaSink;
use source::KafkaSource;

/// A connection to a Kafka cluster.
pub struct Kafka {
    name: Arc<str>,
    settings: Arc<Settings>,
    admin: Arc<Admin>,
    sink: Arc<KafkaSink>,
    sharing: Arc<Sharing>,
}

impl Kafka {
    /// Checks the configuration and makes the producer. Does not wait for a broker.
    ///
    /// # Errors
    /// Where the configuration can never work; the error names the property.
    pub fn connect(name: impl Into<Arc<str>>, config: KafkaConfig) -> Result<Self, ConnectError> {
        let name = name.into();
        let settings = Arc::new(Settings::new(config)?);
        let admin = Arc::new(Admin::new(settings.clone(), name.clone()));
        let producers = Producers::new(name.clone(), settings.clone())?;
        let sink = Arc::new(KafkaSink::new(admin.clone(), producers));
        let sharing = Sharing::new(name.clone(), settings.clone());
        Ok(Self { name, settings, admin, sink, sharing })
    }

    /// Partitions that are just now read once for several subscriptions of this process.
    pub fn shared_partitions(&self) -> usize {
        self.sharing.shared()
    }
}

#[async_trait]
impl Connection for Kafka {
    fn name(&self) -> &str {
        &self.name
    }

    fn guarantees(&self) -> Guarantees {
        source::GUARANTEES
    }

    async fn subscribe(&self, spec: SubscriptionSpec) -> Result<Box<dyn Source>, SourceError> {
        let (settings, name, sharing) = (&self.settings, &self.name, &self.sharing);
        let known = self.sink.known();
        Ok(Box::new(KafkaSource::open(settings, &self.admin, name, known, sharing, spec)?))
    }

    fn sink(&self) -> Arc<dyn Sink> {
        self.sink.clone()
    }

    async fn read(&self, topic: &str, from: ReadFrom) -> Result<Box<dyn Reader>, SourceError> {
        let (admin, topic) = (self.admin.clone(), topics::valid(topic)?.to_owned());
        let reader = admin::blocking(move || KafkaReader::open(&admin, &topic, from)).await?;
        Ok(Box::new(reader))
    }

    async fn topics(&self) -> Result<Vec<TopicInfo>, SourceError> {
        let admin = self.admin.clone();
        admin::blocking(move || admin.topics()).await
    }

    async fn answers(&self) -> Result<(), SourceError> {
        let admin = self.admin.clone();
        admin::blocking(move || admin.answers()).await
    }

    async fn ensure_topics(&self, topics: &[String]) -> Result<(), SourceError> {
        self.admin.ensure(topics, Kept::AsConfigured).await
    }

    async fn ensure_compacted_topic(&self, topic: &str) -> Result<(), SourceError> {
        self.admin.ensure(&[topic.to_owned()], Kept::NewestOfEachKey).await
    }

    async fn trim(&self, partition: &PartitionId, before: ResumeFrom) -> Result<(), SourceError> {
        topics::valid(&partition.topic)?;
        let (admin, partition) = (self.admin.clone(), partition.clone());
        // rdkafka's admin client blocks while it is dropped
        let runtime = tokio::runtime::Handle::current();
        admin::blocking(move || runtime.block_on(admin.trim(&partition, before))).await
    }

    async fn extents(&self, topic: &str) -> Result<Vec<Extent>, SourceError> {
        let topic = topics::valid(topic)?.to_owned();
        let admin = self.admin.clone();
        admin::blocking(move || admin.extents(&topic)).await
    }

    async fn move_cursor(
        &self,
        group: &str,
        partition: &PartitionId,
        to: ResumeFrom,
    ) -> Result<(), SourceError> {
        topics::valid(&partition.topic)?;
        let (admin, group, partition) = (self.admin.clone(), group.to_owned(), partition.clone());
        admin::blocking(move || admin.move_cursor(&group, &partition, to)).await
    }

    async fn cursors(
        &self,
        group: &str,
    ) -> Result<Vec<(PartitionId, ResumeFrom, ResumeFrom)>, SourceError> {
        let (admin, group) = (self.admin.clone(), group.to_owned());
        admin::blocking(move || admin.cursors(&group)).await
    }

    async fn close(&self) {
        self.sink.close().await;
    }
}
