//! The suite of all adapters, on the log in memory and on disk.

mod common;

use std::{process::ExitCode, sync::Arc};

use async_trait::async_trait;
use common::config;
use sandbar_core::{Connection, Guarantees};
use sandbar_store::{Log, LogConfig};
use sandbar_testkit::conformance::{Backend, Declared, Headers, Suite};
use tempfile::TempDir;

const RECORD: usize = 4 << 20;

/// A log of three partitions a topic, and another that makes no topics.
struct Embedded {
    name: &'static str,
    log: Log,
    strict: Log,
    /// Holds the files, if there are any.
    _folder: Option<TempDir>,
}

fn configs() -> [LogConfig; 2] {
    let open = LogConfig { partitions: 3, max_record_bytes: RECORD, ..config() };
    let strict = LogConfig { create_topics: false, ..open.clone() };
    [open, strict]
}

fn memory() -> Embedded {
    let [log, strict] = configs().map(|c| Log::in_memory(c).expect("opens"));
    Embedded { name: "embedded log in memory", log, strict, _folder: None }
}

fn disk() -> Embedded {
    let folder = TempDir::new().expect("a folder");
    let [open, strict] = configs();
    let log = Log::open(folder.path().join("log"), open).expect("opens");
    let strict = Log::open(folder.path().join("strict"), strict).expect("opens");
    Embedded { name: "embedded log on disk", log, strict, _folder: Some(folder) }
}

#[async_trait]
impl Backend for Embedded {
    fn declared(&self) -> Declared {
        Declared {
            name: self.name,
            guarantees: Guarantees {
                ordered: true,
                atomic_effects: true,
                atomic_marks: true,
                atomic_state: true,
                tombstones: true,
                delayed_release: false,
                spread_over_processes: false,
                fan_out: true,
                retained: true,
                redelivery_counted: false,
            },
            partitions: 3,
            largest_payload: RECORD - 1024,
            too_large: Some(RECORD + 1),
            headers: Headers::EVERYTHING,
            locks_keys: false,
            lease: None,
            gaps: &[],
        }
    }

    async fn connect(&self) -> Arc<dyn Connection> {
        Arc::new(self.log.clone())
    }

    async fn connect_strict(&self) -> Arc<dyn Connection> {
        Arc::new(self.strict.clone())
    }

    /// One process holds the log.
    async fn connect_elsewhere(&self) -> Option<Arc<dyn Connection>> {
        None
    }
}

fn main() -> ExitCode {
    Suite::default().on("in_memory", || Some(memory())).on("on_disk", || Some(disk())).run()
}
