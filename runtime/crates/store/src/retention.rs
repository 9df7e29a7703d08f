//! Deleting what is old, too much, or asked for, and moving cursors that stood in it.

use std::{collections::VecDeque, sync::Arc};

use redb::ReadableTable;

use crate::{
    catalog::Topic, schema::Cursor, stats::LogStats, transaction::Transaction, writer::Shared,
};

/// Batches of one partition that one transaction deletes at most, so that appends
/// never wait long for it.
const SLICE: usize = 1024;

/// What retention deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Retained {
    /// Batches deleted.
    pub batches: u64,
    /// Events deleted.
    pub events: u64,
    /// Bytes of batches deleted; the file reuses their pages.
    pub bytes: u64,
    /// Events of compacted topics removed because a newer one has their key.
    pub superseded: u64,
    /// Marks removed because they have expired.
    pub marks: u64,
    /// Keys of state removed because they have expired.
    pub state: u64,
}

impl Retained {
    /// Counts another run in.
    pub(crate) fn add(&mut self, other: Self) {
        self.batches += other.batches;
        self.events += other.events;
        self.bytes += other.bytes;
        self.superseded += other.superseded;
        self.marks += other.marks;
        self.state += other.state;
    }

    /// Counts it in what the log shows.
    pub(crate) fn count(self, stats: &LogStats) {
        stats.expired.inc_by(self.events);
        stats.superseded.inc_by(self.superseded);
        stats.marks_expired.inc_by(self.marks);
        stats.state_expired.inc_by(self.state);
    }
}

/// A cursor that stood before the first retained event.
pub(crate) struct MovedCursor {
    pub(crate) group: String,
    pub(crate) topic: Arc<str>,
    pub(crate) partition: u32,
    pub(crate) resume_from: u64,
    /// Events deleted that the group had not finished.
    pub(crate) lost: u64,
}

/// Whether a topic has outgrown its limit so far that it must not wait for the next
/// regular run.
pub(crate) fn is_overdue(shared: &Shared) -> bool {
    shared.catalog.all().iter().filter(|topic| !topic.is_compacted()).any(|topic| {
        let size = shared.config.retention_of(&topic.name).size;
        size.is_some_and(|size| topic.bytes() > size.saturating_add(size / 8))
    })
}

/// A row of the batch index.
#[derive(Debug, Clone, Copy)]
struct Row {
    base: u64,
    count: u32,
    bytes: u64,
    timestamp_ms: u64,
}

impl Row {
    fn end(&self) -> u64 {
        self.base + u64::from(self.count)
    }
}

impl Transaction<'_, '_> {
    /// Deletes one slice of what every topic's retention allows to, and of the marks and the
    /// state that have expired; also returns whether there may be more.
    pub(crate) fn retain(&mut self) -> Result<(Retained, bool), redb::Error> {
        let (marks, more_marks) = self.expire_marks()?;
        let (state, more_state) = self.expire_state()?;
        let mut unfinished = more_marks || more_state;
        let mut all = Retained { marks, state, ..Retained::default() };
        for topic in self.shared.catalog.all() {
            let (retained, more) = match topic.is_compacted() {
                true => self.compact(&topic)?,
                false => self.retain_topic(&topic)?,
            };
            all.add(retained);
            unfinished |= more;
        }
        self.retained.add(all);
        Ok((all, unfinished))
    }

    /// Deletes one slice of the events before a position; returns whether there is more.
    pub(crate) fn trim(
        &mut self,
        topic: &Arc<Topic>,
        partition: u32,
        before: u64,
    ) -> Result<bool, redb::Error> {
        let first = self.extent(topic, partition).first;
        let rows = self.oldest_batches(topic.id, partition)?;
        let whole: Vec<Row> = rows.into_iter().take_while(|row| row.end() <= before).collect();
        for row in &whole {
            self.delete(topic, partition, *row)?;
        }
        let unfinished = whole.len() == SLICE;
        let mut extent = self.extent(topic, partition);
        if !unfinished && extent.first < before {
            // the batch that holds the position stays, and nobody reads its beginning any more
            extent.first = before;
            self.set_extent(topic, partition, extent);
        }
        self.trimmed += extent.first.saturating_sub(first);
        self.move_cursors(topic)?;
        Ok(unfinished)
    }

    fn retain_topic(&mut self, topic: &Arc<Topic>) -> Result<(Retained, bool), redb::Error> {
        let retention = self.shared.config.retention_of(&topic.name);
        let oldest = retention.age.map(|age| {
            let age = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
            self.now_ms.saturating_sub(age)
        });
        let mut queues = Vec::new();
        for partition in 0..topic.partitions() {
            queues.push(VecDeque::from(self.oldest_batches(topic.id, partition)?));
        }
        let mut total: u64 = (0..topic.partitions()).map(|p| self.extent(topic, p).bytes).sum();
        let mut deleted = Retained::default();
        loop {
            // the oldest batch of the topic, whichever partition it lies in
            let oldest_of =
                |(p, q): (usize, &VecDeque<Row>)| q.front().map(|r| (r.timestamp_ms, p));
            let Some((timestamp, partition)) =
                queues.iter().enumerate().filter_map(oldest_of).min()
            else {
                break;
            };
            let row = queues[partition][0];
            let too_old = oldest.is_some_and(|oldest| timestamp < oldest);
            let too_much = retention.size.is_some_and(|size| total - row.bytes >= size);
            if !(too_old || too_much) || deleted.batches >= SLICE as u64 {
                break;
            }
            queues[partition].pop_front();
            total -= row.bytes;
            let events = self.delete(topic, partition as u32, row)?;
            deleted.add(Retained { batches: 1, events, bytes: row.bytes, ..Retained::default() });
        }
        if deleted.batches > 0 {
            self.move_cursors(topic)?;
        }
        Ok((deleted, deleted.batches == SLICE as u64))
    }

    fn oldest_batches(&self, topic: u32, partition: u32) -> Result<Vec<Row>, redb::Error> {
        let rows = self.tables.index.range((topic, partition, 0)..=(topic, partition, u64::MAX))?;
        let mut oldest = Vec::new();
        for row in rows.take(SLICE) {
            let (key, row) = row?;
            let (count, bytes, timestamp_ms) = row.value();
            oldest.push(Row { base: key.value().2, count, bytes, timestamp_ms });
        }
        Ok(oldest)
    }

    /// Deletes the first batch of a partition; returns how many readable events it held.
    fn delete(&mut self, topic: &Arc<Topic>, partition: u32, row: Row) -> Result<u64, redb::Error> {
        let key = (topic.id, partition, row.base);
        self.tables.batches.remove(key)?;
        self.tables.index.remove(key)?;
        let mut extent = self.extent(topic, partition);
        // a part of it may have been trimmed before
        let events = row.end() - extent.first.max(row.base);
        extent.first = row.end();
        extent.bytes -= row.bytes;
        self.set_extent(topic, partition, extent);
        Ok(events)
    }

    fn move_cursors(&mut self, topic: &Arc<Topic>) -> Result<(), redb::Error> {
        let mut behind = Vec::new();
        for row in self.tables.cursors.iter()? {
            let (key, value) = row?;
            let (group, id, partition) = key.value();
            if id != topic.id {
                continue;
            }
            let mut cursor = Cursor::decode(value.value())?;
            let first = self.extent(topic, partition).first;
            if cursor.resume_from < first {
                let lost = cursor.raise_to(first);
                behind.push((group.to_owned(), partition, cursor, lost));
            }
        }
        for (group, partition, cursor, lost) in behind {
            self.put_cursor(&group, topic.id, partition, &cursor)?;
            let (topic, resume_from) = (Arc::clone(&topic.name), cursor.resume_from);
            self.moved.push(MovedCursor { group, topic, partition, resume_from, lost });
        }
        Ok(())
    }
}
