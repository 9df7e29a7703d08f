//! The independent reader: every record of every topic once, of transactions only those
//! that were committed.

use std::{collections::HashSet, time::Duration};

use crate::{
    broker::{END, Reading},
    verifier::{Place, Record},
};
use anyhow::{Result, bail};
use rdkafka::{
    ClientConfig, ClientContext, Message, Offset, TopicPartitionList,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, Consumer, ConsumerContext},
    error::KafkaError,
    types::RDKafkaErrorCode,
};

struct Quiet;

impl ClientContext for Quiet {
    fn log(&self, _: RDKafkaLogLevel, _: &str, _: &str) {}
    fn error(&self, _: KafkaError, _: &str) {}
}

impl ConsumerContext for Quiet {}

/// Reads `topics` from their beginning, until a record with the key [`END`] has been seen on each
/// of their partitions.
pub fn read(
    brokers: &str,
    topics: &[(String, Place)],
    partitions: i32,
    reading: &Reading,
) -> Result<()> {
    let consumer: BaseConsumer<Quiet> = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", "sandbar-chaos-verifier")
        .set("enable.auto.commit", "false")
        .set("isolation.level", "read_committed")
        // a position that is gone is the broker's loss and must not be skipped over
        .set("auto.offset.reset", "error")
        .set("reconnect.backoff.max.ms", "1000")
        .set("queued.max.messages.kbytes", "16384")
        .create_with_context(Quiet)?;
    let mut assignment = TopicPartitionList::new();
    let mut open = HashSet::new();
    for (topic, _) in topics {
        for partition in 0..partitions {
            assignment.add_partition_offset(topic, partition, Offset::Offset(0))?;
            open.insert((topic.clone(), partition));
        }
    }
    consumer.assign(&assignment)?;
    while !open.is_empty() {
        if reading.dropped.is_cancelled() {
            bail!("not read to the end: {} partitions are open", open.len());
        }
        let message = match consumer.poll(Duration::from_millis(200)) {
            None => continue,
            Some(Ok(message)) => message,
            Some(Err(error)) => match error.rdkafka_error_code() {
                Some(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange) => {
                    bail!("the broker has lost what it acknowledged: {error}")
                }
                // it is away and will be back
                _ => continue,
            },
        };
        let Some((_, place)) = topics.iter().find(|(topic, _)| topic == message.topic()) else {
            continue;
        };
        let (key, payload) = (message.key().unwrap_or_default(), message.payload());
        if key == END.as_bytes() {
            open.remove(&(message.topic().to_owned(), message.partition()));
            continue;
        }
        let timestamp = message.timestamp().to_millis().and_then(|ms| ms.try_into().ok());
        reading.verifier.observe(&Record {
            place: *place,
            key,
            payload: payload.unwrap_or_default(),
            timestamp: timestamp.unwrap_or_default(),
        });
    }
    Ok(())
}
