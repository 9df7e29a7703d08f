//! The producer: librdkafka queues and repeats by itself.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result, ensure};
use async_trait::async_trait;
use parking_lot::Mutex;
use rdkafka::{
    ClientConfig, ClientContext,
    error::KafkaError,
    message::DeliveryResult,
    producer::{BaseRecord, NoCustomPartitioner, Producer, ProducerContext, ThreadedProducer},
    types::RDKafkaErrorCode,
};
use tokio::{task::spawn_blocking, time::sleep};

use crate::broker::{END, Sender};

/// A full queue is tried again after this.
const FULL: Duration = Duration::from_millis(50);
/// What is sent is acknowledged within this, or the broker is not coming back.
const FLUSH: Duration = Duration::from_secs(180);

/// The first record that was refused, and why.
type Refused = Arc<Mutex<Option<String>>>;

struct Listener(Refused);

impl ClientContext for Listener {
    // a broker that is killed is no news
    fn log(&self, _: rdkafka::config::RDKafkaLogLevel, _: &str, _: &str) {}
    fn error(&self, _: KafkaError, _: &str) {}
}

impl ProducerContext<NoCustomPartitioner> for Listener {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = result {
            self.0.lock().get_or_insert_with(|| error.to_string());
        }
    }
}

/// An idempotent producer of one topic.
pub struct KafkaSender {
    producer: Arc<ThreadedProducer<Listener>>,
    refused: Refused,
    topic: String,
}

impl KafkaSender {
    pub fn new(brokers: &str, topic: &str) -> Result<Self> {
        let refused = Refused::default();
        let producer = ClientConfig::new()
            .set("bootstrap.servers", brokers)
            .set("enable.idempotence", "true")
            // never: what was sent once must arrive, or the run says nothing
            .set("message.timeout.ms", "0")
            .set("reconnect.backoff.max.ms", "1000")
            .set("linger.ms", "5")
            .set("partitioner", "murmur2_random")
            .create_with_context(Listener(refused.clone()))?;
        let producer = Arc::new(producer);
        Ok(Self { producer, refused, topic: topic.to_owned() })
    }

    /// Writes a record to each partition of `topics`, behind everything that is there.
    pub fn mark(&self, topics: &[String], partitions: i32) -> Result<()> {
        for topic in topics {
            for partition in 0..partitions {
                let mark = BaseRecord::to(topic).partition(partition).key(END).payload("");
                self.producer.send(mark).map_err(|(error, _)| error)?;
            }
        }
        Ok(())
    }
}

#[async_trait]
impl Sender for KafkaSender {
    async fn send(&self, key: u32, payload: String) -> Result<()> {
        let key = key.to_string();
        let mut record = BaseRecord::to(&self.topic).key(&key).payload(&payload);
        while let Err((error, again)) = self.producer.send(record) {
            let full = error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull);
            ensure!(full, "the producer failed: {error}");
            sleep(FULL).await;
            record = again;
        }
        Ok(())
    }

    async fn flush(&self) -> Result<()> {
        let producer = self.producer.clone();
        let flushed = spawn_blocking(move || producer.flush(FLUSH)).await?;
        flushed.context("not everything that was sent is acknowledged")?;
        let refused = self.refused.lock().clone();
        ensure!(refused.is_none(), "a record was refused: {}", refused.unwrap_or_default());
        Ok(())
    }
}
