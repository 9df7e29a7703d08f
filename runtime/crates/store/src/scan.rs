//! Reading one partition forward, from memory at the head and from the file behind it.

use std::{collections::VecDeque, sync::Arc};

use sandbar_core::Event;

use crate::{
    catalog::Topic,
    codec::{Batch, Events},
    error::Failure,
    storage,
    writer::Shared,
};

/// Bytes read from the file at a time, or one batch if that is larger. This is all
/// that a slow follower holds.
const CHUNK: usize = 512 * 1024;

/// A position in one partition, and what was read ahead of it.
pub(crate) struct Scan {
    shared: Arc<Shared>,
    pub(crate) topic: Arc<Topic>,
    pub(crate) partition: u32,
    /// Offset of the next event to hand out.
    next: u64,
    /// Batches that begin after `current`.
    ahead: VecDeque<Batch>,
    current: Option<Events>,
}

impl Scan {
    pub(crate) fn new(shared: Arc<Shared>, topic: Arc<Topic>, partition: u32, next: u64) -> Self {
        Self { shared, topic, partition, next, ahead: VecDeque::new(), current: None }
    }

    pub(crate) fn next_offset(&self) -> u64 {
        self.next
    }

    /// Up to `max` events before offset `end` of what is in memory or has been read.
    /// Empty when all of it was handed out.
    pub(crate) fn take(&mut self, max: usize, end: u64) -> Result<Vec<Event>, Failure> {
        let mut events = Vec::new();
        while events.len() < max && self.next < end {
            let Some(current) = &mut self.current else {
                let Some(batch) = self.ahead.pop_front() else { break };
                // retention or compaction may have taken what was between
                self.next = self.next.max(batch.base);
                self.current = Some(batch.events(&self.topic.name, self.partition, self.next));
                continue;
            };
            match current.next() {
                Some(Ok(event)) => {
                    self.next = event.position + 1;
                    events.push(event);
                }
                Some(Err(error)) => {
                    self.current = None;
                    return Err(self.damaged(&error.to_string()));
                }
                None => self.current = None,
            }
        }
        Ok(events)
    }

    /// Reads on; `false` if there is nothing before `end`. Cancel-safe.
    pub(crate) async fn fill(&mut self, end: u64) -> Result<bool, Failure> {
        loop {
            let extent = self.topic.extent(self.partition);
            self.next = self.next.max(extent.first);
            let end = end.min(extent.end);
            if self.next >= end {
                return Ok(false);
            }
            if let Some(batch) = self.shared.head.get(self.topic.id, self.partition, self.next) {
                self.ahead.push_back(batch);
                return Ok(true);
            }
            let (shared, key) = (Arc::clone(&self.shared), (self.topic.id, self.partition));
            let next = self.next;
            let read = move || shared.storage.batches(key, next, end, CHUNK);
            let batches = storage::blocking(read).await?;
            let batches = batches.map_err(|error| self.damaged(&error.to_string()))?;
            if !batches.is_empty() {
                self.ahead.extend(batches);
                return Ok(true);
            }
            if self.topic.is_compacted() {
                // all of them are superseded by later ones
                return Ok(false);
            }
            if self.topic.extent(self.partition).first <= next {
                return Err(self.damaged("events are missing"));
            }
            // retention deleted them between the two looks: look again
        }
    }

    fn damaged(&self, reason: &str) -> Failure {
        Failure::Fatal(format!(
            "the log {} is damaged in topic {}, partition {}, offset {}: {reason}; restore it from a backup",
            self.shared.storage.place(),
            self.topic.name,
            self.partition,
            self.next
        ))
    }
}

#[cfg(test)]
mod tests {
    use sandbar_core::{Connection, Outgoing};

    use super::*;
    use crate::{Log, LogConfig, Retention};

    /// A follower that is slow, or stands still, must not hold what it has not taken.
    #[tokio::test]
    async fn c4_a_slow_follower_holds_one_chunk_however_far_it_is_behind() {
        let config = LogConfig {
            retention: Retention::UNLIMITED,
            head_cache_bytes: 1 << 20,
            ..LogConfig::default()
        };
        let log = Log::in_memory(config).expect("opens");
        let records = vec![Outgoing::new("t", vec![0; 1024]); 1000];
        for _ in 0..16 {
            for result in log.sink().publish(&records).await {
                result.expect("published");
            }
        }
        let shared = Arc::clone(log.shared());
        let topic = shared.catalog.get("t").expect("exists");
        let mut scan = Scan::new(shared, topic, 0, 0);
        let (mut seen, mut largest) = (0, 0);
        while scan.fill(u64::MAX).await.expect("readable") {
            largest = largest.max(scan.ahead.iter().map(Batch::bytes).sum::<usize>());
            loop {
                let events = scan.take(7, u64::MAX).expect("readable");
                if events.is_empty() {
                    break;
                }
                seen += events.len();
            }
        }
        assert_eq!(seen, 16_000);
        assert!(largest > CHUNK / 2, "the test must see what is read ahead, not {largest} bytes");
        assert!(largest < CHUNK + 256 * 1024, "{largest} bytes were held");
    }
}
