//! Disks that fail, files that are damaged, files that are in use.

mod common;

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use common::*;
use redb::{Database, StorageBackend, TableDefinition, backends::InMemoryBackend};
use sandbar_core::{Connection, Outgoing, PublishError, ReadFrom, ResumeFrom, SourceError};
use sandbar_store::{Log, LogConfig, LogError, Retention};

/// Memory that fails like a disk.
#[derive(Debug)]
struct FaultyDisk {
    memory: InMemoryBackend,
    /// Changing operations that still work.
    good: AtomicI64,
    /// Changing operations that fail after that; then all is well again.
    bad: AtomicI64,
    /// Longest that it may become.
    limit: u64,
}

impl FaultyDisk {
    fn new() -> Arc<Self> {
        Self::of(u64::MAX)
    }

    fn of(limit: u64) -> Arc<Self> {
        let (good, bad) = (AtomicI64::new(i64::MAX), AtomicI64::new(0));
        Arc::new(Self { memory: InMemoryBackend::new(), good, bad, limit })
    }

    fn fail_after(&self, good: i64, bad: i64) {
        self.bad.store(bad, Ordering::SeqCst);
        self.good.store(good, Ordering::SeqCst);
    }

    fn change(&self) -> io::Result<()> {
        if self.good.fetch_sub(1, Ordering::SeqCst) > 0 {
            return Ok(());
        }
        if self.bad.fetch_sub(1, Ordering::SeqCst) > 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.good.store(i64::MAX, Ordering::SeqCst);
        Ok(())
    }
}

impl StorageBackend for FaultyDisk {
    fn len(&self) -> io::Result<u64> {
        self.memory.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.memory.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.change()?;
        if len > self.limit {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.memory.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        // what was written before has reached the disk: the hard case, as nobody can tell
        self.change()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.change()?;
        self.memory.write(offset, data)
    }
}

#[tokio::test]
async fn d1_while_the_disk_is_full_nothing_is_acknowledged_and_then_the_log_goes_on() {
    let disk = FaultyDisk::new();
    let log = Log::with_backend(disk.clone(), config()).unwrap();
    publish(&log, &[Outgoing::new("t", "0"), Outgoing::new("t", "1")]).await;
    let (_source, mut partition) = subscribe(&log, "g", "t").await;
    take(&mut partition, 2).await;

    disk.fail_after(0, i64::MAX);
    let settlement = done_with(0, vec![Outgoing::new("out", "0")]);
    for _ in 0..3 {
        let refused = log.sink().publish(&[Outgoing::new("t", "refused")]).await.remove(0);
        assert!(matches!(refused, Err(PublishError::Unavailable(_))), "{refused:?}");
        let unsettled = partition.settle(std::slice::from_ref(&settlement)).await;
        assert!(matches!(unsettled, Err(SourceError::Unavailable(_))), "{unsettled:?}");
    }
    assert!(log.stats().failed_commits.get() > 0);

    disk.fail_after(i64::MAX, 0);
    partition.settle(&[settlement]).await.unwrap();
    publish(&log, &[Outgoing::new("t", "2")]).await;
    assert_eq!(texts(&all(&log, "t").await), ["0", "1", "2"]);
    assert_eq!(texts(&all(&log, "out").await), ["0"]);
    assert_eq!(log.cursors("g").await.unwrap()[0].1, ResumeFrom(1));
    assert!(log.stats().reopened.get() > 0);
    // the subscription that lived through it goes on
    assert_eq!(text(&take(&mut partition, 1).await[0].event), "2");
}

#[tokio::test(flavor = "multi_thread")]
async fn d1_on_a_full_disk_retention_makes_room_however_much_is_published() {
    let config = LogConfig {
        retention: Retention { age: Some(Duration::from_millis(1)), size: None },
        // its next turn does not come
        retention_interval: Duration::from_secs(3600),
        ..config()
    };
    let log = Log::with_backend(FaultyDisk::of(8 << 20), config).unwrap();
    let mut publishers = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let log = log.clone();
        publishers.spawn(async move {
            // so large that pages are left over when one no longer fits: deleting takes some
            let large = [Outgoing::new("t", vec![0; 120_000])];
            let mut taken = 0;
            while taken < 100 {
                taken += u32::from(log.sink().publish(&large).await[0].is_ok());
            }
        });
    }
    // six times as much as there is room for
    publishers.join_all().await;
    assert!(log.stats().failed_commits.get() > 0 && log.stats().expired.get() > 0);
}

#[tokio::test]
async fn effects_appear_once_wherever_the_disk_fails() {
    let mut failures = 0;
    for good in 0..40 {
        for bad in [1, 2, 4, 8] {
            let disk = FaultyDisk::new();
            let log = Log::with_backend(disk.clone(), config()).unwrap();
            publish(&log, &[Outgoing::new("t", "0"), Outgoing::new("t", "1")]).await;
            let (_source, mut partition) = subscribe(&log, "g", "t").await;
            take(&mut partition, 2).await;
            disk.fail_after(good, bad);
            for offset in [1, 0] {
                let output = Outgoing::new("out", format!("from {offset}"));
                let settlement = [done_with(offset, vec![output])];
                while let Err(error) = partition.settle(&settlement).await {
                    assert!(matches!(error, SourceError::Unavailable(_)), "{error}");
                    failures += 1;
                }
            }
            let outputs = texts(&all(&log, "out").await);
            assert_eq!(outputs, ["from 1", "from 0"], "{bad} failures after {good}");
            assert_eq!(log.cursors("g").await.unwrap()[0].1, ResumeFrom(2));
        }
    }
    assert!(failures > 40, "only {failures} settlements failed: the test tests little");
}

#[test]
fn a_file_that_is_no_log_is_named_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    for (name, content) in [
        ("text", b"this is no log, but somebody's notes".to_vec()),
        ("zeros", vec![0; 100_000]),
        ("noise", (0..100_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect()),
    ] {
        let path = dir.path().join(name);
        std::fs::write(&path, &content).unwrap();
        let Err(error) = Log::open(&path, config()) else { panic!("{name} was opened as a log") };
        assert!(matches!(error, LogError::Damaged { .. }), "{name}: {error:?}");
        let text = error.to_string();
        assert!(text.contains(&path.display().to_string()) && text.contains("restore"), "{text}");
        assert_eq!(std::fs::read(&path).unwrap(), content, "{name} was changed");
    }
    let Err(error) = Log::open(dir.path().join("no/folder"), config()) else { panic!("opened") };
    assert!(matches!(error, LogError::Io { .. }), "{error:?}");
    assert!(error.to_string().contains("no/folder"), "{error}");
}

#[tokio::test]
async fn damage_is_found_and_names_the_place() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let log = Log::open(&path, config()).unwrap();
    publish(&log, &[Outgoing::new("t", "x")]).await;
    publish(&log, &[Outgoing::new("t", "MARK".repeat(1000))]).await;
    log.close().await;
    let whole = std::fs::read(&path).unwrap();

    let mut changed = whole.clone();
    let at = whole.windows(8).position(|w| w == b"MARKMARK").unwrap() + 2000;
    changed[at] ^= 1;
    std::fs::write(&path, &changed).unwrap();
    let log = Log::open(&path, config()).unwrap();
    let mut reader = log.read("t", ReadFrom::Position(1)).await.unwrap();
    let error = reader.next(10).await.unwrap_err();
    assert!(
        matches!(&error, SourceError::Fatal(why)
        if why.contains("damaged") && why.contains("checksum") && why.contains("topic t, partition 0, offset 1")),
        "{error}"
    );
    let mut reader = log.read("t", ReadFrom::Start).await.unwrap();
    assert_eq!(texts(&reader.next(10).await.unwrap()), ["x"], "what lies before it is readable");
    assert!(reader.next(10).await.is_err());
    log.close().await;
    drop((reader, log));

    for length in [1, 100, 4096, 5000, whole.len() / 2, whole.len() - 4096] {
        std::fs::write(&path, &whole[..length]).unwrap();
        let Err(error) = Log::open(&path, config()) else { panic!("{length} bytes were opened") };
        assert!(matches!(error, LogError::Damaged { .. }), "{length} bytes: {error:?}");
    }
}

#[tokio::test]
async fn a_file_in_use_is_told_apart_and_free_after_close() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let log = Log::open(&path, config()).unwrap();
    let Err(error) = Log::open(&path, config()) else { panic!("opened twice") };
    assert!(matches!(error, LogError::InUse { .. }), "{error:?}");
    assert!(error.to_string().contains(&path.display().to_string()), "{error}");
    log.close().await;
    Log::open(&path, config()).unwrap();
}

#[test]
fn another_layout_is_refused_with_both_numbers() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let db = Database::create(&path).unwrap();
    let write = db.begin_write().unwrap();
    let meta = TableDefinition::<&str, u32>::new("meta");
    write.open_table(meta).unwrap().insert("layout", 99).unwrap();
    write.commit().unwrap();
    drop(db);
    let Err(error) = Log::open(&path, config()) else { panic!("opened layout 99") };
    assert!(matches!(error, LogError::Layout { found: 99, supported: 1, .. }), "{error:?}");
}
