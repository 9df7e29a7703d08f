//! RabbitMQ (AMQP 0-9-1) behind the seams of `sandbar-core`.
//!
//! A topic is a durable exchange and a group's subscription to it a quorum queue that is
//! bound to it (`topology`). Publishers and consumers have a TCP connection each, opened
//! when it is needed and again when it was lost (`link`). A subscription keeps one consumer
//! per queue, each on a channel of its own (`source`, `partition`): when the channel is
//! lost, what it held belongs to the broker again, the partition is fenced, and a new one
//! is assigned. The sink waits for the broker's confirmation of every record (`sink`).
#![warn(missing_docs)]

use std::sync::Arc;

use async_trait::async_trait;
use sandbar_core::{
    Connection, Extent, Guarantees, PartitionId, ReadFrom, Reader, ResumeFrom, Sink, Source,
    SourceError, SubscriptionSpec, TopicInfo,
};

mod config;
mod error;
mod link;
mod message;
mod partition;
mod sink;
mod source;
mod topology;

pub use config::{Argument, ExchangeType, RabbitMqConfig};
pub use error::ConnectError;

use config::Settings;
use link::Link;
use sink::RabbitSink;
use source::{RabbitSource, Shared};
use topology::Topology;

/// A connection to RabbitMQ.
pub struct RabbitMq {
    name: Arc<str>,
    shared: Arc<Shared>,
    sink: Arc<RabbitSink>,
}

impl RabbitMq {
    /// Checks the configuration. Does not wait for a broker.
    ///
    /// # Errors
    /// Where the configuration can never work; the error names what of it.
    pub fn connect(
        name: impl Into<Arc<str>>,
        config: RabbitMqConfig,
    ) -> Result<Self, ConnectError> {
        let name = name.into();
        let settings = Arc::new(Settings::new(config)?);
        let consumers = Arc::new(Link::new(settings.clone(), &name, "consumers"));
        let publishers = Link::new(settings.clone(), &name, "publishers");
        let topology = Arc::new(Topology::new(settings.clone(), consumers.clone()));
        let sink = Arc::new(RabbitSink::new(settings.clone(), publishers, topology.clone()));
        let shared = Shared::new(settings, consumers, topology);
        Ok(Self { name, shared, sink })
    }

    fn keeps_nothing<T>(&self, what: &str) -> Result<T, SourceError> {
        Err(SourceError::Fatal(format!(
            "connection {}: RabbitMQ keeps no event once it is settled, so {what}; keep what is to \
             be read again on a connection that retains it",
            self.name
        )))
    }
}

#[async_trait]
impl Connection for RabbitMq {
    fn name(&self) -> &str {
        &self.name
    }

    fn guarantees(&self) -> Guarantees {
        source::guarantees(&self.shared.settings)
    }

    async fn subscribe(&self, spec: SubscriptionSpec) -> Result<Box<dyn Source>, SourceError> {
        Ok(Box::new(RabbitSource::open(&self.shared, &self.name, spec)?))
    }

    fn sink(&self) -> Arc<dyn Sink> {
        self.sink.clone()
    }

    async fn read(&self, topic: &str, _: ReadFrom) -> Result<Box<dyn Reader>, SourceError> {
        self.keeps_nothing(&format!("{topic} cannot be read beside its queues"))
    }

    async fn topics(&self) -> Result<Vec<TopicInfo>, SourceError> {
        // that it is away goes before what it could never say
        self.shared.link.channel().await?;
        Err(SourceError::Fatal(format!(
            "connection {}: AMQP cannot list exchanges: use `rabbitmqctl list_exchanges`",
            self.name
        )))
    }

    async fn ensure_topics(&self, topics: &[String]) -> Result<(), SourceError> {
        for topic in topics {
            self.shared.topology.ensure(topic).await?;
        }
        Ok(())
    }

    async fn ensure_compacted_topic(&self, topic: &str) -> Result<(), SourceError> {
        self.keeps_nothing(&format!("{topic} cannot keep the newest event of each key"))
    }

    async fn trim(&self, partition: &PartitionId, _: ResumeFrom) -> Result<(), SourceError> {
        self.keeps_nothing(&format!("{partition} has no positions to delete up to"))
    }

    async fn cursors(
        &self,
        group: &str,
    ) -> Result<Vec<(PartitionId, ResumeFrom, ResumeFrom)>, SourceError> {
        self.shared.cursors(group).await
    }

    async fn extents(&self, topic: &str) -> Result<Vec<Extent>, SourceError> {
        self.keeps_nothing(&format!("{topic} has no extent"))
    }

    async fn move_cursor(
        &self,
        group: &str,
        partition: &PartitionId,
        _: ResumeFrom,
    ) -> Result<(), SourceError> {
        self.keeps_nothing(&format!("the cursor of {group} on {partition} cannot be moved"))
    }

    async fn close(&self) {
        self.sink.close().await;
        self.shared.link.close().await;
    }
}
