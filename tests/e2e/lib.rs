//! What the end-to-end tests on Kafka share: a topic filled and read back with
//! rdkafka alone, so that Sandbar is judged by another client.

use std::{collections::HashMap, time::Duration};

use anyhow::{Context, Result, bail};
use rdkafka::{
    ClientConfig, Message, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer},
    message::{Headers, OwnedHeaders},
    producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer},
    util::Timeout,
};

/// A record as it is written and read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Key.
    pub key: Option<Vec<u8>>,
    /// Payload.
    pub payload: Option<Vec<u8>>,
    /// Headers in order.
    pub headers: Vec<(String, Vec<u8>)>,
    /// Partition; chosen by key where it is written.
    pub partition: i32,
    /// Offset; none where it is written.
    pub offset: i64,
}

impl Record {
    /// A record to write.
    pub fn new(key: Option<&[u8]>, payload: &[u8]) -> Self {
        let (key, payload) = (key.map(<[u8]>::to_vec), Some(payload.to_vec()));
        Self { key, payload, headers: Vec::new(), partition: -1, offset: -1 }
    }
}

fn client(brokers: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers);
    config
}

/// Creates topics with `partitions` partitions.
///
/// # Errors
/// When the broker refuses one.
pub async fn create_topics(brokers: &str, topics: &[&str], partitions: i32) -> Result<()> {
    let admin: AdminClient<DefaultClientContext> = client(brokers).create()?;
    let new: Vec<_> = topics
        .iter()
        .map(|name| NewTopic::new(name, partitions, TopicReplication::Fixed(1)))
        .collect();
    for created in admin.create_topics(&new, &AdminOptions::new()).await? {
        if let Err((topic, code)) = created {
            bail!("cannot create topic {topic}: {code}");
        }
    }
    Ok(())
}

/// Writes records in their order, waiting until all are durable.
///
/// # Errors
/// When one cannot be written.
pub fn produce(brokers: &str, topic: &str, records: &[Record]) -> Result<()> {
    let producer: ThreadedProducer<DefaultProducerContext> =
        client(brokers).set("enable.idempotence", "true").set("linger.ms", "5").create()?;
    for record in records {
        let mut headers = OwnedHeaders::new();
        for (name, value) in &record.headers {
            headers = headers.insert(rdkafka::message::Header { key: name, value: Some(value) });
        }
        let mut out = BaseRecord::<[u8], [u8]>::to(topic).headers(headers);
        out.key = record.key.as_deref();
        out.payload = record.payload.as_deref();
        loop {
            match producer.send(out) {
                Ok(()) => break,
                Err((error, again)) => {
                    let full = rdkafka::types::RDKafkaErrorCode::QueueFull;
                    if error.rdkafka_error_code() != Some(full) {
                        return Err(error.into());
                    }
                    producer.flush(Duration::from_millis(100)).ok();
                    out = again;
                }
            }
        }
    }
    producer.flush(Timeout::After(Duration::from_secs(60))).context("not all records are durable")
}

/// The end of each partition, which a later [`read_from`] begins at.
///
/// # Errors
/// While the broker is away.
pub fn ends(brokers: &str, topic: &str) -> Result<HashMap<i32, i64>> {
    let consumer: BaseConsumer = client(brokers).create()?;
    let metadata = consumer.fetch_metadata(Some(topic), Duration::from_secs(30))?;
    let partitions = metadata.topics().iter().flat_map(|t| t.partitions());
    partitions
        .map(|p| {
            let (_, end) = consumer.fetch_watermarks(topic, p.id(), Duration::from_secs(30))?;
            Ok((p.id(), end))
        })
        .collect()
}

/// All records of a topic from its beginning up to its end now.
///
/// # Errors
/// When reading stalls for 30 s.
pub fn read(brokers: &str, topic: &str) -> Result<Vec<Record>> {
    let ends = ends(brokers, topic)?;
    let consumer: BaseConsumer = client(brokers)
        .set("group.id", "e2e-reader")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "false")
        .create()?;
    let mut assignment = TopicPartitionList::new();
    for (partition, end) in &ends {
        if *end > 0 {
            assignment.add_partition_offset(topic, *partition, Offset::Beginning)?;
        }
    }
    consumer.assign(&assignment)?;
    let mut open: HashMap<i32, i64> = ends.into_iter().filter(|(_, end)| *end > 0).collect();
    let mut records = Vec::new();
    while !open.is_empty() {
        let message = consumer.poll(Duration::from_secs(30)).context("reading stalled")??;
        let headers = message.headers().map(|headers| {
            headers
                .iter()
                .map(|h| (h.key.to_owned(), h.value.unwrap_or_default().to_vec()))
                .collect()
        });
        records.push(Record {
            key: message.key().map(<[u8]>::to_vec),
            payload: message.payload().map(<[u8]>::to_vec),
            headers: headers.unwrap_or_default(),
            partition: message.partition(),
            offset: message.offset(),
        });
        if open.get(&message.partition()).is_some_and(|end| message.offset() + 1 >= *end) {
            open.remove(&message.partition());
        }
    }
    Ok(records)
}

/// Events of `group` on `topic` that are not yet committed.
///
/// # Errors
/// While the broker is away.
pub fn lag(brokers: &str, group: &str, topic: &str) -> Result<i64> {
    let ends = ends(brokers, topic)?;
    let consumer: BaseConsumer = client(brokers).set("group.id", group).create()?;
    let mut partitions = TopicPartitionList::new();
    for partition in ends.keys() {
        partitions.add_partition(topic, *partition);
    }
    let committed = consumer.committed_offsets(partitions, Duration::from_secs(30))?;
    let at = |partition: i32| match committed.find_partition(topic, partition).map(|p| p.offset()) {
        Some(Offset::Offset(offset)) => offset,
        _ => 0,
    };
    Ok(ends.iter().map(|(partition, end)| end - at(*partition)).sum())
}
