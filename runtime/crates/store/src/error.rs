//! Why a log could not be opened, or a request not be served.

use std::{io, path::PathBuf};

use sandbar_core::{AckToken, PublishError, SourceError};

/// Why a log could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// Another process (or another `Log` of this one) has the file open.
    #[error("the log {} is in use by another process: talk to that one, or stop it first", path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// The file is no log, or was damaged.
    #[error(
        "the log {} is damaged ({reason}): restore it from a backup, or move it away to begin with an empty log",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What was found.
        reason: String,
    },
    /// The file was written by a version of Sandbar with another layout.
    #[error(
        "the log {} has layout {found}, this version of sandbar reads layout {supported}: run the version that wrote it, or move the file away",
        path.display()
    )]
    Layout {
        /// The file.
        path: PathBuf,
        /// Layout of the file.
        found: u32,
        /// Layout that this version reads and writes.
        supported: u32,
    },
    /// The file cannot be read or written.
    #[error("the log {} cannot be opened: {source}; check that its folder exists, is writable and has space", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Why the writer or a read did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Failure {
    /// Nothing was changed, or it cannot be known; the same request may work later.
    #[error("{0}")]
    Unavailable(String),
    /// The changes of state of the event at `offset` do not fit what the state has become;
    /// nothing was changed.
    #[error("{reason}")]
    Stale { offset: u64, reason: String },
    /// No later request of this kind can work.
    #[error("{0}")]
    Fatal(String),
}

impl Failure {
    pub(crate) fn storage(error: impl Into<redb::Error>) -> Self {
        Self::Unavailable(format!("the log's storage failed: {}", error.into()))
    }

    pub(crate) fn closed() -> Self {
        Self::Unavailable("the log is closed".into())
    }
}

impl From<Failure> for SourceError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Unavailable(why) => Self::Unavailable(why),
            Failure::Stale { offset, reason } => Self::Stale { token: AckToken(offset), reason },
            Failure::Fatal(why) => Self::Fatal(why),
        }
    }
}

impl From<Failure> for PublishError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Unavailable(why) => Self::Unavailable(why),
            Failure::Stale { reason: why, .. } | Failure::Fatal(why) => Self::Rejected(why),
        }
    }
}
