//! Power cuts. A kill leaves what the system has in its cache; a power cut leaves what
//! was synced, and any part of the rest. So this is the test that a commit is synced
//! before it is acknowledged.

mod common;

use std::{collections::BTreeSet, io, sync::Arc};

use common::*;
use parking_lot::Mutex;
use redb::StorageBackend;
use sandbar_core::{Connection, Outgoing};
use sandbar_store::Log;

/// A disk with a cache that a power cut empties.
#[derive(Debug, Default)]
struct Disk(Mutex<Content>);

#[derive(Debug, Default)]
struct Content {
    /// What reads see.
    seen: Vec<u8>,
    synced: Vec<u8>,
    unsynced: Vec<(usize, Vec<u8>)>,
}

impl Disk {
    /// What is on the disk after a cut: everything synced, and of the rest the writes
    /// for which `kept` says so.
    fn cut(&self, mut kept: impl FnMut() -> bool) -> Arc<Self> {
        let content = self.0.lock();
        let mut left = content.synced.clone();
        for (at, data) in content.unsynced.iter().filter(|_| kept()) {
            left.resize(left.len().max(at + data.len()), 0);
            left[*at..at + data.len()].copy_from_slice(data);
        }
        let content = Content { seen: left.clone(), synced: left, unsynced: vec![] };
        Arc::new(Self(Mutex::new(content)))
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.lock().seen.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let (content, at) = (self.0.lock(), offset as usize);
        let found = content.seen.get(at..at + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(found);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut content = self.0.lock();
        content.seen.resize(len as usize, 0);
        // a file system may journal the length on its own
        content.synced.resize(len as usize, 0);
        content.unsynced.retain(|(at, data)| at + data.len() <= len as usize);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut content = self.0.lock();
        content.synced = content.seen.clone();
        content.unsynced.clear();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let (mut content, at) = (self.0.lock(), offset as usize);
        let target = content.seen.get_mut(at..at + data.len());
        target.ok_or(io::ErrorKind::UnexpectedEof)?.copy_from_slice(data);
        content.unsynced.push((at, data.to_vec()));
        Ok(())
    }
}

#[tokio::test]
async fn what_was_acknowledged_survives_a_power_cut_at_any_moment() {
    let disk = Arc::new(Disk::default());
    let log = Log::with_backend(disk.clone(), config()).unwrap();
    publish(&log, &(0..60).map(|i| Outgoing::new("in", i.to_string())).collect::<Vec<_>>()).await;
    log.ensure_topics(&["out".into()]).await.unwrap();
    let (_source, mut partition) = subscribe(&log, "g", "in").await;
    take(&mut partition, 60).await;
    let mut state = 1u64;
    let mut coin = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        state >> 63 == 1
    };
    for settled in 0..60u64 {
        // the cut comes while the next settlement is under way
        let effect = Outgoing::new("out", settled.to_string());
        partition.settle(&[done_with(settled, vec![effect])]).await.unwrap();
        let next = log.sink();
        let under_way = tokio::spawn(async move { next.publish(&[Outgoing::new("x", "x")]).await });
        tokio::task::yield_now().await;
        for _ in 0..3 {
            let after = Log::with_backend(disk.cut(&mut coin), config()).unwrap();
            let outputs: BTreeSet<_> = texts(&all(&after, "out").await).into_iter().collect();
            let resume_from = after.cursors("g").await.unwrap()[0].1.0;
            assert_eq!(outputs.len() as u64, settled + 1, "an acknowledged settlement is lost");
            assert_eq!(resume_from, settled + 1);
            assert_eq!(all(&after, "in").await.len(), 60);
        }
        under_way.await.unwrap();
    }
}
