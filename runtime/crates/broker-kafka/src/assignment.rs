//! The group's callbacks: partitions come, are drained, go. All of them run on
//! the poll thread.

use std::{
    collections::HashMap,
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use rdkafka::{
    ClientContext, Offset, TopicPartitionList,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, Rebalance},
    error::{KafkaError, KafkaResult, RDKafkaErrorCode},
};
use sandbar_core::{DrainGuard, PartitionId, ResumeFrom, SourceError, SourceEvent};
use tokio::sync::mpsc;

use crate::{
    admin::native,
    client, drain, error,
    partition::{KafkaPartition, Slot},
};

pub(crate) type GroupConsumer = BaseConsumer<Group>;

/// The same trouble is reported no more often than this.
const REPORT_EVERY: Duration = Duration::from_secs(10);

/// Context of a subscription's consumer.
pub(crate) struct Group {
    connection: Arc<str>,
    group: String,
    drain: Duration,
    /// Set right after the consumer is made; weak, because the consumer owns this.
    consumer: OnceLock<Weak<GroupConsumer>>,
    slots: Mutex<HashMap<PartitionId, Arc<Slot>>>,
    epochs: AtomicU64,
    events: mpsc::UnboundedSender<Result<SourceEvent, SourceError>>,
    /// When each trouble was last reported.
    reported: Mutex<HashMap<String, Instant>>,
    /// The end of this source, once there is one.
    fatal: OnceLock<String>,
}

impl Group {
    pub fn new(
        connection: Arc<str>,
        group: &str,
        drain: Duration,
        events: mpsc::UnboundedSender<Result<SourceEvent, SourceError>>,
    ) -> Self {
        Self {
            connection,
            group: group.to_owned(),
            drain,
            consumer: OnceLock::new(),
            slots: Mutex::default(),
            epochs: AtomicU64::new(0),
            events,
            reported: Mutex::default(),
            fatal: OnceLock::new(),
        }
    }

    /// Tells the context which consumer it belongs to.
    pub fn bind(&self, consumer: &Arc<GroupConsumer>) {
        // set once, by the one who makes the consumer
        let _ = self.consumer.set(Arc::downgrade(consumer));
    }

    fn send(&self, event: Result<SourceEvent, SourceError>) {
        // nobody listens any more once the source is dropped; what an event carries is
        // then dropped too, which is what tells us that a partition is drained
        let _ = self.events.send(event);
    }

    /// Reports trouble that the client goes on to overcome by itself.
    pub fn report(&self, kind: &str, reason: &str) {
        let now = Instant::now();
        {
            let mut reported = self.reported.lock();
            if reported.get(kind).is_some_and(|last| now - *last < REPORT_EVERY) {
                return;
            }
            reported.retain(|_, last| now - *last < REPORT_EVERY);
            reported.insert(kind.to_owned(), now);
        }
        let (connection, group) = (&*self.connection, &*self.group);
        tracing::warn!(connection, group, "{reason}");
        self.send(Err(SourceError::Unavailable(format!(
            "connection {connection}, group {group}: {reason}; trying on"
        ))));
    }

    /// Ends the source.
    pub fn fail(&self, reason: String) {
        if self.fatal.set(reason.clone()).is_ok() {
            let (connection, group) = (&*self.connection, &*self.group);
            tracing::error!(connection, group, "{reason}");
            self.send(Err(SourceError::Fatal(format!(
                "connection {connection}, group {group}: {reason}"
            ))));
        }
    }

    pub fn failed(&self) -> bool {
        self.fatal.get().is_some()
    }

    /// Hands every position that moved to librdkafka, which commits each second, and
    /// again where a commit failed, as one does in the middle of a rebalance. Commits of our
    /// own would not learn of that: librdkafka answers an asynchronous one through
    /// a callback that rdkafka does not set.
    pub fn store_moved(&self, consumer: &GroupConsumer) {
        let slots = self.slots.lock();
        let moved: Vec<_> =
            slots.values().filter_map(|s| Some((s.clone(), s.next_store()?))).collect();
        drop(slots);
        if moved.is_empty() {
            return;
        }
        if let Err(e) = positions(&moved).and_then(|list| consumer.store_offsets(&list)) {
            moved.iter().for_each(|(slot, _)| slot.not_stored());
            self.report("commit", &format!("positions not stored: {}", error::describe(&e)));
        }
    }

    /// Fences all partitions and commits what they finished.
    pub fn end(&self, consumer: &GroupConsumer) -> Result<(), SourceError> {
        let slots: Vec<_> = self.slots.lock().drain().map(|(_, slot)| slot).collect();
        let reason = self.fatal.get().map_or("the subscription is closed", String::as_str);
        self.fence(consumer, slots, reason).map_err(|e| {
            SourceError::Unavailable(format!(
                "connection {}, group {}: the last positions were not committed: {}; what they \
                 cover will be delivered again",
                self.connection,
                self.group,
                error::describe(&e)
            ))
        })
    }

    fn fence(
        &self,
        consumer: &GroupConsumer,
        slots: Vec<Arc<Slot>>,
        reason: &str,
    ) -> KafkaResult<()> {
        let last: Vec<_> =
            slots.into_iter().filter_map(|s| s.fence(reason).map(|p| (s, p))).collect();
        if last.is_empty() {
            return Ok(());
        }
        for (slot, position) in &last {
            tracing::info!(
                connection = &*self.connection, group = self.group, partition = %slot.id,
                position = position.0, reason, "partition given up"
            );
        }
        let last = positions(&last)?;
        // librdkafka commits what is stored once more when the partition goes: it must not be older
        let stored = consumer.store_offsets(&last);
        consumer.commit(&last, CommitMode::Sync).and(stored)
    }

    fn assigned(&self, partitions: &TopicPartitionList) {
        let Some(consumer) = self.consumer.get().and_then(Weak::upgrade) else {
            return self.fail("partitions were assigned to a consumer that is gone".into());
        };
        for element in partitions.elements() {
            let id = PartitionId {
                topic: element.topic().into(),
                partition: u32::try_from(element.partition()).unwrap_or_default(),
            };
            // before the assignment takes effect: a queue that was taken over keeps its records
            // to itself from the first one on, and none reaches the consumer's common queue
            let Some(queue) = consumer.split_partition_queue(&id.topic, element.partition()) else {
                return self.fail(format!("no queue for partition {id}"));
            };
            let epoch = self.epochs.fetch_add(1, Ordering::Relaxed) + 1;
            tracing::info!(
                connection = &*self.connection, group = self.group, partition = %id, epoch,
                "partition assigned"
            );
            let slot = Slot::new(id.clone(), epoch, queue);
            self.slots.lock().insert(id, slot.clone());
            self.send(Ok(SourceEvent::Assigned(Box::new(KafkaPartition(slot)))));
        }
    }

    fn revoked(&self, consumer: &GroupConsumer, partitions: &TopicPartitionList) {
        let slots: Vec<_> = {
            let mut all = self.slots.lock();
            let id = |topic: &str, partition| PartitionId {
                topic: topic.into(),
                partition: u32::try_from(partition).unwrap_or_default(),
            };
            let elements = partitions.elements();
            elements.iter().filter_map(|e| all.remove(&id(e.topic(), e.partition()))).collect()
        };
        if slots.is_empty() {
            return;
        }
        let (connection, group) = (&*self.connection, &*self.group);
        if consumer.assignment_lost() {
            // others may own them already: what we would commit could undo their work
            for slot in slots {
                slot.fence("the group gave this partition to others");
                tracing::warn!(connection, group, partition = %slot.id, epoch = slot.epoch, "partition lost");
                let (drained, _) = DrainGuard::new(Duration::ZERO);
                self.send(Ok(SourceEvent::Revoking { id: slot.id.clone(), drained }));
            }
            return;
        }
        let deadline = Instant::now() + self.drain;
        let mut guards = Vec::with_capacity(slots.len());
        for slot in &slots {
            slot.revoke();
            let (drained, guard) = DrainGuard::new(self.drain);
            guards.push(guard);
            self.send(Ok(SourceEvent::Revoking { id: slot.id.clone(), drained }));
        }
        let undrained = drain::wait(guards, deadline);
        if undrained > 0 {
            tracing::warn!(
                connection, group, undrained, timeout = ?self.drain,
                "partitions were not drained in time: what was unfinished is delivered again"
            );
        }
        if let Err(e) = self.fence(consumer, slots, "the partition moved to another member") {
            let reason = error::describe(&e);
            self.report("commit", &format!("positions not committed on revoke: {reason}"));
        }
    }
}

impl ClientContext for Group {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        client::log(&self.connection, level, facility, line);
    }

    fn stats_raw(&self, _: &[u8]) {}

    fn error(&self, error: KafkaError, reason: &str) {
        match error.rdkafka_error_code() {
            // the poll thread sees it too, and knows what is behind it
            Some(RDKafkaErrorCode::Fatal) => {}
            // each missing topic is news of its own
            Some(code) if error::unknown_topic(code) => self.report(reason, reason),
            Some(code) => self.report(&format!("{code:?}"), reason),
            None => self.report("other", reason),
        }
    }
}

impl ConsumerContext for Group {
    fn pre_rebalance(&self, consumer: &GroupConsumer, rebalance: &Rebalance<'_>) {
        match rebalance {
            Rebalance::Assign(partitions) => self.assigned(partitions),
            Rebalance::Revoke(partitions) => self.revoked(consumer, partitions),
            Rebalance::Error(e) => {
                self.report("rebalance", &format!("rebalance failed: {}", error::describe(e)));
            }
        }
    }
}

/// `store_offsets` and `commit` take the position to resume from as it is.
fn positions(moved: &[(Arc<Slot>, ResumeFrom)]) -> KafkaResult<TopicPartitionList> {
    let mut list = TopicPartitionList::with_capacity(moved.len());
    for (slot, position) in moved {
        let offset = Offset::Offset(i64::try_from(position.0).unwrap_or(i64::MAX));
        list.add_partition_offset(&slot.id.topic, native(slot.id.partition), offset)?;
    }
    Ok(list)
}
