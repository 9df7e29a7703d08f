//! Runs a built plugin in a test: the engine, pipeline and log of production, with
//! the log in memory.
//!
//! ```no_run
//! use sandbar_test::{Outgoing, TestHost};
//!
//! # async fn example() -> anyhow::Result<()> {
//! let host = TestHost::load("guests/github-router.wasm").await?;
//! host.publish([Outgoing::new("github.webhooks", r#"{"event":"ping","payload":{}}"#)]).await?;
//! let outcome = host.drain().await?;
//! assert_eq!(outcome.stats.handled, 1);
//! assert_eq!(outcome.topic("github.events").len(), 1);
//! assert!(outcome.dead_letters.is_empty());
//! # Ok(())
//! # }
//! ```
//!
//! The plugin runs as its own description asks to: topics, ordering, retries. What the
//! operator sets in production is set with [`TestHost::builder`]. Retries wait in real
//! time, so tests of a plugin that fails ask for short delays with [`Builder::retry`].
//!
//! [`Bench`] is the engine alone, one attempt at a time: what `sandbar plugin test` runs its
//! cases on, and [`TestHost`] its plugin.
#![warn(missing_docs)]

mod bench;
mod builder;
mod counted;
mod host;
mod log;
mod memory;
mod outcome;
mod suggested;

pub use bench::{Attempt, Bench, BenchConfig, Loaded};
pub use builder::Builder;
pub use host::TestHost;
pub use log::LogLine;
pub use outcome::{DeadLetter, Outcome};
pub use sandbar_core::{Event, Header, Outgoing};
pub use sandbar_pipeline::{
    DeadLetter as DeadLetterInfo, OnExhausted, Ordering, RetryPolicy, StatsSnapshot,
};
pub use sandbar_wasm::{
    AllowedHost, Description, Examined, Grant, HostPattern, HttpAccess, HttpRequest, HttpResponse,
    Inspection, Limits, LoadSpec, LogLevel, Respond,
};

use std::path::{Path, PathBuf};

/// The folder of built plugins in this repository: `SANDBAR_GUESTS`, else `guests`.
///
/// # Errors
/// Where `NAME.wasm` is not there, with the command that builds it.
pub fn guest(name: &str) -> anyhow::Result<PathBuf> {
    let repository = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../.."));
    // a relative folder is meant from the root, where the build script runs
    let folder = std::env::var_os("SANDBAR_GUESTS").unwrap_or_else(|| "guests".into());
    let path = repository.join(folder).join(format!("{name}.wasm"));
    anyhow::ensure!(path.is_file(), "{} is not there: run scripts/build-guests.sh", path.display());
    Ok(path)
}
