//! Reading beside subscriptions.

use std::sync::Arc;

use async_trait::async_trait;
use sandbar_core::{Event, ReadFrom, Reader, SourceError};
use tokio::sync::watch;

use crate::{catalog::Topic, error::Failure, scan::Scan, storage, writer::Shared};

/// Reads all partitions of a topic in turn.
pub(crate) struct LogReader {
    topic: Arc<Topic>,
    /// Each with the offset to stop at; `u64::MAX` to follow.
    scans: Vec<(Scan, u64)>,
    /// The partition whose turn it is.
    turn: usize,
    /// Present when following.
    appended: Option<watch::Receiver<()>>,
}

impl LogReader {
    pub(crate) async fn open(
        shared: Arc<Shared>,
        topic: Arc<Topic>,
        from: ReadFrom,
    ) -> Result<Self, Failure> {
        let appended = (from == ReadFrom::Follow).then(|| topic.appended.subscribe());
        let mut scans = Vec::new();
        for partition in 0..topic.partitions() {
            let extent = topic.extent(partition);
            let (start, end) = match from {
                ReadFrom::Start => (extent.first, extent.end),
                ReadFrom::Position(position) => (position.max(extent.first), extent.end),
                ReadFrom::Time(time) => {
                    let (shared, key) = (Arc::clone(&shared), (topic.id, partition));
                    let find =
                        move || shared.storage.offset_at(key, extent.first, extent.end, time);
                    (storage::blocking(find).await?, extent.end)
                }
                ReadFrom::Follow => (extent.end, u64::MAX),
            };
            let scan = Scan::new(Arc::clone(&shared), Arc::clone(&topic), partition, start);
            scans.push((scan, end));
        }
        Ok(Self { topic, scans, turn: 0, appended })
    }
}

#[async_trait]
impl Reader for LogReader {
    async fn next(&mut self, max: usize) -> Result<Vec<Event>, SourceError> {
        loop {
            if let Some(appended) = &mut self.appended {
                // seen before looking, so that nothing appended meanwhile is slept over
                appended.borrow_and_update();
            }
            for _ in 0..self.scans.len() {
                let (scan, end) = &mut self.scans[self.turn];
                let mut events = scan.take(max, *end)?;
                while events.is_empty() && scan.fill(*end).await? {
                    events = scan.take(max, *end)?;
                }
                self.turn = (self.turn + 1) % self.topic.partitions() as usize;
                if !events.is_empty() {
                    return Ok(events);
                }
            }
            let Some(appended) = &mut self.appended else { return Ok(Vec::new()) };
            if appended.changed().await.is_err() {
                return Err(Failure::closed().into());
            }
        }
    }
}
