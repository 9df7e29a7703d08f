//! NATS JetStream behind the seams of `sandbar-core`.
//!
//! A topic is a subject, and a stream holds it (`streams`); a group on a topic is a durable
//! consumer (`cursors`). A subscription finds its topics and serves each as one partition
//! (`source`), whose task pulls messages and keeps their order across readers and broken
//! connections (`pull`), while what is open is remembered, and prolonged, beside it
//! (`partition`). The sink awaits JetStream's acknowledgement for each record (`sink`); what
//! a message looks like is in `record`. Core subjects are a source where the configuration
//! says so aloud (`subject`).
#![warn(missing_docs)]

use std::sync::Arc;

use async_trait::async_trait;
use sandbar_core::{
    Connection, Extent, Guarantees, PartitionId, ReadFrom, Reader, ResumeFrom, Sink, Source,
    SourceError, SubscriptionSpec, TopicInfo,
};

mod config;
mod cursors;
mod link;
mod partition;
mod pull;
mod reader;
mod record;
mod sink;
mod source;
mod streams;
mod subject;
mod topics;

pub use config::{ConnectError, NatsConfig};

use link::Link;
use reader::NatsReader;
use sink::NatsSink;
use source::NatsSource;
use streams::Streams;

/// A connection to NATS servers.
pub struct Nats {
    streams: Arc<Streams>,
    sink: Arc<NatsSink>,
}

impl Nats {
    /// Checks the configuration. Does not wait for a server.
    ///
    /// # Errors
    /// Where the configuration can never work; the error names the key.
    pub fn connect(name: impl Into<Arc<str>>, config: NatsConfig) -> Result<Self, ConnectError> {
        let link = Arc::new(Link::new(name.into(), config)?);
        let streams = Arc::new(Streams::new(link));
        let sink = Arc::new(NatsSink::new(streams.clone()));
        Ok(Self { streams, sink })
    }

    async fn ensure(&self, topics: &[String], compacted: bool) -> Result<(), SourceError> {
        for topic in topics {
            self.streams.ensure(topic, compacted).await?;
        }
        Ok(())
    }
}

#[async_trait]
impl Connection for Nats {
    fn name(&self) -> &str {
        &self.streams.link.name
    }

    fn guarantees(&self) -> Guarantees {
        source::guarantees(self.streams.link.config.exclusive)
    }

    async fn subscribe(&self, spec: SubscriptionSpec) -> Result<Box<dyn Source>, SourceError> {
        Ok(Box::new(NatsSource::open(&self.streams, spec)?))
    }

    fn sink(&self) -> Arc<dyn Sink> {
        self.sink.clone()
    }

    async fn read(&self, topic: &str, from: ReadFrom) -> Result<Box<dyn Reader>, SourceError> {
        Ok(Box::new(NatsReader::open(self.streams.clone(), topic, from).await?))
    }

    async fn topics(&self) -> Result<Vec<TopicInfo>, SourceError> {
        self.streams.listed().await
    }

    async fn ensure_topics(&self, topics: &[String]) -> Result<(), SourceError> {
        self.ensure(topics, false).await
    }

    async fn ensure_compacted_topic(&self, topic: &str) -> Result<(), SourceError> {
        self.ensure(&[topic.to_owned()], true).await
    }

    async fn trim(&self, partition: &PartitionId, before: ResumeFrom) -> Result<(), SourceError> {
        self.streams.trim(&partition.topic, before.0).await
    }

    async fn extents(&self, topic: &str) -> Result<Vec<Extent>, SourceError> {
        self.streams.extents(topic).await
    }

    async fn cursors(
        &self,
        group: &str,
    ) -> Result<Vec<(PartitionId, ResumeFrom, ResumeFrom)>, SourceError> {
        self.streams.cursors(group).await
    }

    async fn move_cursor(
        &self,
        group: &str,
        partition: &PartitionId,
        to: ResumeFrom,
    ) -> Result<(), SourceError> {
        self.streams.move_cursor(group, &partition.topic, to.0).await
    }

    async fn close(&self) {
        if let Ok(client) = self.streams.link.client().await {
            // all is acknowledged already: this only says good-bye
            let _ = client.drain().await;
        }
    }
}
