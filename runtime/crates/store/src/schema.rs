//! Tables of the file, and what their rows hold.
//!
//! Adding a table needs no new layout: one that a file lacks is made when it is opened.
//! Changing a table does.

use std::collections::HashSet;

use redb::{Database, ReadableDatabase, TableDefinition, TableHandle, WriteTransaction};

/// Layout that this version reads and writes.
pub(crate) const LAYOUT: u32 = 1;
const LAYOUT_KEY: &str = "layout";

/// Topic id, partition.
pub(crate) type PartitionKey = (u32, u32);
/// Topic id, partition, offset of the first record.
pub(crate) type BatchKey = (u32, u32, u64);

/// Facts about the file: only its layout so far.
const META: TableDefinition<'_, &str, u32> = TableDefinition::new("meta");
/// Name -> id, number of partitions.
pub(crate) const TOPICS: TableDefinition<'_, &str, (u32, u32)> = TableDefinition::new("topics");
/// The row of [`Extent`].
pub(crate) const PARTITIONS: TableDefinition<'_, PartitionKey, (u64, u64, u64, u64)> =
    TableDefinition::new("partitions");
/// Encoded batches, see `codec`.
pub(crate) const BATCHES: TableDefinition<'_, BatchKey, &[u8]> = TableDefinition::new("batches");
/// Number of records, bytes and timestamp (ms) of each batch: found without
/// touching the batches themselves by retention and reads from a time.
pub(crate) const INDEX: TableDefinition<'_, BatchKey, (u32, u64, u64)> =
    TableDefinition::new("index");
/// Group, topic id, partition -> encoded [`Cursor`].
pub(crate) const CURSORS: TableDefinition<'_, (&str, u32, u32), &[u8]> =
    TableDefinition::new("cursors");
/// Partitions of compacted topics -> what [`Cleaned`](crate::compaction::Cleaned) says.
pub(crate) const COMPACTED: TableDefinition<'_, PartitionKey, (u64, u64)> =
    TableDefinition::new("compacted");
/// Group, event (see `marks`) -> expiry of the mark, milliseconds since the Unix epoch.
pub(crate) const MARKS: TableDefinition<'_, (&str, &[u8]), u64> = TableDefinition::new("marks");
/// Expiry, group, event of each mark, in the order in which they go.
pub(crate) const EXPIRIES: TableDefinition<'_, (u64, &str, &[u8]), ()> =
    TableDefinition::new("expiries");

/// Group, key -> version, expiry and value (see `state`).
pub(crate) const STATE: TableDefinition<'_, (&str, &str), &[u8]> = TableDefinition::new("state");
/// Expiry, group, key of what expires, in the order in which it goes.
pub(crate) const STATE_EXPIRIES: TableDefinition<'_, (u64, &str, &str), ()> =
    TableDefinition::new("state-expiries");
/// Group -> keys and bytes of its state, and the newest version given out in it.
pub(crate) const STATE_SIZES: TableDefinition<'_, &str, (u64, u64, u64)> =
    TableDefinition::new("state-sizes");

/// What a partition holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Extent {
    /// First retained offset.
    pub(crate) first: u64,
    /// Offset of the next record to be appended.
    pub(crate) end: u64,
    /// Bytes of all retained batches.
    pub(crate) bytes: u64,
    /// Timestamp of the newest batch; the clock may go back, timestamps never do.
    pub(crate) last_ms: u64,
}

impl Extent {
    pub(crate) fn row(self) -> (u64, u64, u64, u64) {
        (self.first, self.end, self.bytes, self.last_ms)
    }

    pub(crate) fn from_row((first, end, bytes, last_ms): (u64, u64, u64, u64)) -> Self {
        Self { first, end, bytes, last_ms }
    }
}

/// Where a group stands in one partition.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Cursor {
    /// Everything before is terminal.
    pub(crate) resume_from: u64,
    /// Terminal beyond that: half-open ranges, in order, disjoint.
    pub(crate) ahead: Vec<(u64, u64)>,
}

impl Cursor {
    pub(crate) fn is_finished(&self, offset: u64) -> bool {
        offset < self.resume_from || self.ahead.iter().any(|r| (r.0..r.1).contains(&offset))
    }

    /// Moves up to `first` if it lies before; returns the events passed over that
    /// were not terminal.
    pub(crate) fn raise_to(&mut self, first: u64) -> u64 {
        if first <= self.resume_from {
            return 0;
        }
        let done = |r: &(u64, u64)| r.1.min(first).saturating_sub(r.0);
        let passed = first - self.resume_from - self.ahead.iter().map(done).sum::<u64>();
        self.resume_from = first;
        self.ahead.retain(|r| r.1 > first);
        if self.ahead.first().is_some_and(|r| r.0 <= first) {
            self.resume_from = self.ahead.remove(0).1;
        }
        passed
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let ranges = self.ahead.iter().flat_map(|r| [r.0, r.1]);
        std::iter::once(self.resume_from).chain(ranges).flat_map(u64::to_le_bytes).collect()
    }

    pub(crate) fn decode(row: &[u8]) -> Result<Self, redb::Error> {
        let malformed = || redb::Error::Corrupted("a cursor is malformed".into());
        let (numbers, rest) = row.as_chunks::<8>();
        let mut numbers = numbers.iter().map(|n| u64::from_le_bytes(*n));
        let resume_from = numbers.next().filter(|_| rest.is_empty()).ok_or_else(malformed)?;
        let mut ahead = Vec::new();
        while let Some(from) = numbers.next() {
            ahead.push((from, numbers.next().ok_or_else(malformed)?));
        }
        Ok(Self { resume_from, ahead })
    }
}

/// Creates the tables that the file lacks, or returns the layout of a file that another
/// version wrote.
pub(crate) fn prepare(db: &Database) -> Result<Result<(), u32>, redb::Error> {
    let read = db.begin_read()?;
    let found: HashSet<String> = read.list_tables()?.map(|t| t.name().to_owned()).collect();
    if !found.is_empty() {
        let layout = read.open_table(META)?.get(LAYOUT_KEY)?.map_or(0, |v| v.value());
        if layout != LAYOUT {
            return Ok(Err(layout));
        }
        // those that came later; without them it is an empty file, or an older one
        let later = [COMPACTED.name(), MARKS.name(), EXPIRIES.name()];
        let latest = [STATE.name(), STATE_EXPIRIES.name(), STATE_SIZES.name()];
        if later.iter().chain(&latest).all(|table| found.contains(*table)) {
            return Ok(Ok(()));
        }
    }
    drop(read);
    let write = begin(db)?;
    write.open_table(META)?.insert(LAYOUT_KEY, LAYOUT)?;
    // opening a table that is not there creates it
    write.open_table(TOPICS)?;
    write.open_table(PARTITIONS)?;
    write.open_table(BATCHES)?;
    write.open_table(INDEX)?;
    write.open_table(CURSORS)?;
    write.open_table(COMPACTED)?;
    write.open_table(MARKS)?;
    write.open_table(EXPIRIES)?;
    write.open_table(STATE)?;
    write.open_table(STATE_EXPIRIES)?;
    write.open_table(STATE_SIZES)?;
    write.commit()?;
    Ok(Ok(()))
}

/// Begins a transaction whose commit is fsynced and leaves a file that opens quickly
/// after a crash: without quick repair the whole file is read again (docs/storage.md).
pub(crate) fn begin(db: &Database) -> Result<WriteTransaction, redb::Error> {
    let mut write = db.begin_write()?;
    write.set_quick_repair(true);
    Ok(write)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cursor() -> impl Strategy<Value = Cursor> {
        (0..50u64, proptest::collection::vec((1..9u64, 1..9u64), 0..6)).prop_map(
            |(resume_from, steps)| {
                let mut at = resume_from;
                let step = |(gap, length): (u64, u64)| {
                    let from = at + gap;
                    at = from + length;
                    (from, at)
                };
                Cursor { resume_from, ahead: steps.into_iter().map(step).collect() }
            },
        )
    }

    proptest! {
        #[test]
        fn a_cursor_comes_back_from_its_row(cursor in cursor()) {
            prop_assert_eq!(Cursor::decode(&cursor.encode()).unwrap(), cursor);
        }

        #[test]
        fn c3_raising_a_cursor_forgets_nothing_that_was_finished(
            cursor in cursor(),
            first in 0..150u64,
        ) {
            let mut raised = cursor.clone();
            let passed = raised.raise_to(first);
            let open = (0..first).filter(|o| !cursor.is_finished(*o)).count() as u64;
            prop_assert_eq!(passed, open);
            for offset in 0..200 {
                let finished = offset < first || cursor.is_finished(offset);
                prop_assert_eq!(raised.is_finished(offset), finished, "offset {}", offset);
            }
            prop_assert!(raised.ahead.iter().all(|r| r.0 > raised.resume_from));
        }
    }

    #[test]
    fn a_malformed_cursor_is_an_error() {
        for row in [&[][..], &[0; 7], &[0; 9], &[0; 16]] {
            assert!(Cursor::decode(row).is_err(), "{row:?}");
        }
    }
}
