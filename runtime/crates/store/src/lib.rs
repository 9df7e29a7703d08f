//! The embedded log: topics, partitions, consumer cursors and retention in one file
//! inside the process. It is the connection that Sandbar uses when none is configured,
//! and with memory in place of the file it is the bus of tests.
//!
//! One thread writes ([`committer`]): it gathers what has queued up into one transaction
//! and one fsync. Readers work on snapshots and never wait for it. What a subscription
//! settles and what its handler produced for this log are one transaction, so each
//! event takes effect exactly once here, whatever is killed when.
//!
//! The path of a record: [`sink`] -> [`writer`] -> [`committer`] -> [`transaction`] ->
//! [`batching`] -> [`codec`] -> commit -> [`catalog`], which wakes followers -> [`scan`] ->
//! [`partition`] or [`reader`]. The choice of library, its measurement and the layout
//! of the file are in `docs/storage.md`.
#![warn(missing_docs)]
#![allow(rustdoc::private_intra_doc_links, reason = "the map above is for readers of the code")]

mod batching;
mod catalog;
mod codec;
mod committer;
mod compaction;
mod config;
mod error;
mod lease;
mod log;
mod marks;
mod outage;
mod partition;
mod reader;
mod retention;
mod scan;
mod schema;
mod sink;
mod source;
mod state;
mod stats;
mod storage;
mod transaction;
mod writer;

pub use config::{LogConfig, Retention, TopicConfig};
pub use error::LogError;
pub use log::Log;
pub use retention::Retained;
pub use stats::LogStats;

/// What subscriptions to a log promise.
pub const GUARANTEES: sandbar_core::Guarantees = sandbar_core::Guarantees {
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
};
