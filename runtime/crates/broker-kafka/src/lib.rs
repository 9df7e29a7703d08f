//! Apache Kafka behind the seams of `sandbar-core`.
//!
//! A subscription is one consumer group member with a polling thread of its own
//! ([`poll`](mod@poll)); group callbacks run there and hand partitions to the pipeline
//! and take them back (`assignment`). Each partition is read from librdkafka's own
//! queue (`partition`), so back-pressure is not reading it, and its position is
//! committed only as far as [`Watermark`](sandbar_core::Watermark) says. The sink is
//! one idempotent producer per connection (`sink`, `producer`).
#![warn(missing_docs)]

use std::sync::Arc;

use async_trait::async_trait;
use sandbar_core::{
    Connection, PartitionId, ReadFrom, Reader, ResumeFrom, Sink, Source, SourceError,
    SubscriptionSpec, TopicInfo,
};

mod admin;
mod assignment;
mod client;
mod config;
mod drain;
mod error;
mod partition;
mod poll;
mod producer;
mod reader;
mod record;
mod sink;
mod source;
mod topics;

pub use config::KafkaConfig;
pub use error::ConnectError;

use admin::Admin;
use config::Settings;
use producer::Producers;
use reader::KafkaReader;
use sink::KafkaSink;
use source::KafkaSource;

/// A connection to a Kafka cluster.
pub struct Kafka {
    name: Arc<str>,
    settings: Arc<Settings>,
    admin: Arc<Admin>,
    sink: Arc<KafkaSink>,
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
        Ok(Self { name, settings, admin, sink })
    }
}

#[async_trait]
impl Connection for Kafka {
    fn name(&self) -> &str {
        &self.name
    }

    async fn subscribe(&self, spec: SubscriptionSpec) -> Result<Box<dyn Source>, SourceError> {
        let source = KafkaSource::open(&self.settings, &self.admin, &self.name, spec)?;
        Ok(Box::new(source))
    }

    fn sink(&self) -> Arc<dyn Sink> {
        self.sink.clone()
    }

    async fn read(&self, topic: &str, from: ReadFrom) -> Result<Box<dyn Reader>, SourceError> {
        if !topics::is_valid(topic) {
            return Err(SourceError::Fatal(format!("`{topic}` is no valid topic name")));
        }
        let (admin, topic) = (self.admin.clone(), topic.to_owned());
        let reader = admin::blocking(move || KafkaReader::open(&admin, &topic, from)).await?;
        Ok(Box::new(reader))
    }

    async fn topics(&self) -> Result<Vec<TopicInfo>, SourceError> {
        let admin = self.admin.clone();
        admin::blocking(move || admin.topics()).await
    }

    async fn ensure_topics(&self, topics: &[String]) -> Result<(), SourceError> {
        self.admin.ensure(topics).await
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
