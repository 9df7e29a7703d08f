//! Watches the plugins folder.
//!
//! The operating system's events only say *when* to look; what counts is what a
//! listing of the folder shows (see `settle`). So a missed event, a network mount
//! that sends none and a Kubernetes `..data` link swap all end in the same place.

mod settle;

use std::{
    io,
    path::PathBuf,
    time::{Duration, SystemTime},
};

use notify::{
    EventKind, RecursiveMode, Watcher as _,
    event::{AccessKind, AccessMode, ModifyKind, RenameMode},
};
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};
use tokio_util::task::AbortOnDropHandle;
use tracing::{debug, warn};

pub use self::settle::Snapshot;
use self::settle::{Hint, Settler};
use crate::{
    config::{self, WatchMode},
    plugin_file,
};

/// Time between two listings when no event said that something changed.
const SAFETY_NET: Duration = Duration::from_secs(2);
/// Time that files found at the start get to settle for the first snapshot.
const FIRST_SNAPSHOT: Duration = Duration::from_millis(500);
/// Events held between two looks.
const WORDS: usize = 1024;
/// Least time between two listings while events pour in.
const BREATH: Duration = Duration::from_millis(10);

/// A running watch; ends when dropped.
pub struct Watcher {
    snapshots: watch::Receiver<Snapshot>,
    _task: AbortOnDropHandle<()>,
}

impl Watcher {
    /// Creates the folder if it is missing. The first snapshot holds the plugins
    /// that lie there already, save those that are being written just now.
    ///
    /// # Errors
    /// If the folder can neither be created nor read.
    pub async fn start(folder: PathBuf, config: config::Watch) -> io::Result<Self> {
        tokio::fs::create_dir_all(&folder).await?;
        let mut watch = Watch::new(folder, config);
        watch.look().await?;
        let patience = Instant::now() + FIRST_SNAPSHOT;
        while let Some(at) = watch.look_again.filter(|at| *at < patience) {
            tokio::time::sleep_until(at).await;
            watch.look().await?;
        }
        let (tx, snapshots) = watch::channel(watch.settler.snapshot().clone());
        let task = AbortOnDropHandle::new(tokio::spawn(watch.run(tx)));
        Ok(Self { snapshots, _task: task })
    }

    /// Snapshots from now on; the first is there already.
    pub fn snapshots(&self) -> watch::Receiver<Snapshot> {
        self.snapshots.clone()
    }
}

/// A word of the operating system: a file of this plugin changed, or (`None`)
/// something else in the folder did.
type Word = Option<(String, Hint)>;

struct Watch {
    folder: PathBuf,
    config: config::Watch,
    settler: Settler,
    look_again: Option<Instant>,
    events: mpsc::Receiver<Word>,
    /// Held to keep the events coming; `None` while polling.
    watcher: Option<notify::RecommendedWatcher>,
    /// The folder whose events we get: a new folder at the same path has another.
    watched: Option<plugin_file::FolderId>,
}

impl Watch {
    fn new(folder: PathBuf, config: config::Watch) -> Self {
        let (_, events) = mpsc::channel(WORDS);
        let settler = Settler::new(config.debounce, SystemTime::now());
        Self { folder, config, settler, look_again: None, events, watcher: None, watched: None }
    }

    async fn run(mut self, snapshots: watch::Sender<Snapshot>) {
        let mut failing = false;
        loop {
            let pause = if self.watcher.is_some() { SAFETY_NET } else { self.config.interval };
            let next_look = self.look_again.unwrap_or_else(|| Instant::now() + pause);
            tokio::select! {
                // closed while polling: then only the timer counts
                Some(word) = self.events.recv() => {
                    self.note(word);
                    tokio::time::sleep(BREATH).await;
                    while let Ok(word) = self.events.try_recv() {
                        self.note(word);
                    }
                }
                () = tokio::time::sleep_until(next_look) => {}
            }
            match self.look().await {
                Ok(true) => {
                    snapshots.send_replace(self.settler.snapshot().clone());
                    failing = false;
                }
                Ok(false) => failing = false,
                // the plugins go on as they are: an unmounted folder is no removal
                Err(error) if !failing => {
                    let folder = self.folder.display();
                    warn!(%folder, %error, "cannot read the plugins folder, nothing is removed");
                    failing = true;
                }
                Err(_) => {}
            }
        }
    }

    fn note(&mut self, word: Word) {
        if let Some((plugin, hint)) = word {
            self.settler.hint(plugin, hint);
        }
    }

    /// Lists the folder; whether the snapshot changed.
    async fn look(&mut self) -> io::Result<bool> {
        // cleared first: after an error the next look is the regular one
        self.look_again = None;
        let folder = self.folder.clone();
        let blocking = move || Ok((plugin_file::folder_id(&folder)?, plugin_file::list(&folder)?));
        let joined = tokio::task::spawn_blocking(blocking).await;
        let (id, listing) = joined.map_err(io::Error::other).flatten()?;
        if self.config.mode == WatchMode::Native && self.watched != Some(id) {
            self.watched = Some(id);
            self.listen();
            // what changed between the listing and now sent no event
            self.look_again = Some(Instant::now() + BREATH);
        }
        let (changed, again) = self.settler.observe(&self.folder, &listing, Instant::now());
        self.look_again = self.look_again.into_iter().chain(again).min();
        Ok(changed)
    }

    /// Asks the operating system for events; polls where it refuses.
    fn listen(&mut self) {
        let (tx, events) = mpsc::channel(WORDS);
        let handler = move |event: notify::Result<notify::Event>| {
            for word in words(event) {
                // full: the next look is due anyway, and sees what this is about
                let _ = tx.try_send(word);
            }
        };
        self.events = events;
        let started = notify::recommended_watcher(handler).and_then(|mut watcher| {
            watcher.watch(&self.folder, RecursiveMode::NonRecursive)?;
            Ok(watcher)
        });
        self.watcher = match started {
            Ok(watcher) => Some(watcher),
            Err(error) => {
                let folder = self.folder.display();
                warn!(%folder, %error, "no file events for the plugins folder, polling instead");
                None
            }
        };
    }
}

/// What an event says about plugins' files.
fn words(event: notify::Result<notify::Event>) -> Vec<Word> {
    let event = match event {
        Ok(event) => event,
        Err(error) => {
            debug!(%error, "file events may have been lost, looking anyway");
            return vec![None];
        }
    };
    let hint = match event.kind {
        // our own reading causes these
        EventKind::Access(kind) if kind != AccessKind::Close(AccessMode::Write) => return vec![],
        EventKind::Access(_) | EventKind::Modify(ModifyKind::Name(RenameMode::To)) => {
            Hint::Complete
        }
        // elsewhere nobody tells when the writer is done
        EventKind::Modify(ModifyKind::Data(_)) if cfg!(target_os = "linux") => Hint::Writing,
        _ => return vec![None],
    };
    event.paths.iter().map(|p| Some((plugin_file::plugin_of(p)?, hint))).collect()
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    async fn wait_for(
        rx: &mut watch::Receiver<Snapshot>,
        what: impl Fn(&Snapshot) -> bool,
    ) -> Snapshot {
        tokio::time::timeout(LIMIT, rx.wait_for(|s| what(s)))
            .await
            .expect("in time")
            .unwrap()
            .clone()
    }

    async fn started(dir: &Path, mode: WatchMode) -> (Watcher, watch::Receiver<Snapshot>) {
        let ms = Duration::from_millis;
        let config = config::Watch { mode, interval: ms(100), debounce: ms(100) };
        let watcher = Watcher::start(dir.to_owned(), config).await.unwrap();
        let rx = watcher.snapshots();
        (watcher, rx)
    }

    /// Everything that happens to files, in the given mode.
    async fn sees_add_replace_and_remove(mode: WatchMode) {
        let dir = tempfile::tempdir().unwrap();
        let plugins = dir.path().join("made/if/missing");
        let (_watcher, mut rx) = started(&plugins, mode).await;
        assert!(rx.borrow().is_empty());

        fs::write(plugins.join("a.wasm"), "one").unwrap();
        let first = wait_for(&mut rx, |s| s.contains_key("a")).await["a"].revision;

        let temporary = plugins.join("a.wasm.tmp");
        fs::write(&temporary, "two").unwrap();
        fs::rename(&temporary, plugins.join("a.wasm")).unwrap();
        let second = wait_for(&mut rx, |s| s["a"].revision > first).await["a"].revision;

        fs::write(plugins.join("a.wasm"), "in place").unwrap();
        wait_for(&mut rx, |s| s["a"].revision > second && s["a"].stamps.wasm.len == 8).await;

        fs::write(plugins.join("a.toml"), "").unwrap();
        wait_for(&mut rx, |s| s["a"].stamps.settings.is_some()).await;

        fs::remove_file(plugins.join("a.wasm")).unwrap();
        wait_for(&mut rx, Snapshot::is_empty).await;
    }

    #[tokio::test]
    async fn events_show_every_change() {
        sees_add_replace_and_remove(WatchMode::Native).await;
    }

    #[tokio::test]
    async fn polling_shows_every_change() {
        sees_add_replace_and_remove(WatchMode::Poll).await;
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn a_swapped_data_link_shows_the_new_content() {
        use std::os::unix::fs::symlink;
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        for (version, content) in [("..v1", "1"), ("..v2", "22")] {
            fs::create_dir(path(version)).unwrap();
            fs::write(path(version).join("a.wasm"), content).unwrap();
        }
        symlink("..v1", path("..data")).unwrap();
        symlink("..data/a.wasm", path("a.wasm")).unwrap();
        let (_watcher, mut rx) = started(dir.path(), WatchMode::Native).await;
        wait_for(&mut rx, |s| s.get("a").is_some_and(|f| f.stamps.wasm.len == 1)).await;

        symlink("..v2", path("..data_tmp")).unwrap();
        fs::rename(path("..data_tmp"), path("..data")).unwrap();
        wait_for(&mut rx, |s| s["a"].stamps.wasm.len == 2).await;
    }

    #[tokio::test]
    async fn a_folder_that_goes_away_removes_nothing_and_is_watched_when_it_returns() {
        let dir = tempfile::tempdir().unwrap();
        let plugins = dir.path().join("plugins");
        let (_watcher, mut rx) = started(&plugins, WatchMode::Native).await;
        fs::write(plugins.join("a.wasm"), "one").unwrap();
        wait_for(&mut rx, |s| s.contains_key("a")).await;

        fs::rename(&plugins, dir.path().join("elsewhere")).unwrap();
        fs::create_dir(&plugins).unwrap();
        fs::write(plugins.join("a.wasm"), "longer").unwrap();
        fs::write(plugins.join("b.wasm"), "b").unwrap();
        let now = wait_for(&mut rx, |s| s.contains_key("b")).await;
        assert!(now.contains_key("a"));
        wait_for(&mut rx, |s| s["a"].stamps.wasm.len == 6).await;
    }
}
