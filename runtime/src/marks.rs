//! Where handled events are remembered (contract I1 to I3).

use std::{path::PathBuf, sync::Arc};

use async_trait::async_trait;
use sandbar_core::{Connection, Mark, Marks, SourceError};
use sandbar_store::{Log, LogConfig};
use tokio::sync::OnceCell;
use tracing::info;

/// Gives each connection its marks: those it keeps itself, else a part of one file,
/// which is opened when the first plugin needs it.
pub struct MarksStore {
    path: PathBuf,
    file: OnceCell<Log>,
}

impl MarksStore {
    /// A store in the file at `path`, which need not exist.
    pub fn new(path: PathBuf) -> Self {
        Self { path, file: OnceCell::new() }
    }

    /// The marks of the subscriptions to `connection`.
    ///
    /// # Errors
    /// [`SourceError::Fatal`] where the file cannot be opened.
    pub async fn of(&self, connection: &dyn Connection) -> Result<Arc<dyn Marks>, SourceError> {
        match connection.marks() {
            Some(own) => Ok(own),
            None => Ok(Arc::new(self.part(connection.name()).await?)),
        }
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
            SourceError::Fatal(format!("cannot open {path}, where `dedup` keeps its marks: {e}"))
        })?;
        info!(file = %self.path.display(), "the file of handled events is open");
        Ok(log)
    }

    /// Closes the file, if it was opened. Every subscription must be closed before.
    pub async fn close(&self) {
        if let Some(file) = self.file.get() {
            file.close().await;
        }
    }
}

/// The marks of one connection: groups of equal name on others are not the same.
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

#[cfg(test)]
mod tests {
    use super::*;

    /// In the year 2255: what has expired by the clock on the wall is removed by itself.
    const FAR: u64 = 9_000_000_000_000;

    #[tokio::test]
    async fn i1_equal_groups_on_two_connections_are_two_subscriptions() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("marks.redb");
        let store = MarksStore::new(path.clone());
        assert!(!path.exists(), "nobody asked for it");
        let (a, b) = (store.part("a").await.unwrap(), store.part("b").await.unwrap());
        let mark = Mark { id: "t/0/7".into(), expires_ms: FAR };
        a.mark("g", &[mark]).await.unwrap();
        let ids = ["t/0/7".to_owned(), "t/0/8".to_owned()];
        assert_eq!(a.seen("g", &ids, 1_000).await.unwrap(), [true, false]);
        assert_eq!(b.seen("g", &ids, 1_000).await.unwrap(), [false, false]);
        store.close().await;

        let store = MarksStore::new(path);
        let again = store.part("a").await.unwrap();
        assert_eq!(again.seen("g", &ids, 1_000).await.unwrap(), [true, false], "a restart later");
        assert_eq!(again.seen("g", &ids, FAR).await.unwrap(), [false, false], "it has expired");
        store.close().await;
    }

    #[tokio::test]
    async fn i1_a_log_keeps_its_own_marks() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("marks.redb");
        let store = MarksStore::new(path.clone());
        let log = Log::in_memory(LogConfig::default()).unwrap();
        let marks = store.of(&log).await.unwrap();
        marks.mark("g", &[Mark { id: "1".into(), expires_ms: FAR }]).await.unwrap();
        assert_eq!(log.seen("g", &["1".to_owned()], 0).await.unwrap(), [true]);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_file_that_cannot_be_opened_is_named_and_tried_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("not-yet/marks.redb");
        let store = MarksStore::new(path.clone());
        let Err(SourceError::Fatal(reason)) = store.part("a").await else { panic!("no folder") };
        assert!(reason.contains("not-yet/marks.redb"), "{reason}");
        std::fs::create_dir(path.parent().unwrap()).unwrap();
        assert!(store.part("a").await.is_ok());
        store.close().await;
    }
}
