//! The suite of all adapters, on the log in memory and on disk.

mod common;

use std::{process::ExitCode, sync::Arc};

use async_trait::async_trait;
use common::config;
use parking_lot::Mutex;
use redb::backends::InMemoryBackend;
use sandbar_core::{Connection, Guarantees};
use sandbar_store::{Log, LogConfig};
use sandbar_testkit::conformance::{Backend, Declared, Headers, Suite};
use tempfile::TempDir;

const RECORD: usize = 4 << 20;

/// A log of three partitions a topic, and another that makes no topics.
struct Embedded {
    name: &'static str,
    log: Mutex<Log>,
    /// Opens that log, again once it is closed.
    open: Box<dyn Fn() -> Log + Send + Sync>,
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
    let [config, strict] = configs();
    // it outlives the log that is opened on it
    let memory = Arc::new(InMemoryBackend::new());
    let open = move || Log::with_backend(memory.clone(), config.clone()).expect("opens");
    let strict = Log::in_memory(strict).expect("opens");
    Embedded::new("embedded log in memory", open, strict, None)
}

fn disk() -> Embedded {
    let folder = TempDir::new().expect("a folder");
    let [config, strict] = configs();
    let path = folder.path().join("log");
    let open = move || Log::open(&path, config.clone()).expect("opens");
    let strict = Log::open(folder.path().join("strict"), strict).expect("opens");
    Embedded::new("embedded log on disk", open, strict, Some(folder))
}

impl Embedded {
    fn new(
        name: &'static str,
        open: impl Fn() -> Log + Send + Sync + 'static,
        strict: Log,
        folder: Option<TempDir>,
    ) -> Self {
        let log = Mutex::new(open());
        Self { name, log, open: Box::new(open), strict, _folder: folder }
    }
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
        Arc::new(self.log.lock().clone())
    }

    async fn connect_strict(&self) -> Arc<dyn Connection> {
        Arc::new(self.strict.clone())
    }

    /// One process holds the log.
    async fn connect_elsewhere(&self) -> Option<Arc<dyn Connection>> {
        None
    }

    async fn reopen(&self) -> Arc<dyn Connection> {
        let log = (self.open)();
        *self.log.lock() = log.clone();
        Arc::new(log)
    }
}

fn main() -> ExitCode {
    Suite::default().on("in_memory", || Some(memory())).on("on_disk", || Some(disk())).run()
}
