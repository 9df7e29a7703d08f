//! Core NATS subjects, which keep nothing: at most once, and only where that is configured.

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use async_nats::{Message, Subscriber};
use async_trait::async_trait;
use futures::{FutureExt, StreamExt};
use sandbar_core::{
    AckToken, Delivery, Disposition, Partition, PartitionId, Settlement, SourceError,
};

use crate::{link::Link, record, topics};

/// What is published on a subject while it is read. Processes of a group share it.
pub(crate) struct CorePartition {
    id: PartitionId,
    link: Arc<Link>,
    messages: Subscriber,
    /// Events so far: their only position.
    count: u64,
}

impl CorePartition {
    /// Reads `topic`, a subject or a glob.
    pub async fn open(link: &Arc<Link>, group: &str, topic: &str) -> Result<Self, SourceError> {
        let client = link.client().await?;
        let glob = topics::is_glob(topic);
        let subject = if glob { topics::covering(topic) } else { topic.to_owned() };
        let messages = client.queue_subscribe(subject, topics::name(group)).await;
        let messages = messages.map_err(|e| SourceError::Unavailable(format!("{topic}: {e}")))?;
        // a server that answers has heard of the subscription
        client.flush().await.map_err(|e| SourceError::Unavailable(format!("{topic}: {e}")))?;
        let id = PartitionId { topic: topic.into(), partition: 0 };
        Ok(Self { id, link: link.clone(), messages, count: 0 })
    }

    fn admit(&mut self, message: Message) -> Option<Delivery> {
        let glob = topics::is_glob(&self.id.topic);
        if glob && !topics::matches(&self.id.topic, &message.subject) {
            return None;
        }
        self.count += 1;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let at = (self.count, u64::try_from(now.as_millis()).unwrap_or_default());
        let event = record::event(message, &self.id.topic, at, &self.link.config);
        Some(Delivery { event, token: AckToken(self.count), redeliveries: 0 })
    }
}

#[async_trait]
impl Partition for CorePartition {
    fn id(&self) -> &PartitionId {
        &self.id
    }

    async fn recv(&mut self, max: usize) -> Result<Vec<Delivery>, SourceError> {
        let mut ready = Vec::new();
        while ready.is_empty() {
            let Some(message) = self.messages.next().await else {
                return Err(SourceError::Fenced(format!("{}: the client is closed", self.id)));
            };
            ready.extend(self.admit(message));
            while ready.len() < max.max(1)
                && let Some(Some(message)) = self.messages.next().now_or_never()
            {
                ready.extend(self.admit(message));
            }
        }
        Ok(ready)
    }

    async fn settle(&mut self, settlements: &[Settlement]) -> Result<(), SourceError> {
        Settlement::without_effects(settlements, &self.id)?;
        Settlement::without_state(settlements, &self.id)?;
        for settlement in settlements {
            if let Disposition::Release { .. } = settlement.disposition {
                tracing::warn!(
                    partition = %self.id,
                    position = settlement.token.0,
                    "lost: core NATS does not deliver again (`at-most-once`)"
                );
            }
        }
        Ok(())
    }
}
