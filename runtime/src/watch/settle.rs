//! Decides when a file that changes has stopped changing. Pure: it is given
//! what the folder looks like and what time it is.

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
    time::{Duration, SystemTime},
};

use tokio::time::Instant;

use crate::plugin_file::{Listing, PluginFile, Stamps};

/// Quiet time after the writer closed the file or renamed it into place. Not
/// zero: `NAME.wasm` and `NAME.toml` copied together are taken as one change.
const COMPLETE: Duration = Duration::from_millis(40);
/// How much longer to wait while a writer is known to hold the file open.
const WRITING: u32 = 5;
/// How coarse the times of files may be.
const COARSE: Duration = Duration::from_secs(2);

/// What the operating system told about a plugin's files since they were taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Hint {
    /// Closed after writing, or renamed into place.
    Complete,
    /// Written to and not closed yet.
    Writing,
}

/// The plugins of a folder whose files have settled.
pub type Snapshot = BTreeMap<String, PluginFile>;

#[derive(Debug)]
struct Pending {
    now: Option<Stamps>,
    since: Instant,
}

/// Remembers what was taken and what is still moving.
#[derive(Debug)]
pub(super) struct Settler {
    /// Quiet time where nothing is known of the writer.
    quiet: Duration,
    /// The time, until the first look: what has lain there for long need not be watched first.
    starts: Option<SystemTime>,
    taken: Snapshot,
    pending: HashMap<String, Pending>,
    hints: HashMap<String, Hint>,
    revision: u64,
}

impl Settler {
    /// A settler that takes a file when it was left alone for `quiet`; at its first look, which
    /// is `starts`, also by what the files say of themselves.
    pub(super) fn new(quiet: Duration, starts: SystemTime) -> Self {
        let (taken, pending, hints) = Default::default();
        Self { quiet, starts: Some(starts), taken, pending, hints, revision: 0 }
    }

    /// Notes what the operating system said about a file of `plugin`.
    pub(super) fn hint(&mut self, plugin: String, hint: Hint) {
        self.hints.insert(plugin, hint);
    }

    /// Compares the folder with what was taken. Returns whether the snapshot
    /// changed, and when to look again for files that are still moving.
    pub(super) fn observe(
        &mut self,
        folder: &Path,
        listing: &Listing,
        now: Instant,
    ) -> (bool, Option<Instant>) {
        let names = listing.plugins.keys().chain(self.taken.keys()).chain(self.pending.keys());
        let names: Vec<String> = names.filter(|n| !listing.unknown.contains(*n)).cloned().collect();
        let (starts, long) = (self.starts.take(), self.quiet + COARSE);
        let at_rest = |stamps: Option<Stamps>| {
            let age = starts.and_then(|starts| stamps?.age(starts));
            age.is_some_and(|age| age > long)
        };
        let mut changed = false;
        let mut look_again: Option<Instant> = None;
        for name in names {
            let stamps = listing.plugins.get(&name).copied();
            let hint = self.hints.get(&name).copied();
            if stamps == self.taken.get(&name).map(|f| f.stamps) && hint.is_none() {
                self.pending.remove(&name);
                continue;
            }
            let fresh = || Pending { now: stamps, since: now };
            let pending = self.pending.entry(name.clone()).or_insert_with(fresh);
            if pending.now != stamps {
                *pending = fresh();
            }
            let due = pending.since + quiet_time(self.quiet, stamps, hint);
            if now < due && !at_rest(stamps) {
                look_again = Some(look_again.map_or(due, |at| at.min(due)));
                continue;
            }
            self.take(folder, name, stamps);
            changed = true;
        }
        // a hint about files that came and went between two looks
        self.hints.retain(|name, _| self.pending.contains_key(name));
        (changed, look_again)
    }

    fn take(&mut self, folder: &Path, name: String, stamps: Option<Stamps>) {
        self.pending.remove(&name);
        self.hints.remove(&name);
        let Some(stamps) = stamps else {
            self.taken.remove(&name);
            return;
        };
        self.revision += 1;
        let file = PluginFile {
            wasm: folder.join(format!("{name}.wasm")),
            settings: folder.join(format!("{name}.toml")),
            stamps,
            revision: self.revision,
        };
        self.taken.insert(name, file);
    }

    /// What has settled so far.
    pub(super) fn snapshot(&self) -> &Snapshot {
        &self.taken
    }
}

fn quiet_time(quiet: Duration, stamps: Option<Stamps>, hint: Option<Hint>) -> Duration {
    match (stamps, hint) {
        // a removal may be the first half of a replacement
        (None, _) | (_, None) => quiet,
        (_, Some(Hint::Complete)) => COMPLETE.min(quiet),
        (_, Some(Hint::Writing)) => quiet * WRITING,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::plugin_file::list;

    struct Folder {
        dir: tempfile::TempDir,
        settler: Settler,
        start: Instant,
    }

    impl Folder {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let settler = Settler::new(Duration::from_millis(150), SystemTime::now());
            Self { dir, settler, start: Instant::now() }
        }

        fn write(&self, name: &str, content: &str) {
            fs::write(self.dir.path().join(name), content).unwrap();
        }

        /// Looks at the folder `ms` after the start; the names taken and whether
        /// there was a change.
        fn look(&mut self, ms: u64) -> (bool, Vec<String>) {
            let listing = list(self.dir.path()).unwrap();
            let now = self.start + Duration::from_millis(ms);
            let (changed, _) = self.settler.observe(self.dir.path(), &listing, now);
            (changed, self.settler.snapshot().keys().cloned().collect())
        }
    }

    #[test]
    fn a_growing_file_is_taken_only_when_it_stops_growing() {
        let mut f = Folder::new();
        for ms in [0, 100, 200, 300] {
            f.write("a.wasm", &"x".repeat(1 + ms as usize));
            assert_eq!(f.look(ms), (false, vec![]), "at {ms} ms");
        }
        assert_eq!(f.look(449).1, Vec::<String>::new());
        assert_eq!(f.look(450), (true, vec!["a".to_owned()]));
        assert!(!f.look(451).0, "nothing changed since");
    }

    #[test]
    fn what_has_lain_there_for_long_is_taken_at_the_start_and_only_then() {
        let mut f = Folder::new();
        f.write("old.wasm", "one");
        f.write("old.toml", "");
        let later = SystemTime::now() + COARSE + Duration::from_millis(160);
        f.settler = Settler::new(f.settler.quiet, later);
        assert_eq!(f.look(0), (true, vec!["old".to_owned()]));
        f.write("new.wasm", "one");
        assert!(!f.look(100).0, "it may still be written to");
        assert!(f.look(250).0);
    }

    #[test]
    fn what_was_just_written_is_waited_for_at_the_start() {
        let mut f = Folder::new();
        f.write("fresh.wasm", "one");
        assert!(!f.look(0).0);
        assert!(f.look(150).0);
    }

    #[test]
    fn a_closed_file_is_taken_sooner_and_an_open_one_later() {
        let mut f = Folder::new();
        f.write("closed.wasm", "");
        f.write("open.wasm", "");
        f.settler.hint("closed".into(), Hint::Complete);
        f.settler.hint("open".into(), Hint::Writing);
        assert!(!f.look(0).0);
        assert_eq!(f.look(40), (true, vec!["closed".to_owned()]));
        assert!(!f.look(749).0);
        assert!(f.look(750).0);
    }

    #[test]
    fn both_files_of_a_plugin_are_one_change() {
        let mut f = Folder::new();
        f.write("a.wasm", "");
        f.look(0);
        f.write("a.toml", "");
        assert!(!f.look(149).0);
        assert!(!f.look(298).0, "the settings restart the wait for both");
        assert!(f.look(299).0);
        assert!(f.settler.snapshot()["a"].stamps.settings.is_some());
    }

    #[test]
    fn a_gap_between_removal_and_replacement_is_no_removal() {
        let mut f = Folder::new();
        f.write("a.wasm", "one");
        f.look(0);
        assert!(f.look(150).0);
        fs::remove_file(f.dir.path().join("a.wasm")).unwrap();
        assert!(!f.look(200).0);
        f.write("a.wasm", "three");
        assert!(!f.look(349).0);
        assert_eq!(f.look(500), (true, vec!["a".to_owned()]));
        fs::remove_file(f.dir.path().join("a.wasm")).unwrap();
        f.look(600);
        assert_eq!(f.look(750), (true, vec![]));
    }

    #[test]
    fn a_rewrite_that_leaves_the_stamp_alone_is_looked_at_again() {
        let mut f = Folder::new();
        f.write("a.wasm", "one");
        f.look(0);
        f.look(150);
        let first = f.settler.snapshot()["a"].revision;
        f.settler.hint("a".into(), Hint::Complete);
        f.look(200);
        assert!(f.look(240).0);
        assert!(f.settler.snapshot()["a"].revision > first);
    }

    #[test]
    fn a_file_that_cannot_be_looked_at_is_neither_taken_nor_removed() {
        let mut f = Folder::new();
        f.write("a.wasm", "one");
        f.look(0);
        f.look(150);
        let blind = Listing { unknown: ["a".to_owned()].into(), ..Listing::default() };
        let later = f.start + Duration::from_secs(9);
        let (changed, _) = f.settler.observe(f.dir.path(), &blind, later);
        assert!(!changed && f.settler.snapshot().contains_key("a"));
    }
}
