//! One group of requests in one write transaction. Nothing outside of it changes
//! before [`Committed::publish`], so a failed commit leaves no trace in memory.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use redb::{ReadableTable, Table, WriteTransaction};
use sandbar_core::Outgoing;
use tracing::warn;

use crate::{
    batching,
    catalog::Topic,
    codec::Batch,
    compaction::Passes,
    error::Failure,
    marks::MarkTables,
    retention::{MovedCursor, Retained},
    schema::{BATCHES, BatchKey, CURSORS, Cursor, Extent, INDEX, PARTITIONS, PartitionKey, TOPICS},
    state::StateTables,
    writer::{Answer, Outcome, Settle, Settled, Shared, Work},
};

/// The tables of a write transaction.
pub(crate) struct Tables<'tx> {
    topics: Table<'tx, &'static str, (u32, u32)>,
    partitions: Table<'tx, PartitionKey, (u64, u64, u64, u64)>,
    pub(crate) batches: Table<'tx, BatchKey, &'static [u8]>,
    pub(crate) index: Table<'tx, BatchKey, (u32, u64, u64)>,
    pub(crate) cursors: Table<'tx, (&'static str, u32, u32), &'static [u8]>,
}

/// A transaction being filled.
pub(crate) struct Transaction<'a, 'tx> {
    pub(crate) shared: &'a Shared,
    pub(crate) tx: &'tx WriteTransaction,
    pub(crate) tables: Tables<'tx>,
    /// Opened when first needed: most logs have none.
    pub(crate) marks: Option<MarkTables<'tx>>,
    /// The same.
    pub(crate) state: Option<StateTables<'tx>>,
    pub(crate) passes: &'a mut Passes,
    turn: u32,
    pub(crate) now_ms: u64,
    /// Records in the order of their requests, by partition.
    staged: BTreeMap<PartitionKey, (Arc<Topic>, Vec<Outgoing>)>,
    created: HashMap<Arc<str>, Arc<Topic>>,
    extents: BTreeMap<PartitionKey, (Arc<Topic>, Extent)>,
    pub(crate) compacted: Vec<Arc<Topic>>,
    /// Batches that are no longer what a reader may have in memory.
    pub(crate) rewritten: Vec<BatchKey>,
    pub(crate) retained: Retained,
    /// Events deleted because they were asked to be.
    pub(crate) trimmed: u64,
    pub(crate) moved: Vec<MovedCursor>,
    /// Whether anything was written that does not show in the fields above.
    pub(crate) changed: bool,
}

/// What a commit made true, to be told to readers.
pub(crate) struct Committed {
    created: Vec<Arc<Topic>>,
    extents: Vec<(PartitionKey, Arc<Topic>, Extent)>,
    batches: Vec<(PartitionKey, Batch)>,
    compacted: Vec<Arc<Topic>>,
    rewritten: Vec<BatchKey>,
    retained: Retained,
    trimmed: u64,
    moved: Vec<MovedCursor>,
}

impl<'a, 'tx> Transaction<'a, 'tx> {
    pub(crate) fn new(
        shared: &'a Shared,
        tx: &'tx WriteTransaction,
        passes: &'a mut Passes,
        turn: u32,
        now_ms: u64,
    ) -> Result<Self, redb::Error> {
        let tables = Tables {
            topics: tx.open_table(TOPICS)?,
            partitions: tx.open_table(PARTITIONS)?,
            batches: tx.open_table(BATCHES)?,
            index: tx.open_table(INDEX)?,
            cursors: tx.open_table(CURSORS)?,
        };
        Ok(Self {
            shared,
            tx,
            tables,
            marks: None,
            state: None,
            passes,
            turn,
            now_ms,
            staged: BTreeMap::new(),
            created: HashMap::new(),
            extents: BTreeMap::new(),
            compacted: Vec::new(),
            rewritten: Vec::new(),
            retained: Retained::default(),
            trimmed: 0,
            moved: Vec::new(),
            changed: false,
        })
    }

    /// Applies one request. An outer error ends the whole group.
    pub(crate) fn apply(&mut self, work: Work) -> Result<Answer, redb::Error> {
        match work {
            Work::Append(records) => {
                for record in records {
                    self.stage(record)?;
                }
            }
            Work::Ensure(names) => {
                for name in names {
                    self.topic(&name)?;
                }
            }
            Work::Open { group, partitions } => return self.open_cursors(&group, partitions),
            Work::Settle(settle) => return self.settle(settle),
            Work::Move { group, topic, partition, to } => {
                if self.shared.leases.is_held(&group) {
                    return Ok(Err(Failure::Fatal(format!(
                        "group {group} has an open subscription: stop it before moving its cursor"
                    ))));
                }
                self.put_cursor(
                    &group,
                    topic.id,
                    partition,
                    &Cursor { resume_from: to, ahead: vec![] },
                )?;
            }
            Work::Mark { group, marks } => {
                for mark in &marks {
                    self.mark(&group, mark)?;
                }
            }
            Work::Write { group, writes } => {
                let written = self.write_state(&group, &writes)?;
                return Ok(Ok(Outcome { written, ..Outcome::default() }));
            }
            Work::Compact(name) => {
                let topic = self.topic(&name)?;
                self.make_compacted(topic)?;
            }
            Work::Trim { topic, partition, before } => {
                let unfinished = self.trim(&topic, partition, before)?;
                return Ok(Ok(Outcome { unfinished, ..Outcome::default() }));
            }
            Work::Retain => {
                let (retained, unfinished) = self.retain()?;
                return Ok(Ok(Outcome { retained, unfinished, ..Outcome::default() }));
            }
        }
        Ok(Ok(Outcome::default()))
    }

    fn open_cursors(
        &mut self,
        group: &str,
        partitions: Vec<(Arc<Topic>, u32, u64)>,
    ) -> Result<Answer, redb::Error> {
        let mut cursors = Vec::with_capacity(partitions.len());
        for (topic, partition, start) in partitions {
            let cursor = match self.cursor(group, topic.id, partition)? {
                Some(cursor) => cursor,
                None => {
                    // written at once: "from now on" must mean the same after a crash
                    let cursor = Cursor { resume_from: start, ahead: vec![] };
                    self.put_cursor(group, topic.id, partition, &cursor)?;
                    cursor
                }
            };
            cursors.push(cursor);
        }
        Ok(Ok(Outcome { cursors, ..Outcome::default() }))
    }

    fn settle(&mut self, settle: Settle) -> Result<Answer, redb::Error> {
        let Settle { lease, topic, partition, mut cursor, settled, again } = settle;
        if lease.is_fenced() {
            return Ok(Err(Failure::Fatal(format!(
                "the subscription of group {} is closed: its settlements are fenced off",
                lease.group
            ))));
        }
        let stored = self.cursor(&lease.group, topic.id, partition)?.unwrap_or_default();
        // a commit whose fsync failed may have reached the disk after all: what it settled
        // must not produce its outputs again when it is settled again
        let is_new = |settled: &Settled| !(again && stored.is_finished(settled.offset));
        let settled: Vec<_> = settled.into_iter().filter(is_new).collect();
        // first, because it alone may not fit: then nothing is written
        if let Some(stale) = self.settle_state(&lease.group, &settled)? {
            return Ok(Err(stale));
        }
        for Settled { effects, mark, .. } in settled {
            for effect in effects {
                self.stage(effect)?;
            }
            if let Some(mark) = mark {
                self.mark(&lease.group, &mark)?;
            }
        }
        // retention may have moved the stored one past events that are still in work
        cursor.raise_to(stored.resume_from);
        self.put_cursor(&lease.group, topic.id, partition, &cursor)?;
        Ok(Ok(Outcome::default()))
    }

    /// Makes the changes of state of `settled`, all of them or none.
    fn settle_state(
        &mut self,
        group: &str,
        settled: &[Settled],
    ) -> Result<Option<Failure>, redb::Error> {
        if settled.iter().all(|s| s.state.is_none()) {
            return Ok(None);
        }
        let mut draft = self.draft(group)?;
        for Settled { offset, state, .. } in settled {
            let Some(changes) = state else { continue };
            if let Err(reason) = self.change(&mut draft, changes)? {
                return Ok(Some(Failure::Stale { offset: *offset, reason }));
            }
        }
        self.put_state(draft)?;
        Ok(None)
    }

    fn cursor(
        &self,
        group: &str,
        topic: u32,
        partition: u32,
    ) -> Result<Option<Cursor>, redb::Error> {
        let row = self.tables.cursors.get((group, topic, partition))?;
        row.map(|row| Cursor::decode(row.value())).transpose()
    }

    pub(crate) fn put_cursor(
        &mut self,
        group: &str,
        topic: u32,
        partition: u32,
        cursor: &Cursor,
    ) -> Result<(), redb::Error> {
        self.tables.cursors.insert((group, topic, partition), cursor.encode().as_slice())?;
        self.changed = true;
        Ok(())
    }

    fn stage(&mut self, record: Outgoing) -> Result<(), redb::Error> {
        let topic = self.topic(&record.topic)?;
        let partition = batching::partition(record.key.as_deref(), topic.partitions(), self.turn);
        let key = (topic.id, partition);
        self.staged.entry(key).or_insert_with(|| (topic, Vec::new())).1.push(record);
        Ok(())
    }

    fn topic(&mut self, name: &str) -> Result<Arc<Topic>, redb::Error> {
        if let Some(topic) =
            self.shared.catalog.get(name).or_else(|| self.created.get(name).cloned())
        {
            return Ok(topic);
        }
        let id = (self.shared.catalog.len() + self.created.len()) as u32;
        let topic = Topic::new(name.into(), id, self.shared.config.partitions_of(name));
        self.tables.topics.insert(name, (id, topic.partitions()))?;
        for partition in 0..topic.partitions() {
            self.tables.partitions.insert((id, partition), Extent::default().row())?;
        }
        self.created.insert(Arc::clone(&topic.name), Arc::clone(&topic));
        Ok(topic)
    }

    /// The partition as this transaction leaves it so far.
    pub(crate) fn extent(&self, topic: &Topic, partition: u32) -> Extent {
        let changed = self.extents.get(&(topic.id, partition));
        changed.map_or_else(|| topic.extent(partition), |(_, extent)| *extent)
    }

    pub(crate) fn set_extent(&mut self, topic: &Arc<Topic>, partition: u32, extent: Extent) {
        self.extents.insert((topic.id, partition), (Arc::clone(topic), extent));
    }

    /// Writes what was staged. The transaction can then be committed; `None` when it
    /// has changed nothing.
    pub(crate) fn finish(mut self) -> Result<Option<Committed>, redb::Error> {
        let mut batches = Vec::new();
        for ((topic_id, partition), (topic, records)) in std::mem::take(&mut self.staged) {
            let mut extent = self.extent(&topic, partition);
            extent.last_ms = extent.last_ms.max(self.now_ms);
            for encoded in batching::encode(&records, extent.end, extent.last_ms) {
                let batch = Batch::trusted(encoded.clone());
                let key = (topic_id, partition, batch.base);
                let length = encoded.len() as u64;
                self.tables.batches.insert(key, encoded.as_ref())?;
                self.tables.index.insert(key, (batch.count, length, batch.timestamp_ms))?;
                extent.end = batch.end();
                extent.bytes += length;
                batches.push(((topic_id, partition), batch));
            }
            self.set_extent(&topic, partition, extent);
        }
        if self.extents.is_empty() && self.created.is_empty() && !self.changed {
            return Ok(None);
        }
        let mut extents = Vec::with_capacity(self.extents.len());
        for (key, (topic, extent)) in self.extents {
            self.tables.partitions.insert(key, extent.row())?;
            extents.push((key, topic, extent));
        }
        Ok(Some(Committed {
            created: self.created.into_values().collect(),
            extents,
            batches,
            compacted: self.compacted,
            rewritten: self.rewritten,
            retained: self.retained,
            trimmed: self.trimmed,
            moved: self.moved,
        }))
    }
}

impl Committed {
    /// Tells readers, and wakes those that wait.
    pub(crate) fn publish(self, shared: &Shared) {
        let stats = &shared.stats;
        stats.commits.inc();
        for key in self.rewritten {
            shared.head.forget(key);
        }
        for ((topic, partition), batch) in self.batches {
            stats.records.inc_by(u64::from(batch.count));
            stats.bytes.inc_by(batch.bytes() as u64);
            // cached before it is announced: a follower at the head need not read the file
            shared.head.add(topic, partition, batch);
        }
        for topic in self.compacted {
            topic.set_compacted();
        }
        for ((_, partition), topic, extent) in self.extents {
            topic.set_extent(partition, extent);
            topic.appended.send_replace(());
        }
        shared.catalog.add(self.created);
        self.retained.count(stats);
        stats.trimmed.inc_by(self.trimmed);
        for moved in self.moved {
            stats.cursors_moved.inc();
            stats.expired_unread.inc_by(moved.lost);
            warn!(
                group = moved.group,
                topic = &*moved.topic,
                partition = moved.partition,
                lost = moved.lost,
                resume_from = moved.resume_from,
                "events were deleted that the group had not finished"
            );
        }
    }
}
