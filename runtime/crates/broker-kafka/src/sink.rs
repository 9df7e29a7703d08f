//! Publishing: a batch in, one result per record out.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use rdkafka::{error::RDKafkaErrorCode, producer::Producer};
use sandbar_core::{Outgoing, PublishError, Sink};

use crate::{
    admin::Admin,
    error,
    known::KnownTopics,
    producer::{self, Batch, Producers, Running},
};

/// With the queue full, the next attempt is made when a record has left it, or
/// after this time where none does.
const QUEUE_FULL: Duration = Duration::from_millis(50);
/// Longest time that closing waits for what is still queued.
const FLUSH: Duration = Duration::from_secs(10);

/// The connection's sink.
pub(crate) struct KafkaSink {
    admin: Arc<Admin>,
    producers: Producers,
    known: Arc<KnownTopics>,
}

impl KafkaSink {
    pub fn new(admin: Arc<Admin>, producers: Producers) -> Self {
        let known = Arc::new(KnownTopics::new(admin.clone()));
        Self { admin, producers, known }
    }

    /// What is known of the topics that are written to.
    pub fn known(&self) -> &Arc<KnownTopics> {
        &self.known
    }

    #[cfg(test)]
    pub fn producers(&self) -> &Producers {
        &self.producers
    }

    /// Hands one record to the producer, waiting while its queue is full.
    async fn send(&self, producer: &Running, batch: &Arc<Batch>, index: usize, record: &Outgoing) {
        let mut native = producer::record(record, batch.ticket(index));
        loop {
            let Err((error, returned)) = producer.get().send(native) else { return };
            let code = producer::code(&error);
            if code != RDKafkaErrorCode::QueueFull {
                returned.delivery_opaque.close(Some(code));
                return;
            }
            native = returned;
            let room = self.producers.room.notified();
            // either way the next step is to try again
            let _ = tokio::time::timeout(QUEUE_FULL, room).await;
        }
    }

    /// Publishes with a given producer.
    pub async fn publish_with(
        &self,
        producer: &Running,
        records: &[Outgoing],
    ) -> Vec<Result<(), PublishError>> {
        let refused = self.known.refused(records.iter().map(|r| &r.topic)).await;
        let (batch, all) = Batch::new();
        for (index, record) in records.iter().enumerate() {
            if !refused.contains_key(&record.topic) {
                self.send(producer, &batch, index, record).await;
            }
        }
        batch.close(None);
        // the producer reports every record, if only when it times out
        let reported = all.await.is_ok();
        debug_assert!(reported, "the batch outlives its reports");

        let mut results: Vec<Result<(), PublishError>> = records
            .iter()
            .map(|r| refused.get(&r.topic).map_or(Ok(()), |e| Err(e.clone())))
            .collect();
        for (index, code) in batch.failed() {
            let topic = &records[index].topic;
            if error::unknown_topic(code) {
                // gone since it was seen: the next attempt looks again, and says which
                self.known.forget(topic);
            }
            results[index] = Err(error::publish(topic, code));
        }
        results
    }

    /// Waits for what is queued.
    pub async fn close(&self) {
        let Ok(producer) = self.producers.current() else { return };
        let flushed = tokio::task::spawn_blocking(move || producer.get().flush(FLUSH)).await;
        if !matches!(flushed, Ok(Ok(()))) {
            tracing::warn!(
                connection = &*self.admin.connection,
                "closed with records that the broker has not acknowledged"
            );
        }
    }
}

#[async_trait]
impl Sink for KafkaSink {
    async fn publish(&self, records: &[Outgoing]) -> Vec<Result<(), PublishError>> {
        match self.producers.current() {
            Ok(producer) => self.publish_with(&producer, records).await,
            Err(e) => vec![Err(PublishError::Unavailable(e.to_string())); records.len()],
        }
    }
}
