//! Tells when a plugin's source has changed.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context as _, Result};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::mpsc;

/// Quiet time after which a save is complete: editors write several files.
const QUIET: Duration = Duration::from_millis(15);
/// What toolchains make, beside folders whose names begin with a dot.
const MADE: [&str; 6] = ["target", "node_modules", "__pycache__", "dist", "build", "venv"];

/// What tells one content of a file from another.
type Seen = BTreeMap<PathBuf, (u64, Option<SystemTime>)>;

/// A watch on the source of a plugin.
pub struct Sources {
    dir: PathBuf,
    seen: Seen,
    watcher: RecommendedWatcher,
    words: mpsc::Receiver<Instant>,
}

impl Sources {
    pub fn watch(dir: &Path) -> Result<Self> {
        let (tell, words) = mpsc::channel(1);
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // an error means that something may have been missed
            let is_access = event.is_ok_and(|e| matches!(e.kind, EventKind::Access(_)));
            if !is_access {
                // one that waits already says as much
                let _ = tell.try_send(Instant::now());
            }
        })?;
        let mut sources = Self { dir: dir.to_owned(), seen: Seen::new(), watcher, words };
        sources.seen = sources.look()?;
        Ok(sources)
    }

    /// Waits until a file is another than it was; returns when the first of the changes came.
    pub async fn changed(&mut self) -> Result<Instant> {
        loop {
            let first = self.words.recv().await.context("the watch of the source has ended")?;
            while let Ok(word) = tokio::time::timeout(QUIET, self.words.recv()).await {
                word.context("the watch of the source has ended")?;
            }
            let now = self.look().with_context(|| format!("cannot read {}", self.dir.display()))?;
            // a build may touch files, and an editor's swap file is no source
            if now != self.seen {
                self.seen = now;
                return Ok(first);
            }
        }
    }

    /// All source files, their folders watched.
    fn look(&mut self) -> io::Result<Seen> {
        let mut seen = Seen::new();
        let mut folders = vec![self.dir.clone()];
        while let Some(folder) = folders.pop() {
            // one that is watched already stays so
            self.watcher.watch(&folder, RecursiveMode::NonRecursive).map_err(io::Error::other)?;
            for entry in fs::read_dir(&folder)?.flatten() {
                let name = entry.file_name();
                if !is_source(&name.to_string_lossy()) {
                    continue;
                }
                // gone since it was listed
                let Ok(meta) = entry.metadata() else { continue };
                match meta.is_dir() {
                    true => folders.push(entry.path()),
                    false => drop(seen.insert(entry.path(), (meta.len(), meta.modified().ok()))),
                }
            }
        }
        Ok(seen)
    }
}

fn is_source(name: &str) -> bool {
    // cargo may write the lock file while it builds
    !name.starts_with('.') && !name.ends_with('~') && name != "Cargo.lock" && !MADE.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_change_of_a_source_is_told_and_what_a_build_makes_is_not() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("target")).unwrap();
        fs::write(dir.path().join("lib.rs"), "a").unwrap();
        let mut sources = Sources::watch(dir.path()).unwrap();
        fs::write(dir.path().join("target/out"), "x").unwrap();
        fs::write(dir.path().join("Cargo.lock"), "x").unwrap();
        let none = tokio::time::timeout(Duration::from_millis(300), sources.changed()).await;
        assert!(none.is_err(), "a build is no change");
        let soon = Duration::from_secs(10);
        fs::write(dir.path().join("lib.rs"), "ab").unwrap();
        tokio::time::timeout(soon, sources.changed()).await.unwrap().unwrap();
        fs::create_dir(dir.path().join("src")).unwrap();
        fs::write(dir.path().join("src/new.rs"), "").unwrap();
        tokio::time::timeout(soon, sources.changed()).await.unwrap().unwrap();
        fs::write(dir.path().join("src/new.rs"), "more").unwrap();
        tokio::time::timeout(soon, sources.changed()).await.unwrap().unwrap();
    }
}
