//! Compacted topics keep the newest record of each key, however old it is.
//!
//! Once enough was appended, a pass notes the newest offset of each key that it finds
//! behind the end of the last pass, and then goes over the whole partition and removes
//! what these supersede. It does both in slices, as part of retention, and begins anew
//! after a restart. What it leaves of a batch are batches of their own: a record keeps its
//! offset, so such a partition has gaps.

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;
use redb::ReadableTable;
use sandbar_core::{Event, Outgoing};

use crate::{
    catalog::Topic,
    codec::{Batch, BatchWriter},
    retention::Retained,
    schema::{BatchKey, COMPACTED, PartitionKey},
    transaction::Transaction,
};

/// Bytes of batches that one transaction goes over, or a batch more.
const SLICE_BYTES: usize = 1 << 20;
/// Bytes to be appended before a pass is worth it; half of what the last one left, if
/// that is more, so that the work is in proportion to what is appended.
const LEAST_DIRT: u64 = 64 << 10;
/// Keys that a pass notes at most: 6 MiB. Records behind them wait for the next pass.
const MOST_KEYS: usize = 1 << 18;
/// How long a tombstone stays, so that whoever follows hears of it; Kafka's default for
/// `delete.retention.ms`.
const TOMBSTONE_MS: u64 = 24 * 3600 * 1000;

/// How far the last pass over a partition came.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Cleaned {
    /// Before this offset no record is superseded by another one before it.
    until: u64,
    /// Bytes that were left.
    bytes: u64,
}

/// The passes under way.
pub(crate) type Passes = HashMap<PartitionKey, Pass>;

/// A pass over one partition.
#[derive(Debug)]
pub(crate) struct Pass {
    /// The newest offset of each key, by its hash.
    newest: HashMap<[u8; 16], u64>,
    /// It goes up to here; what is appended meanwhile is not looked at.
    until: u64,
    step: Step,
}

/// What a pass does next, and from which offset on.
#[derive(Debug, Clone, Copy)]
enum Step {
    Note(u64),
    Remove(u64),
}

fn hash(key: &[u8]) -> [u8; 16] {
    let mut hash = [0; 16];
    hash.copy_from_slice(&blake3::hash(key).as_bytes()[..16]);
    hash
}

impl Pass {
    fn note(&mut self, event: &Event) {
        if let Some(key) = &event.key {
            self.newest.insert(hash(key), event.position);
        }
    }

    fn keeps(&self, event: &Event, now_ms: u64) -> bool {
        let Some(key) = &event.key else { return true };
        let superseded = self.newest.get(&hash(key)).is_some_and(|at| *at > event.position);
        let settled = event.payload.is_none() && event.timestamp_ms + TOMBSTONE_MS < now_ms;
        // a partition ends in a record: who reads up to its end must arrive there
        event.position + 1 == self.until || !(superseded || settled)
    }
}

impl Transaction<'_, '_> {
    /// Makes a topic compacted from now on.
    pub(crate) fn make_compacted(&mut self, topic: Arc<Topic>) -> Result<(), redb::Error> {
        let mut table = self.tx.open_table(COMPACTED)?;
        for partition in 0..topic.partitions() {
            let key = (topic.id, partition);
            if table.get(key)?.is_none() {
                table.insert(key, (0, 0))?;
                self.changed = true;
            }
        }
        self.compacted.push(topic);
        Ok(())
    }

    /// One slice of the passes that a compacted topic is due; also returns whether there is
    /// more to do.
    pub(crate) fn compact(&mut self, topic: &Arc<Topic>) -> Result<(Retained, bool), redb::Error> {
        let (mut all, mut unfinished) = (Retained::default(), false);
        for partition in 0..topic.partitions() {
            let key = (topic.id, partition);
            let Some(mut pass) = self.pass(topic, partition)? else { continue };
            match pass.step {
                Step::Note(from) => self.note(key, from, &mut pass)?,
                Step::Remove(from) => all.add(self.remove(topic, partition, from, &mut pass)?),
            }
            if matches!(pass.step, Step::Remove(from) if from >= pass.until) {
                let (until, bytes) = (pass.until, self.extent(topic, partition).bytes);
                self.tx.open_table(COMPACTED)?.insert(key, (until, bytes))?;
                self.changed = true;
            } else {
                self.passes.insert(key, pass);
                unfinished = true;
            }
        }
        Ok((all, unfinished))
    }

    /// The pass under way, or a new one if it is worth it.
    fn pass(&mut self, topic: &Topic, partition: u32) -> Result<Option<Pass>, redb::Error> {
        let key = (topic.id, partition);
        if let Some(pass) = self.passes.remove(&key) {
            return Ok(Some(pass));
        }
        let extent = self.extent(topic, partition);
        let row = self.tx.open_table(COMPACTED)?.get(key)?.map(|row| row.value());
        let cleaned = row.map_or_else(Cleaned::default, |(until, bytes)| Cleaned { until, bytes });
        let dirt = extent.bytes.saturating_sub(cleaned.bytes);
        let worth_it = dirt >= LEAST_DIRT.max(cleaned.bytes / 2);
        Ok(worth_it.then(|| Pass {
            newest: HashMap::new(),
            until: extent.end,
            step: Step::Note(cleaned.until),
        }))
    }

    fn note(&self, key: PartitionKey, from: u64, pass: &mut Pass) -> Result<(), redb::Error> {
        let (batches, mut next) = self.slice(key, from, pass.until)?;
        for batch in batches {
            for event in batch.events(&Arc::from(""), key.1, 0).flatten() {
                pass.note(&event);
            }
            if pass.newest.len() >= MOST_KEYS {
                pass.until = batch.end();
                next = pass.until;
                break;
            }
        }
        pass.step = if next < pass.until { Step::Note(next) } else { Step::Remove(0) };
        Ok(())
    }

    fn remove(
        &mut self,
        topic: &Arc<Topic>,
        partition: u32,
        from: u64,
        pass: &mut Pass,
    ) -> Result<Retained, redb::Error> {
        let mut removed = Retained::default();
        let (batches, next) = self.slice((topic.id, partition), from, pass.until)?;
        for batch in batches {
            let events = batch.events(&topic.name, partition, 0).flatten();
            let kept: Vec<_> = events.filter(|e| pass.keeps(e, self.now_ms)).collect();
            // less than all of a damaged batch can be read: it stays, for somebody to see
            let gone = u64::from(batch.count) - kept.len() as u64;
            let readable = batch.events(&topic.name, partition, 0).all(|event| event.is_ok());
            if gone > 0 && readable {
                removed.superseded += gone;
                self.rewrite(topic, partition, &batch, &kept)?;
            }
        }
        pass.step = Step::Remove(next);
        Ok(removed)
    }

    /// Batches from offset `from` on, and where the next slice begins.
    fn slice(
        &self,
        (topic, partition): PartitionKey,
        from: u64,
        until: u64,
    ) -> Result<(Vec<Batch>, u64), redb::Error> {
        let (mut batches, mut bytes) = (Vec::new(), 0);
        let rows = self
            .tables
            .batches
            .range::<BatchKey>((topic, partition, from)..(topic, partition, until))?;
        for row in rows {
            let (key, value) = row?;
            if bytes >= SLICE_BYTES {
                return Ok((batches, key.value().2));
            }
            bytes += value.value().len();
            // a damaged one is left alone, for its reader to complain of
            batches.extend(Batch::check(Bytes::copy_from_slice(value.value()), key.value().2));
        }
        Ok((batches, until))
    }

    /// Puts batches of `kept` in the place of `batch`.
    fn rewrite(
        &mut self,
        topic: &Arc<Topic>,
        partition: u32,
        batch: &Batch,
        kept: &[Event],
    ) -> Result<(), redb::Error> {
        let key = (topic.id, partition, batch.base);
        self.tables.batches.remove(key)?;
        self.tables.index.remove(key)?;
        self.rewritten.push(key);
        let mut extent = self.extent(topic, partition);
        extent.bytes -= batch.bytes() as u64;
        for run in kept.chunk_by(|a, b| a.position + 1 == b.position) {
            let mut writer = BatchWriter::new(run[0].position, batch.timestamp_ms, 0);
            run.iter().for_each(|event| writer.push(&record(event)));
            let (key, bytes) = ((topic.id, partition, run[0].position), writer.finish());
            let row = (run.len() as u32, bytes.len() as u64, batch.timestamp_ms);
            self.tables.batches.insert(key, &*bytes)?;
            self.tables.index.insert(key, row)?;
            extent.bytes += bytes.len() as u64;
        }
        self.set_extent(topic, partition, extent);
        Ok(())
    }
}

/// The record that `event` was; its attributes are among its headers.
fn record(event: &Event) -> Outgoing {
    Outgoing {
        connection: None,
        topic: event.topic.clone(),
        key: event.key.clone(),
        payload: event.payload.clone(),
        headers: event.headers.to_vec(),
        attributes: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tombstone_goes_after_a_day_and_the_last_record_never() {
        let record = |position, payload: Option<&'static str>| Event {
            topic: "t".into(),
            partition: 0,
            position,
            key: Some("k".into()),
            payload: payload.map(Bytes::from),
            headers: Arc::default(),
            timestamp_ms: 1000,
            attributes: Arc::default(),
        };
        let mut pass = Pass { newest: HashMap::new(), until: 10, step: Step::Note(0) };
        for position in [3, 5] {
            pass.note(&record(position, None));
        }
        let later = 1000 + TOMBSTONE_MS;
        assert!(!pass.keeps(&record(3, Some("superseded")), 0));
        assert!(pass.keeps(&record(5, None), later) && !pass.keeps(&record(5, None), later + 1));
        assert!(pass.keeps(&record(5, Some("the newest")), u64::MAX));
        assert!(pass.keeps(&record(9, None), u64::MAX), "the end must be reached");
        pass.note(&record(20, Some("appended later")));
        assert!(pass.keeps(&Event { key: None, ..record(3, None) }, u64::MAX));
    }
}
