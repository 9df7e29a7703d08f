//! Amazon SQS behind the seams of `sandbar-core`.
//!
//! A topic is a queue (`names`, `queues`), and an event is a message whose key and headers
//! travel in message attributes (`record`, `attributes`). A subscription (`source`)
//! serves each of its queues by three tasks (`serving`): one receives by long polls, one
//! tells SQS in batches what is done and what is released, and one extends the invisibility
//! of what is open. What they share is what was received and is not settled (`inflight`,
//! `partition`). The sink (`sink`) sends what comes from all sides in batches, and on FIFO queues
//! one message of a group after the other (`outbox`). All of them know SQS as a handful of calls (`api`), made by
//! AWS's client (`client`).
#![warn(missing_docs)]

use std::sync::Arc;

use async_trait::async_trait;
use futures::{StreamExt, TryStreamExt, stream};
use sandbar_core::{
    Connection, Extent, Guarantees, PartitionId, ReadFrom, Reader, ResumeFrom, Sink, Source,
    SourceError, SubscriptionSpec, TopicInfo,
};

mod api;
mod attributes;
mod client;
mod config;
mod error;
mod groups;
mod inflight;
mod names;
mod outbox;
mod partition;
mod queues;
mod record;
mod serving;
mod sink;
mod source;

pub use config::{Redrive, SqsConfig};
pub use error::ConnectError;

use api::Api;
use client::Aws;
use error::Kind;
use queues::Queues;
use sink::SqsSink;
use source::{SqsSource, guarantees};

/// A connection to SQS in one region, or to a server that speaks its protocol.
pub struct Sqs {
    queues: Arc<Queues>,
    sink: Arc<SqsSink>,
}

impl Sqs {
    /// Checks the configuration. Region and credentials are looked for when they are first
    /// needed.
    ///
    /// # Errors
    /// Where the configuration can never work; the error names the key.
    pub fn connect(name: impl Into<Arc<str>>, config: SqsConfig) -> Result<Self, ConnectError> {
        let config = config.checked()?;
        Ok(Self::over(Arc::new(Aws::new(config.clone())), name.into(), config))
    }

    fn over(api: Arc<dyn Api>, name: Arc<str>, config: SqsConfig) -> Self {
        let queues = Arc::new(Queues::new(api, config, name));
        let sink = Arc::new(SqsSink::new(queues.clone()));
        Self { queues, sink }
    }

    /// What a queue cannot do, and what does it.
    fn cannot(&self, what: &str, topic: &str, instead: &str) -> SourceError {
        SourceError::Fatal(format!(
            "connection {} cannot {what} {topic}: SQS keeps no event once it is settled; {instead}",
            self.queues.connection
        ))
    }

    async fn info(&self, name: String) -> Result<Option<TopicInfo>, SourceError> {
        let described = self.queues.describe(&name).await;
        let described = described.map_err(|e| e.source(&format!("describe topic {name}")))?;
        Ok(described.map(|described| TopicInfo {
            name,
            partitions: 1,
            events: Some(described.visible + described.in_flight),
            bytes: None,
        }))
    }
}

#[async_trait]
impl Connection for Sqs {
    fn name(&self) -> &str {
        &self.queues.connection
    }

    fn guarantees(&self) -> Guarantees {
        guarantees(self.queues.config.fifo)
    }

    async fn subscribe(&self, spec: SubscriptionSpec) -> Result<Box<dyn Source>, SourceError> {
        Ok(Box::new(SqsSource::open(self.queues.clone(), spec)?))
    }

    fn sink(&self) -> Arc<dyn Sink> {
        self.sink.clone()
    }

    async fn read(&self, topic: &str, _: ReadFrom) -> Result<Box<dyn Reader>, SourceError> {
        let instead = "subscribe to it, or forward it by a route to a connection that retains";
        Err(self.cannot("read beside subscriptions", topic, instead))
    }

    async fn topics(&self) -> Result<Vec<TopicInfo>, SourceError> {
        let names = self.queues.topics().await.map_err(|e| e.source("list the queues"))?;
        // a queue may be deleted meanwhile
        let infos = stream::iter(names).map(|name| self.info(name)).buffered(8);
        infos.try_filter_map(async |info| Ok(info)).try_collect().await
    }

    async fn ensure_topics(&self, topics: &[String]) -> Result<(), SourceError> {
        for topic in topics {
            let opened = self.queues.open(topic).await;
            opened.map_err(|failure| match failure.kind {
                Kind::NoQueue => SourceError::Fatal(failure.message),
                _ => failure.source(&format!("open topic {topic}")),
            })?;
        }
        Ok(())
    }

    async fn ensure_compacted_topic(&self, topic: &str) -> Result<(), SourceError> {
        let instead = "name a connection that retains for it";
        Err(self.cannot("keep the newest event of each key of", topic, instead))
    }

    async fn trim(&self, partition: &PartitionId, _: ResumeFrom) -> Result<(), SourceError> {
        let instead = "to empty a queue, purge it by AWS's own tools";
        Err(self.cannot("trim", &partition.topic, instead))
    }

    async fn extents(&self, topic: &str) -> Result<Vec<Extent>, SourceError> {
        let instead = "the number of events that wait is in the list of topics";
        Err(self.cannot("say what is retained of", topic, instead))
    }

    async fn move_cursor(
        &self,
        _: &str,
        partition: &PartitionId,
        _: ResumeFrom,
    ) -> Result<(), SourceError> {
        let instead = "publish again what is to be handled again";
        Err(self.cannot("move a cursor on", &partition.topic, instead))
    }

    /// SQS knows no positions: from 0 to the number of events that wait or are being handled.
    async fn cursors(
        &self,
        group: &str,
    ) -> Result<Vec<(PartitionId, ResumeFrom, ResumeFrom)>, SourceError> {
        let topics = stream::iter(self.queues.topics_of(group));
        let infos = topics.map(|topic| self.info(topic)).buffered(8);
        let cursor = async |info: Option<TopicInfo>| {
            Ok(info.map(|info| {
                let id = PartitionId { topic: info.name.into(), partition: 0 };
                (id, ResumeFrom(0), ResumeFrom(info.events.unwrap_or_default()))
            }))
        };
        infos.try_filter_map(cursor).try_collect().await
    }

    async fn close(&self) {
        // every record was acknowledged when its publishing returned
    }
}
