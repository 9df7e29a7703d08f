//! Reading one topic beside all groups.

use std::{collections::HashMap, sync::Arc, thread, time::Duration};

use async_trait::async_trait;
use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    error::KafkaError,
};
use sandbar_core::{Event, ReadFrom, Reader, SourceError};
use tokio::sync::Notify;

use crate::{
    admin::{Admin, Probe, native, position},
    client::Listener,
    error, record,
};

/// librdkafka reads partitions only as a group; nothing is ever committed to this
/// one and nobody joins it, so the broker never hears of it.
const GROUP: &str = "sandbar.reader";

/// Longest wait for a sign that there is something to read.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// A reader of one topic, assigned to all of its partitions.
pub(crate) struct KafkaReader {
    /// Taken by drop alone.
    consumer: Option<BaseConsumer<Listener>>,
    topic: Arc<str>,
    /// Whether events that arrive later are read too.
    follow: bool,
    /// Otherwise the partitions still to be read, with the position to stop before.
    remaining: HashMap<u32, u64>,
    wake: Arc<Notify>,
}

impl KafkaReader {
    /// Looks up the topic's bounds and begins to fetch. Blocks.
    pub fn open(admin: &Admin, topic: &str, from: ReadFrom) -> Result<Self, SourceError> {
        let fatal = |what: String| SourceError::Fatal(what);
        let mut client = admin.settings.base();
        client
            .set("group.id", GROUP)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("enable.partition.eof", "true")
            .set("auto.offset.reset", "earliest");
        let consumer: BaseConsumer<Listener> = client
            .create_with_context(Listener::new(admin.connection.clone()))
            .map_err(|e| fatal(e.to_string()))?;
        let probe = Probe(consumer);
        let missing =
            || fatal(format!("topic {topic} does not exist on connection {}", admin.connection));
        let count = probe.partitions(topic)?.filter(|n| *n > 0).ok_or_else(missing)?;
        let mut all = TopicPartitionList::new();
        for partition in 0..count {
            all.add_partition(topic, native(partition));
        }
        let bounds = |list: TopicPartitionList| -> Result<Vec<u64>, SourceError> {
            let found = (0..count).map(|p| {
                list.find_partition(topic, native(p)).and_then(|e| position(e.offset())).ok_or_else(
                    || SourceError::Unavailable(format!("bounds of {topic}/{p} are not known")),
                )
            });
            found.collect()
        };
        let begins = bounds(probe.offsets(&all, Offset::Beginning)?)?;
        let ends = bounds(probe.offsets(&all, Offset::End)?)?;
        let starts: Vec<u64> = match from {
            ReadFrom::Start => begins,
            ReadFrom::Follow => ends.clone(),
            ReadFrom::Position(p) => {
                begins.iter().zip(&ends).map(|(begin, end)| p.clamp(*begin, *end)).collect()
            }
            ReadFrom::Time(ms) => {
                let at = Offset::Offset(i64::try_from(ms).unwrap_or(i64::MAX));
                let found = probe.offsets(&all, at)?;
                let of = |p: u32| found.find_partition(topic, native(p));
                // no event is that late: begin at the end
                let start = |(p, end): (u32, &u64)| {
                    of(p).and_then(|e| position(e.offset())).unwrap_or(*end)
                };
                (0..count).zip(&ends).map(start).collect()
            }
        };
        let mut assigned = TopicPartitionList::new();
        let follow = from == ReadFrom::Follow;
        let mut remaining = HashMap::new();
        for ((partition, start), end) in (0..count).zip(&starts).zip(&ends) {
            // an empty range is not fetched at all
            if follow || start < end {
                remaining.insert(partition, *end);
                let at = Offset::Offset(i64::try_from(*start).unwrap_or(i64::MAX));
                assigned
                    .add_partition_offset(topic, native(partition), at)
                    .map_err(|e| fatal(e.to_string()))?;
            }
        }
        let wake = Arc::new(Notify::new());
        let on_records = wake.clone();
        let mut consumer = probe.0;
        consumer.set_nonempty_callback(move || on_records.notify_one());
        consumer.assign(&assigned).map_err(|e| fatal(e.to_string()))?;
        Ok(Self { consumer: Some(consumer), topic: topic.into(), follow, remaining, wake })
    }

    /// Whether a record belongs to what was asked for; notes what has been read.
    fn admit(&mut self, partition: u32, position: u64) -> bool {
        if self.follow {
            return true;
        }
        let Some(end) = self.remaining.get(&partition).copied() else { return false };
        if position + 1 >= end {
            self.remaining.remove(&partition);
        }
        position < end
    }

    fn at_end(&self) -> bool {
        !self.follow && self.remaining.is_empty()
    }
}

#[async_trait]
impl Reader for KafkaReader {
    async fn next(&mut self, max: usize) -> Result<Vec<Event>, SourceError> {
        let mut events = Vec::new();
        loop {
            while events.len() < max.max(1) && !self.at_end() {
                let Some(consumer) = &self.consumer else { break };
                match consumer.poll(Duration::ZERO) {
                    Some(Ok(message)) => {
                        let event = record::event(&message, &self.topic);
                        drop(message);
                        if self.admit(event.partition, event.position) {
                            events.push(event);
                        }
                    }
                    // what lies before the end may be no record at all (transaction markers)
                    Some(Err(KafkaError::PartitionEOF(partition))) => {
                        self.remaining.remove(&u32::try_from(partition).unwrap_or_default());
                    }
                    Some(Err(e)) if events.is_empty() => {
                        let heard = consumer.context().take();
                        return Err(error::request(
                            &format!("read topic {}", self.topic),
                            &e,
                            heard,
                        ));
                    }
                    Some(Err(_)) | None => break,
                }
            }
            if !events.is_empty() || self.at_end() {
                return Ok(events);
            }
            // `events` is empty whenever this is cancelled. A poll also returns nothing after
            // news of the client (a line of its log), and then there is no other sign of what
            // lies behind that: look again all the same
            let _ = tokio::time::timeout(LOOK_AGAIN, self.wake.notified()).await;
        }
    }
}

impl Drop for KafkaReader {
    fn drop(&mut self) {
        // closing a consumer waits for its threads
        let consumer = self.consumer.take();
        thread::spawn(move || drop(consumer));
    }
}
