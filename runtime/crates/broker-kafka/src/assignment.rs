//! The group's callbacks: partitions come, are drained, go. All of them run on
//! the poll thread.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use parking_lot::{Mutex, RwLock};
use rdkafka::{
    ClientContext, Offset, TopicPartitionList,
    config::RDKafkaLogLevel,
    consumer::{
        BaseConsumer, CommitMode, Consumer, ConsumerContext, Rebalance,
        base_consumer::PartitionQueue,
    },
    error::{KafkaError, KafkaResult, RDKafkaErrorCode},
    topic_partition_list::TopicPartitionListElem,
};
use sandbar_core::{
    DrainGuard, PartitionId, SourceError, SourceEvent, SourceStats, StartAt, SubscriptionSpec,
    reserved,
};
use tokio::sync::mpsc;

use crate::{
    admin::native,
    client, committed, drain, error,
    intake::Intake,
    ledger::Cursor,
    partition::{KafkaPartition, Slot},
    sharing::Sharing,
    topics,
    transactions::Transactions,
};

pub(crate) type GroupConsumer = BaseConsumer<Group>;

/// The same trouble is reported no more often than this.
const REPORT_EVERY: Duration = Duration::from_secs(10);

/// How long a last commit waits for the end of a rebalance.
const REBALANCE: Duration = Duration::from_secs(2);
/// Pause before it is made again.
const COMMIT_AGAIN: Duration = Duration::from_millis(50);

/// Context of a subscription's consumer.
pub(crate) struct Group {
    connection: Arc<str>,
    group: String,
    drain: Duration,
    /// Where to begin with partitions of which the group has committed nothing.
    start: Offset,
    /// Set right after the consumer is made; weak, because the consumer owns this.
    consumer: OnceLock<Weak<GroupConsumer>>,
    /// Until the poll thread lets go of the consumer, which must end there.
    open: RwLock<bool>,
    /// Topics that were asked for by name.
    named: HashSet<String>,
    /// Whether there are globs beside them.
    globs: bool,
    /// Partitions of reserved topics that only a glob matched. Nobody reads them.
    ignored: Mutex<HashMap<PartitionId, PartitionQueue<Group>>>,
    /// Set where effects and positions are written in transactions.
    transactions: Option<Arc<Transactions>>,
    /// Set where partitions may be read together with other groups.
    sharing: Option<Arc<Sharing>>,
    stats: Arc<SourceStats>,
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
        spec: &SubscriptionSpec,
        drain: Duration,
        transactions: Option<Arc<Transactions>>,
        sharing: Option<Arc<Sharing>>,
        events: mpsc::UnboundedSender<Result<SourceEvent, SourceError>>,
    ) -> Self {
        Self {
            connection,
            group: spec.group.clone(),
            drain,
            start: if spec.start == StartAt::Latest { Offset::End } else { Offset::Beginning },
            consumer: OnceLock::new(),
            open: RwLock::new(true),
            named: spec.topics.iter().cloned().collect(),
            globs: spec.topics.iter().any(|topic| topics::is_glob(topic)),
            ignored: Mutex::default(),
            transactions,
            sharing,
            stats: spec.stats.clone(),
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

    /// Calls `f` with the consumer; `None` once that is about to end. From any thread but
    /// that of the callbacks.
    pub fn with_consumer<T>(&self, f: impl FnOnce(&GroupConsumer) -> T) -> Option<T> {
        // held for as long as the consumer is, so that this reference is never the last one
        let open = self.open.read();
        let consumer = self.consumer.get().filter(|_| *open)?.upgrade()?;
        Some(f(&consumer))
    }

    /// Waits until no other thread has the consumer, and lets none have it any more.
    pub fn shut(&self) {
        *self.open.write() = false;
        self.ignored.lock().clear();
    }

    /// The topics that it reads, where their names tell.
    pub fn topics(&self) -> Option<&HashSet<String>> {
        (!self.globs).then_some(&self.named)
    }

    /// The partitions held.
    pub fn slots(&self) -> Vec<Arc<Slot>> {
        self.slots.lock().values().cloned().collect()
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

    /// Has everything committed that moved since the last time. With `refresh` also what
    /// may not have reached the broker and nobody would tell.
    ///
    /// Positions go to librdkafka, which commits them each second, and again where a commit
    /// failed, as one does in the middle of a rebalance. Commits of our own would not learn
    /// of that: librdkafka answers an asynchronous one through a callback that rdkafka does
    /// not set. But it does not look at metadata: where only these moved, we commit.
    pub fn store_moved(&self, consumer: &GroupConsumer, refresh: bool) {
        let slots = self.slots();
        self.stats.set_metadata_fill(slots.iter().map(|s| s.fill()).fold(0.0, f64::max));
        if let Some(transactions) = &self.transactions {
            if slots.iter().any(|slot| slot.moved().is_some()) {
                transactions.sweep();
            }
            return;
        }
        let moved: Vec<_> = slots
            .iter()
            .filter_map(|s| s.next(refresh).map(|(now, stands)| (s, now, stands)))
            .collect();
        if moved.is_empty() {
            return;
        }
        let all = moved.iter().map(|(slot, cursor, _)| (&slot.id, cursor));
        let stand = moved.iter().filter(|m| m.2).map(|(slot, cursor, _)| (&slot.id, cursor));
        let told = committed::offsets(all)
            .and_then(|all| consumer.store_offsets(&all))
            .and_then(|()| committed::offsets(stand))
            .and_then(|stand| match stand.count() {
                0 => Ok(()),
                _ => consumer.commit(&stand, CommitMode::Async),
            });
        if let Err(e) = told {
            moved.iter().for_each(|(slot, ..)| slot.not_told());
            self.report("commit", &format!("positions not stored: {}", error::describe(&e)));
        }
    }

    /// Has partitions read together with other groups, or no longer.
    pub fn arrange(&self, consumer: &GroupConsumer) {
        let Some(sharing) = &self.sharing else { return };
        sharing.serve();
        for slot in self.slots() {
            if let Err(e) = slot.arrange(consumer) {
                let reason = error::describe(&e);
                self.report("intake", &format!("{} is not read: {reason}", slot.id));
            }
        }
    }

    /// Fences all partitions and commits what they finished. Where that is done in
    /// transactions, whoever settles has waited for them already.
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
        let last: Vec<(Arc<Slot>, Cursor)> =
            slots.into_iter().filter_map(|s| s.fence(reason).map(|p| (s, p))).collect();
        for (slot, cursor) in &last {
            tracing::info!(
                connection = &*self.connection, group = self.group, partition = %slot.id,
                position = cursor.position.0, reason, "partition given up"
            );
        }
        if last.is_empty() || self.transactions.is_some() {
            return Ok(());
        }
        let last = committed::offsets(last.iter().map(|(slot, cursor)| (&slot.id, cursor)))?;
        // librdkafka commits what is stored once more when the partition goes: it must not be older
        let stored = consumer.store_offsets(&last);
        let deadline = Instant::now() + REBALANCE;
        loop {
            let committed = consumer.commit(&last, CommitMode::Sync);
            // between two generations the group takes no positions. That passes by itself: the
            // client goes through it without being polled
            let passing = committed.as_ref().err().and_then(error::code)
                == Some(RDKafkaErrorCode::RebalanceInProgress);
            if !passing || Instant::now() >= deadline {
                return committed.and(stored);
            }
            thread::park_timeout(COMMIT_AGAIN);
        }
    }

    fn assigned(&self, partitions: &TopicPartitionList) {
        let Some(consumer) = self.consumer.get().and_then(Weak::upgrade) else {
            return self.fail("partitions were assigned to a consumer that is gone".into());
        };
        for mut element in partitions.elements() {
            let id = id(&element);
            // Where to begin we find out ourselves, and seek it. Told nothing, librdkafka looks it up
            // too, and when the assignment changes while a transaction hides an offset from it, it takes
            // that for none (`rd_kafka_assignment_apply_offsets`, 2.12.1): everything would be handled
            // again. A number keeps it from asking the broker, whose late answer would undo the seek.
            if let Err(e) = element.set_offset(Offset::Offset(0)) {
                return self.fail(format!("partition {id} cannot be assigned: {e}"));
            }
            // before the assignment takes effect: a queue that was taken over keeps its records
            // to itself from the first one on, and none reaches the consumer's common queue
            let Some(queue) = consumer.split_partition_queue(&id.topic, native(id.partition))
            else {
                return self.fail(format!("no queue for partition {id}"));
            };
            if self.is_ignored(&id) {
                self.ignored.lock().insert(id, queue);
                continue;
            }
            let epoch = self.epochs.fetch_add(1, Ordering::Relaxed) + 1;
            tracing::info!(
                connection = &*self.connection, group = self.group, partition = %id, epoch,
                "partition assigned"
            );
            let sharing = self.sharing.as_ref();
            let slot = Slot::new(id.clone(), epoch, |wake| Intake::new(&id, queue, sharing, wake));
            self.slots.lock().insert(id, slot.clone());
            let transactions = self.transactions.clone();
            self.send(Ok(SourceEvent::Assigned(Box::new(KafkaPartition { slot, transactions }))));
        }
        // nothing is fetched before it is known from where, and of those that nobody reads nothing at all
        if let Err(e) = consumer.pause(partitions) {
            // what is fetched in vain is dropped by the seek, or stays in its queue, which is bounded
            tracing::debug!(connection = &*self.connection, group = self.group, "not paused: {e}");
        }
    }

    /// Lets the intake of partitions begin that are assigned now.
    fn begin(&self, consumer: &GroupConsumer, partitions: &TopicPartitionList) {
        let slots: Vec<_> = {
            let all = self.slots.lock();
            ids(partitions).filter_map(|id| all.get(&id).cloned()).collect()
        };
        if slots.is_empty() {
            return;
        }
        if let Err(e) = committed::learn(consumer.context().clone(), slots, self.start) {
            self.fail(format!("no thread for looking up committed positions: {e}"));
        }
    }

    /// Whether only a glob matched the partition, and its topic is one of Sandbar's own:
    /// it may be another group's inbox.
    fn is_ignored(&self, id: &PartitionId) -> bool {
        reserved::is_reserved(&id.topic) && !self.named.contains(&*id.topic)
    }

    fn revoked(&self, consumer: &GroupConsumer, partitions: &TopicPartitionList) {
        let slots: Vec<_> = {
            let (mut all, mut ignored) = (self.slots.lock(), self.ignored.lock());
            let taken = ids(partitions).filter_map(|id| {
                ignored.remove(&id);
                all.remove(&id)
            });
            taken.collect()
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

    fn post_rebalance(&self, consumer: &GroupConsumer, rebalance: &Rebalance<'_>) {
        if let Rebalance::Assign(partitions) = rebalance {
            self.begin(consumer, partitions);
        }
    }
}

fn ids(partitions: &TopicPartitionList) -> impl Iterator<Item = PartitionId> {
    partitions.elements().into_iter().map(|element| id(&element))
}

fn id(element: &TopicPartitionListElem<'_>) -> PartitionId {
    PartitionId {
        topic: element.topic().into(),
        partition: u32::try_from(element.partition()).unwrap_or_default(),
    }
}
