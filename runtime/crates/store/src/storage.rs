//! The file (or memory) behind a log: opening, reading, and opening again after a fault.

use std::{
    io,
    ops::Bound,
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use parking_lot::RwLock;
use redb::{
    Database, DatabaseError, ReadTransaction, ReadableDatabase, StorageBackend, StorageError,
};
use tokio::{sync::Notify, task};
use tracing::debug;

use crate::{
    codec::{Batch, CodecError},
    error::{Failure, LogError},
    schema::{self, BATCHES, BatchKey, INDEX, LAYOUT, PartitionKey},
};

/// Longest wait for readers to let go of a file that is to be opened again.
const LET_GO: Duration = Duration::from_secs(5);

/// Where the bytes are.
#[derive(Debug, Clone)]
pub(crate) enum Backing {
    File(PathBuf),
    /// Memory, or a test's faulty disk. Outlives the database opened on it.
    Shared(Arc<dyn StorageBackend>),
}

/// The open database.
pub(crate) struct Storage {
    backing: Backing,
    page_cache_bytes: usize,
    db: RwLock<Option<Arc<Database>>>,
    /// A read failed: redb refuses everything until the database is opened again.
    suspect: AtomicBool,
    /// Wakes the writer, whose task it is to do so.
    suspected: Notify,
}

/// Runs `read` where it may block.
pub(crate) async fn blocking<T: Send + 'static>(
    read: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    let interrupted =
        |error| Failure::Unavailable(format!("reading the log was interrupted: {error}"));
    task::spawn_blocking(read).await.map_err(interrupted)?
}

impl Storage {
    pub(crate) fn open(backing: Backing, page_cache_bytes: usize) -> Result<Self, LogError> {
        let db = open(&backing, page_cache_bytes)?;
        Ok(Self {
            backing,
            page_cache_bytes,
            db: RwLock::new(Some(Arc::new(db))),
            suspect: AtomicBool::new(false),
            suspected: Notify::new(),
        })
    }

    pub(crate) fn database(&self) -> Result<Arc<Database>, Failure> {
        self.db.read().clone().ok_or_else(|| {
            Failure::Unavailable(
                "the log's storage failed and could not be opened again yet".into(),
            )
        })
    }

    /// Whether the database must be opened again before it can be used.
    pub(crate) fn needs_reopen(&self) -> bool {
        self.suspect.load(Ordering::Acquire) || self.db.read().is_none()
    }

    /// Waits until the database must be opened again. Cancel-safe.
    pub(crate) async fn fails(&self) {
        // a notification that nobody waits for is kept
        while !self.needs_reopen() {
            self.suspected.notified().await;
        }
    }

    /// Closes and opens again: redb refuses all work after an I/O error.
    pub(crate) fn reopen(&self) -> Result<(), LogError> {
        self.close();
        let db = open(&self.backing, self.page_cache_bytes)?;
        *self.db.write() = Some(Arc::new(db));
        self.suspect.store(false, Ordering::Release);
        debug!(log = %self.place(), "storage opened again");
        Ok(())
    }

    /// Waits for running reads and closes.
    pub(crate) fn close(&self) {
        let Some(mut db) = self.db.write().take() else { return };
        let began = Instant::now();
        // a read lasts milliseconds; one that hangs in the disk must not hang the writer
        while let Err(still_read) = Arc::try_unwrap(db) {
            if began.elapsed() > LET_GO {
                return;
            }
            db = still_read;
            #[expect(clippy::disallowed_methods, reason = "the writer's own thread, no worker")]
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    pub(crate) fn place(&self) -> String {
        match &self.backing {
            Backing::File(path) => path.display().to_string(),
            Backing::Shared(_) => "in memory".into(),
        }
    }

    /// Bytes of the file or memory.
    pub(crate) fn bytes(&self) -> io::Result<u64> {
        match &self.backing {
            Backing::File(path) => Ok(path.metadata()?.len()),
            Backing::Shared(backend) => backend.len(),
        }
    }

    /// Runs `read` on a snapshot of what is committed.
    pub(crate) fn read<T>(
        &self,
        read: impl FnOnce(&ReadTransaction) -> Result<T, redb::Error>,
    ) -> Result<T, Failure> {
        let db = self.database()?;
        let result = db.begin_read().map_err(redb::Error::from).and_then(|tx| read(&tx));
        result.map_err(|error| match error {
            redb::Error::Corrupted(reason) => Failure::Fatal(format!(
                "the log {} is damaged: {reason}; restore it from a backup",
                self.place()
            )),
            error => {
                self.suspect.store(true, Ordering::Release);
                self.suspected.notify_one();
                Failure::storage(error)
            }
        })
    }

    /// Batches from the one that holds offset `from`, or the next one retained, up to
    /// `end`: at least one if there is any, then until `max_bytes` or until one that is
    /// damaged. If that is the first, the inner error says so.
    pub(crate) fn batches(
        &self,
        (topic, partition): PartitionKey,
        from: u64,
        end: u64,
        max_bytes: usize,
    ) -> Result<Result<Vec<Batch>, CodecError>, Failure> {
        self.read(|tx| {
            let table = tx.open_table(BATCHES)?;
            let holding = table
                .range((topic, partition, 0)..=(topic, partition, from))?
                .next_back()
                .transpose()?;
            let after = (
                Bound::Excluded((topic, partition, from)),
                Bound::Excluded((topic, partition, end)),
            );
            let (mut batches, mut bytes) = (Vec::new(), 0);
            for row in holding.map(Ok).into_iter().chain(table.range::<BatchKey>(after)?) {
                let (key, value) = row?;
                let batch = match Batch::check(Bytes::copy_from_slice(value.value()), key.value().2)
                {
                    Ok(batch) => batch,
                    Err(error) if batches.is_empty() => return Ok(Err(error)),
                    // what lies before it can still be read
                    Err(_) => break,
                };
                if batch.end() <= from {
                    continue;
                }
                bytes += batch.bytes();
                batches.push(batch);
                if bytes >= max_bytes {
                    break;
                }
            }
            Ok(Ok(batches))
        })
    }

    /// Offset of the first record between `first` and `end` whose timestamp is not
    /// before `time_ms`; `end` if there is none.
    pub(crate) fn offset_at(
        &self,
        (topic, partition): PartitionKey,
        first: u64,
        end: u64,
        time_ms: u64,
    ) -> Result<u64, Failure> {
        self.read(|tx| {
            let index = tx.open_table(INDEX)?;
            let (mut low, mut high) = (first, end);
            while low < high {
                let middle = low + (high - low) / 2;
                // the one that holds the middle, or the last one before the gap around it
                let batch = index
                    .range((topic, partition, 0)..=(topic, partition, middle))?
                    .next_back()
                    .transpose()?;
                // none: retention took them just now
                let Some((key, row)) = batch else { break };
                let (base, (count, _, timestamp)) = (key.value().2, row.value());
                if timestamp < time_ms {
                    low = (base + u64::from(count)).max(middle + 1);
                } else {
                    high = base.max(low);
                }
            }
            Ok(low)
        })
    }
}

fn open(backing: &Backing, page_cache_bytes: usize) -> Result<Database, LogError> {
    let path = match backing {
        Backing::File(path) => path.clone(),
        Backing::Shared(_) => "in memory".into(),
    };
    let damaged = |reason: String| LogError::Damaged { path: path.clone(), reason };
    let mut builder = redb::Builder::new();
    builder.set_cache_size(page_cache_bytes);
    // redb asserts some of what it expects of a file
    let opened = catch_unwind(AssertUnwindSafe(|| {
        let db = match backing {
            Backing::File(path) => builder.create(path)?,
            Backing::Shared(backend) => {
                builder.create_with_backend(SharedBackend(Arc::clone(backend)))?
            }
        };
        let layout = schema::prepare(&db).map_err(|e| match e {
            redb::Error::Io(e) => DatabaseError::Storage(StorageError::Io(e)),
            e => DatabaseError::Storage(StorageError::Corrupted(e.to_string())),
        })?;
        Ok((db, layout))
    }));
    match opened {
        Ok(Ok((db, Ok(())))) => Ok(db),
        Ok(Ok((_, Err(found)))) => Err(LogError::Layout { path, found, supported: LAYOUT }),
        Ok(Err(DatabaseError::DatabaseAlreadyOpen)) => Err(LogError::InUse { path }),
        Ok(Err(DatabaseError::Storage(StorageError::Io(source)))) => match source.kind() {
            // how redb says that the file is not its own or too short
            io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => {
                Err(damaged(source.to_string()))
            }
            _ => Err(LogError::Io { path, source }),
        },
        Ok(Err(error)) => Err(damaged(error.to_string())),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            Err(damaged(text.unwrap_or("its structure is inconsistent").to_owned()))
        }
    }
}

/// Lets a backend outlive the database opened on it, so that it can be opened again.
/// Takes no locks: nobody else can reach it.
#[derive(Debug)]
struct SharedBackend(Arc<dyn StorageBackend>);

impl StorageBackend for SharedBackend {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write(offset, data)
    }
}
