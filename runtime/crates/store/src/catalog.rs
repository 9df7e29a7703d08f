//! What is committed, as seen without touching the file: topics, their extents, and
//! the newest batches. Only the writer changes it, after each commit.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use parking_lot::{Mutex, RwLock};
use redb::{ReadTransaction, ReadableTable};
use sandbar_core::TopicInfo;
use tokio::sync::watch;

use crate::{
    codec::Batch,
    schema::{BatchKey, COMPACTED, Extent, PARTITIONS, TOPICS},
};

/// A topic.
#[derive(Debug)]
pub(crate) struct Topic {
    pub(crate) name: Arc<str>,
    pub(crate) id: u32,
    extents: Vec<Mutex<Extent>>,
    /// It keeps the newest record of each key and may have gaps.
    compacted: AtomicBool,
    /// Wakes followers after each commit that appended to any partition.
    pub(crate) appended: watch::Sender<()>,
}

impl Topic {
    pub(crate) fn new(name: Arc<str>, id: u32, partitions: u32) -> Arc<Self> {
        let extents = (0..partitions).map(|_| Mutex::default()).collect();
        let compacted = AtomicBool::new(false);
        Arc::new(Self { name, id, extents, compacted, appended: watch::Sender::new(()) })
    }

    pub(crate) fn is_compacted(&self) -> bool {
        self.compacted.load(Ordering::Acquire)
    }

    /// For good: there is no way back.
    pub(crate) fn set_compacted(&self) {
        self.compacted.store(true, Ordering::Release);
    }

    pub(crate) fn partitions(&self) -> u32 {
        self.extents.len() as u32
    }

    pub(crate) fn extent(&self, partition: u32) -> Extent {
        *self.extents[partition as usize].lock()
    }

    pub(crate) fn set_extent(&self, partition: u32, extent: Extent) {
        *self.extents[partition as usize].lock() = extent;
    }

    /// Bytes of all partitions.
    pub(crate) fn bytes(&self) -> u64 {
        self.extents.iter().map(|e| e.lock().bytes).sum()
    }

    pub(crate) fn info(&self) -> TopicInfo {
        let events = self.extents.iter().map(|e| *e.lock()).map(|e| e.end - e.first).sum();
        TopicInfo {
            name: self.name.to_string(),
            partitions: self.partitions(),
            events: Some(events),
            bytes: Some(self.bytes()),
        }
    }
}

/// All topics.
#[derive(Debug, Default)]
pub(crate) struct Catalog {
    topics: RwLock<BTreeMap<Arc<str>, Arc<Topic>>>,
    /// Wakes sources whose globs may match a new topic.
    pub(crate) grown: watch::Sender<()>,
}

impl Catalog {
    pub(crate) fn get(&self, name: &str) -> Option<Arc<Topic>> {
        self.topics.read().get(name).cloned()
    }

    pub(crate) fn all(&self) -> Vec<Arc<Topic>> {
        self.topics.read().values().cloned().collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.topics.read().len()
    }

    pub(crate) fn add(&self, topics: impl IntoIterator<Item = Arc<Topic>>) {
        let mut added = false;
        let mut known = self.topics.write();
        for topic in topics {
            known.entry(Arc::clone(&topic.name)).or_insert(topic);
            added = true;
        }
        drop(known);
        if added {
            self.grown.send_replace(());
        }
    }

    /// Takes over what the file says: at open, and when a commit failed in a way that
    /// leaves open whether it took place.
    pub(crate) fn load(&self, tx: &ReadTransaction) -> Result<(), redb::Error> {
        let mut topics = Vec::new();
        for row in tx.open_table(TOPICS)?.iter()? {
            let (name, row) = row?;
            let (id, partitions) = row.value();
            let known = self.get(name.value());
            topics.push(known.unwrap_or_else(|| Topic::new(name.value().into(), id, partitions)));
        }
        let extents = tx.open_table(PARTITIONS)?;
        let compacted = tx.open_table(COMPACTED)?;
        for topic in &topics {
            if compacted.get((topic.id, 0))?.is_some() {
                topic.set_compacted();
            }
            for partition in 0..topic.partitions() {
                let row = extents.get((topic.id, partition))?.map(|row| row.value());
                topic.set_extent(partition, row.map(Extent::from_row).unwrap_or_default());
            }
            topic.appended.send_replace(());
        }
        self.add(topics);
        Ok(())
    }
}

/// The newest batches in memory, so that followers at the head read no file and share
/// one copy. The oldest go first.
#[derive(Debug)]
pub(crate) struct HeadCache {
    limit: usize,
    cached: Mutex<Cached>,
}

#[derive(Debug, Default)]
struct Cached {
    batches: BTreeMap<BatchKey, Batch>,
    order: VecDeque<BatchKey>,
    bytes: usize,
}

impl HeadCache {
    /// A cache of at most `limit` bytes.
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, cached: Mutex::default() }
    }

    pub(crate) fn add(&self, topic: u32, partition: u32, batch: Batch) {
        if batch.bytes() > self.limit {
            return;
        }
        let cached = &mut *self.cached.lock();
        let key = (topic, partition, batch.base);
        cached.bytes += batch.bytes();
        cached.order.push_back(key);
        cached.batches.insert(key, batch);
        while cached.bytes > self.limit {
            let Some(oldest) = cached.order.pop_front() else { break };
            let removed = cached.batches.remove(&oldest);
            cached.bytes -= removed.map_or(0, |b| b.bytes());
        }
    }

    /// Lets go of a batch that is no longer in the file.
    pub(crate) fn forget(&self, key: BatchKey) {
        let cached = &mut *self.cached.lock();
        cached.bytes -= cached.batches.remove(&key).map_or(0, |b| b.bytes());
    }

    /// The batch that holds `offset`.
    pub(crate) fn get(&self, topic: u32, partition: u32, offset: u64) -> Option<Batch> {
        let cached = self.cached.lock();
        let keys = (topic, partition, 0)..=(topic, partition, offset);
        let (_, batch) = cached.batches.range(keys).next_back()?;
        (batch.end() > offset).then(|| batch.clone())
    }
}

#[cfg(test)]
mod tests {
    use sandbar_core::Outgoing;

    use super::*;
    use crate::codec::BatchWriter;

    fn batch(base: u64, records: u32) -> Batch {
        let mut writer = BatchWriter::new(base, 0, 0);
        for _ in 0..records {
            writer.push(&Outgoing::new("t", vec![0; 100]));
        }
        Batch::trusted(writer.finish())
    }

    #[test]
    fn the_cache_keeps_the_newest_batches_within_its_limit() {
        let limit = 3 * batch(0, 2).bytes();
        let cache = HeadCache::new(limit);
        for base in (0..20).step_by(2) {
            cache.add(1, 0, batch(base, 2));
            assert!(cache.cached.lock().bytes <= limit);
        }
        assert!(cache.get(1, 0, 13).is_none());
        for offset in 14..20 {
            let found = cache.get(1, 0, offset).expect("one of the newest three batches");
            assert!((found.base..found.end()).contains(&offset));
        }
        assert!(cache.get(1, 0, 20).is_none() && cache.get(1, 1, 19).is_none());
        cache.add(1, 0, batch(20, 50));
        assert!(cache.get(1, 0, 19).is_some(), "a batch beyond the limit must not empty the cache");
    }
}
