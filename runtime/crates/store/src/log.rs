//! The connection: what the rest of Sandbar sees of the log.

use std::{path::Path, sync::Arc};

use async_trait::async_trait;
use redb::{ReadableTable, StorageBackend, backends::InMemoryBackend};
use sandbar_core::{
    Connection, Extent, Guarantees, Marks, Outgoing, PartitionId, ReadFrom, Reader, ResumeFrom,
    Sink, Source, SourceError, StateStore, SubscriptionSpec, TopicInfo,
};

use crate::{
    LogConfig, LogError, LogStats, Retained,
    catalog::{Catalog, HeadCache, Topic},
    error::Failure,
    reader::LogReader,
    schema::{CURSORS, Cursor},
    sink::LogSink,
    source::LogSource,
    storage::{self, Backing, Storage},
    writer::{Shared, Work, Writer},
};

/// Longest topic name, as on Kafka.
const MAX_TOPIC_NAME: usize = 249;

/// An open log. Cheap to clone; the file is closed when the last clone and everything
/// subscribed, reading or publishing is gone, or by [`Connection::close`].
#[derive(Clone)]
pub struct Log {
    inner: Arc<Inner>,
    sink: Arc<LogSink>,
}

/// What sources, partitions and the sink share.
pub(crate) struct Inner {
    pub(crate) shared: Arc<Shared>,
    pub(crate) writer: Writer,
}

impl Inner {
    /// Whether the log can ever take `record`.
    pub(crate) fn validate(&self, record: &Outgoing) -> Result<(), String> {
        self.validate_topic(&record.topic)?;
        let config = &self.shared.config;
        if !config.create_topics && self.shared.catalog.get(&record.topic).is_none() {
            return Err(format!(
                "topic {} does not exist on {} and may not be created there: create it, or set create-topics",
                record.topic, config.name
            ));
        }
        let attributes: usize = record.attributes.iter().map(|(n, v)| n.len() + v.len()).sum();
        let size = record.size() + attributes;
        if size > config.max_record_bytes {
            return Err(format!(
                "a record for topic {} has {size} bytes, {} takes {} at most",
                record.topic, config.name, config.max_record_bytes
            ));
        }
        Ok(())
    }

    /// Kafka's rule, so that a topic can keep its name when it moves there.
    pub(crate) fn validate_topic(&self, name: &str) -> Result<(), String> {
        let allowed = |c: u8| c.is_ascii_alphanumeric() || b"._-".contains(&c);
        if !name.bytes().all(allowed) || matches!(name, "" | "." | "..") {
            return Err(format!(
                "topic name {name:?} is invalid: use letters, digits, '.', '_' and '-'"
            ));
        }
        if name.len() > MAX_TOPIC_NAME {
            return Err(format!("topic name {name} is longer than {MAX_TOPIC_NAME} characters"));
        }
        Ok(())
    }
}

impl Log {
    /// Opens the log in the file at `path`, creating it if it does not exist.
    ///
    /// # Errors
    /// See [`LogError`]; [`LogError::InUse`] where another process has it open.
    pub fn open(path: impl AsRef<Path>, config: LogConfig) -> Result<Self, LogError> {
        Self::with_backing(Backing::File(path.as_ref().to_owned()), config)
    }

    /// A log that is gone when it is closed: the same code on memory. Tokio's paused
    /// clock stands still while it works.
    ///
    /// # Errors
    /// Where the system gives no thread.
    pub fn in_memory(config: LogConfig) -> Result<Self, LogError> {
        Self::with_backend(Arc::new(InMemoryBackend::new()), config)
    }

    /// A log on storage of the caller's own, such as one that fails on purpose. The
    /// storage is opened again after a fault, so its `close` is never called.
    ///
    /// # Errors
    /// As [`Log::open`].
    pub fn with_backend(
        backend: Arc<dyn StorageBackend>,
        config: LogConfig,
    ) -> Result<Self, LogError> {
        Self::with_backing(Backing::Shared(backend), config)
    }

    fn with_backing(backing: Backing, config: LogConfig) -> Result<Self, LogError> {
        let hold_clock = matches!(backing, Backing::Shared(_));
        let storage = Storage::open(backing, config.page_cache_bytes)?;
        let catalog = Catalog::default();
        storage.read(|tx| catalog.load(tx)).map_err(|e| LogError::Damaged {
            path: storage.place().into(),
            reason: e.to_string(),
        })?;
        let head = HeadCache::new(config.head_cache_bytes);
        let path = storage.place().into();
        let (leases, stats) = (Arc::default(), LogStats::default());
        let shared = Arc::new(Shared { config, storage, catalog, head, leases, stats });
        let writer = Writer::start(Arc::clone(&shared), hold_clock)
            .map_err(|source| LogError::Io { path, source })?;
        let inner = Arc::new(Inner { shared, writer });
        Ok(Self { sink: Arc::new(LogSink(Arc::clone(&inner))), inner })
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.inner.shared
    }

    pub(crate) fn writer(&self) -> &Writer {
        &self.inner.writer
    }

    /// Counters since the log was opened.
    pub fn stats(&self) -> &LogStats {
        &self.inner.shared.stats
    }

    /// Bytes of the file; freed pages count until they are reused.
    ///
    /// # Errors
    /// Where the system does not tell.
    pub fn file_bytes(&self) -> std::io::Result<u64> {
        self.inner.shared.storage.bytes()
    }

    /// Deletes now what retention allows to; it also runs by itself.
    ///
    /// # Errors
    /// While the storage is failing.
    pub async fn retain(&self) -> Result<Retained, SourceError> {
        let mut all = Retained::default();
        loop {
            let run = self.inner.writer.call(Work::Retain).await?;
            all.add(run.retained);
            if !run.unfinished {
                return Ok(all);
            }
        }
    }

    /// Names of all groups that have a cursor, in order.
    ///
    /// # Errors
    /// While the storage is failing.
    pub async fn groups(&self) -> Result<Vec<String>, SourceError> {
        let mut groups = self.cursor_rows(None).await?;
        groups.dedup_by(|a, b| a.0 == b.0);
        Ok(groups.into_iter().map(|(group, ..)| group).collect())
    }

    fn topic(&self, name: &str) -> Result<Arc<Topic>, SourceError> {
        let missing =
            || SourceError::Fatal(format!("topic {name} does not exist on {}", self.name()));
        self.inner.shared.catalog.get(name).ok_or_else(missing)
    }

    /// The topic of a partition that exists.
    fn topic_with(&self, id: &PartitionId) -> Result<Arc<Topic>, SourceError> {
        let missing = || SourceError::Fatal(format!("{} has no partition {id}", self.name()));
        let topic = self.inner.shared.catalog.get(&id.topic);
        topic.filter(|topic| id.partition < topic.partitions()).ok_or_else(missing)
    }

    /// Cursors of one group or of all: group, topic id, partition, cursor.
    async fn cursor_rows(
        &self,
        group: Option<&str>,
    ) -> Result<Vec<(String, u32, u32, Cursor)>, Failure> {
        let (shared, group) = (Arc::clone(&self.inner.shared), group.map(str::to_owned));
        let read = move || {
            shared.storage.read(|tx| {
                let table = tx.open_table(CURSORS)?;
                let rows = match &group {
                    Some(g) => {
                        table.range((g.as_str(), 0, 0)..=(g.as_str(), u32::MAX, u32::MAX))?
                    }
                    None => table.iter()?,
                };
                let mut cursors = Vec::new();
                for row in rows {
                    let (key, value) = row?;
                    let (group, topic, partition) = key.value();
                    let cursor = Cursor::decode(value.value())?;
                    cursors.push((group.to_owned(), topic, partition, cursor));
                }
                Ok(cursors)
            })
        };
        storage::blocking(read).await
    }
}

#[async_trait]
impl Connection for Log {
    fn name(&self) -> &str {
        &self.inner.shared.config.name
    }

    fn guarantees(&self) -> Guarantees {
        crate::GUARANTEES
    }

    async fn subscribe(&self, spec: SubscriptionSpec) -> Result<Box<dyn Source>, SourceError> {
        Ok(Box::new(LogSource::open(Arc::clone(&self.inner), spec)?))
    }

    fn sink(&self) -> Arc<dyn Sink> {
        Arc::clone(&self.sink) as Arc<dyn Sink>
    }

    fn marks(&self) -> Option<Arc<dyn Marks>> {
        Some(Arc::new(self.clone()))
    }

    fn state(&self) -> Option<Arc<dyn StateStore>> {
        Some(Arc::new(self.clone()))
    }

    async fn read(&self, topic: &str, from: ReadFrom) -> Result<Box<dyn Reader>, SourceError> {
        let shared = Arc::clone(&self.inner.shared);
        Ok(Box::new(LogReader::open(shared, self.topic(topic)?, from).await?))
    }

    async fn topics(&self) -> Result<Vec<TopicInfo>, SourceError> {
        Ok(self.inner.shared.catalog.all().iter().map(|t| t.info()).collect())
    }

    async fn ensure_topics(&self, topics: &[String]) -> Result<(), SourceError> {
        let shared = &self.inner.shared;
        let missing: Vec<_> =
            topics.iter().filter(|t| shared.catalog.get(t).is_none()).cloned().collect();
        if missing.is_empty() {
            return Ok(());
        }
        for topic in &missing {
            self.inner.validate_topic(topic).map_err(SourceError::Fatal)?;
        }
        if !shared.config.create_topics {
            return Err(SourceError::Fatal(format!(
                "{} does not exist on {} and may not be created there: create it, or set create-topics",
                missing.join(", "),
                self.name()
            )));
        }
        self.inner.writer.call(Work::Ensure(missing)).await?;
        Ok(())
    }

    async fn ensure_compacted_topic(&self, topic: &str) -> Result<(), SourceError> {
        self.ensure_topics(&[topic.to_owned()]).await?;
        if !self.topic(topic)?.is_compacted() {
            self.inner.writer.call(Work::Compact(topic.to_owned())).await?;
        }
        Ok(())
    }

    async fn trim(&self, id: &PartitionId, before: ResumeFrom) -> Result<(), SourceError> {
        let (topic, partition) = (self.topic_with(id)?, id.partition);
        // what is appended from now on stays, whatever was asked for
        let before = before.0.min(topic.extent(partition).end);
        loop {
            let trim = Work::Trim { topic: Arc::clone(&topic), partition, before };
            if !self.inner.writer.call(trim).await?.unfinished {
                return Ok(());
            }
        }
    }

    async fn cursors(
        &self,
        group: &str,
    ) -> Result<Vec<(PartitionId, ResumeFrom, ResumeFrom)>, SourceError> {
        let topics = self.inner.shared.catalog.all();
        let mut cursors = Vec::new();
        for (_, id, partition, cursor) in self.cursor_rows(Some(group)).await? {
            // a cursor is only ever written for a topic that exists, and topics stay
            let Some(topic) = topics.iter().find(|t| t.id == id) else { continue };
            let place = PartitionId { topic: Arc::clone(&topic.name), partition };
            let end = topic.extent(partition).end;
            cursors.push((place, ResumeFrom(cursor.resume_from), ResumeFrom(end)));
        }
        Ok(cursors)
    }

    async fn extents(&self, topic: &str) -> Result<Vec<Extent>, SourceError> {
        let topic = self.topic(topic)?;
        let extent = |partition| {
            let extent = topic.extent(partition);
            let id = PartitionId { topic: Arc::clone(&topic.name), partition };
            Extent { id, first: ResumeFrom(extent.first), end: ResumeFrom(extent.end) }
        };
        Ok((0..topic.partitions()).map(extent).collect())
    }

    async fn move_cursor(
        &self,
        group: &str,
        id: &PartitionId,
        to: ResumeFrom,
    ) -> Result<(), SourceError> {
        let (topic, partition) = (self.topic_with(id)?, id.partition);
        let extent = topic.extent(partition);
        let (group, to) = (group.to_owned(), to.0.clamp(extent.first, extent.end));
        self.inner.writer.call(Work::Move { group, topic, partition, to }).await?;
        Ok(())
    }

    async fn close(&self) {
        self.inner.writer.close().await;
    }
}
