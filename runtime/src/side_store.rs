//! What connections cannot keep themselves: which events were handled (contract I1 to I3),
//! and the state of plugins (T1 to T5).

use std::{path::PathBuf, sync::Arc};

use async_trait::async_trait;
use sandbar_core::{
    Connection, Mark, Marks, SourceError, StateEntry, StateSize, StateStore, StateWrite,
};
use sandbar_store::{Log, LogConfig};
use tokio::sync::OnceCell;
use tracing::info;

/// Gives each connection its marks and its state: what it keeps itself, else a part of
/// one file, which is opened when the first plugin needs it.
pub struct SideStore {
    path: PathBuf,
    file: OnceCell<Log>,
}

impl SideStore {
    /// A store in the file at `path`, which need not exist.
    pub fn new(path: PathBuf) -> Self {
        Self { path, file: OnceCell::new() }
    }

    /// The marks of the subscriptions to `connection`.
    ///
    /// # Errors
    /// [`SourceError::Fatal`] where the file cannot be opened.
    pub async fn marks_of(
        &self,
        connection: &dyn Connection,
    ) -> Result<Arc<dyn Marks>, SourceError> {
        match connection.marks() {
            Some(own) => Ok(own),
            None => Ok(Arc::new(self.part(connection.name()).await?)),
        }
    }

    /// The state of the subscriptions to `connection`.
    ///
    /// # Errors
    /// As [`marks_of`](Self::marks_of).
    pub async fn state_of(
        &self,
        connection: &dyn Connection,
    ) -> Result<Arc<dyn StateStore>, SourceError> {
        match connection.state() {
            Some(own) => Ok(own),
            None => self.state_beside(connection.name()).await,
        }
    }

    /// The state of the subscriptions to `connection`, which keeps none itself.
    ///
    /// # Errors
    /// As [`marks_of`](Self::marks_of).
    pub async fn state_beside(&self, connection: &str) -> Result<Arc<dyn StateStore>, SourceError> {
        Ok(Arc::new(self.part(connection).await?))
    }

    async fn part(&self, connection: &str) -> Result<Part, SourceError> {
        let file = self.file.get_or_try_init(|| self.open()).await?.clone();
        Ok(Part { connection: connection.to_owned(), file })
    }

    async fn open(&self) -> Result<Log, SourceError> {
        let path = self.path.clone();
        let config = LogConfig { name: "marks".into(), ..LogConfig::default() };
        let opening = tokio::task::spawn_blocking(move || Log::open(path, config)).await;
        let opened = match opening {
            Ok(opened) => opened.map_err(|e| e.to_string()),
            Err(e) => Err(e.to_string()),
        };
        let log = opened.map_err(|e| {
            let path = self.path.display();
            SourceError::Fatal(format!("cannot open {path}, the file of marks and state: {e}"))
        })?;
        info!(file = %self.path.display(), "the file of marks and state is open");
        Ok(log)
    }

    /// Closes the file, if it was opened. Every subscription must be closed before.
    pub async fn close(&self) {
        if let Some(file) = self.file.get() {
            file.close().await;
        }
    }
}

/// What belongs to one connection: groups of equal name on others are not the same.
struct Part {
    connection: String,
    file: Log,
}

impl Part {
    fn group(&self, group: &str) -> String {
        format!("{}/{group}", self.connection)
    }
}

#[async_trait]
impl Marks for Part {
    async fn seen(
        &self,
        group: &str,
        ids: &[String],
        now_ms: u64,
    ) -> Result<Vec<bool>, SourceError> {
        self.file.seen(&self.group(group), ids, now_ms).await
    }

    async fn mark(&self, group: &str, marks: &[Mark]) -> Result<(), SourceError> {
        self.file.mark(&self.group(group), marks).await
    }
}

#[async_trait]
impl StateStore for Part {
    async fn get(
        &self,
        group: &str,
        key: &str,
        now_ms: u64,
    ) -> Result<Option<StateEntry>, SourceError> {
        self.file.get(&self.group(group), key, now_ms).await
    }

    async fn list(
        &self,
        group: &str,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
        now_ms: u64,
    ) -> Result<Vec<(String, StateEntry)>, SourceError> {
        self.file.list(&self.group(group), prefix, after, limit, now_ms).await
    }

    async fn size(&self, group: &str) -> Result<StateSize, SourceError> {
        self.file.size(&self.group(group)).await
    }

    async fn write(
        &self,
        group: &str,
        writes: &[StateWrite],
    ) -> Result<Vec<Result<(), String>>, SourceError> {
        self.file.write(&self.group(group), writes).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In the year 2255: what has expired by the clock on the wall is removed by itself.
    const FAR: u64 = 9_000_000_000_000;

    #[tokio::test]
    async fn i1_equal_groups_on_two_connections_are_two_subscriptions() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("marks.redb");
        let store = SideStore::new(path.clone());
        assert!(!path.exists(), "nobody asked for it");
        let (a, b) = (store.part("a").await.unwrap(), store.part("b").await.unwrap());
        let mark = Mark { id: "t/0/7".into(), expires_ms: FAR };
        a.mark("g", &[mark]).await.unwrap();
        let ids = ["t/0/7".to_owned(), "t/0/8".to_owned()];
        assert_eq!(a.seen("g", &ids, 1_000).await.unwrap(), [true, false]);
        assert_eq!(b.seen("g", &ids, 1_000).await.unwrap(), [false, false]);
        store.close().await;

        let store = SideStore::new(path);
        let again = store.part("a").await.unwrap();
        assert_eq!(again.seen("g", &ids, 1_000).await.unwrap(), [true, false], "a restart later");
        assert_eq!(again.seen("g", &ids, FAR).await.unwrap(), [false, false], "it has expired");
        store.close().await;
    }

    #[tokio::test]
    async fn i1_a_log_keeps_its_own_marks() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("marks.redb");
        let store = SideStore::new(path.clone());
        let log = Log::in_memory(LogConfig::default()).unwrap();
        let marks = store.marks_of(&log).await.unwrap();
        marks.mark("g", &[Mark { id: "1".into(), expires_ms: FAR }]).await.unwrap();
        assert_eq!(log.seen("g", &["1".to_owned()], 0).await.unwrap(), [true]);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_file_that_cannot_be_opened_is_named_and_tried_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("not-yet/marks.redb");
        let store = SideStore::new(path.clone());
        let Err(SourceError::Fatal(reason)) = store.part("a").await else { panic!("no folder") };
        assert!(reason.contains("not-yet/marks.redb"), "{reason}");
        std::fs::create_dir(path.parent().unwrap()).unwrap();
        assert!(store.part("a").await.is_ok());
        store.close().await;
    }
}
