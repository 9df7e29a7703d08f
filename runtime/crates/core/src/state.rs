//! The durable state of a subscription, as data: what a handled event changes in it, and
//! the seam to whatever keeps it.

use async_trait::async_trait;
use bytes::Bytes;

use crate::{Mark, SourceError};

/// What one handled event changes: all of it or nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateChanges {
    /// At most one per key.
    pub ops: Vec<StateOp>,
    /// What the state may come to with them.
    pub quota: StateQuota,
    /// The time that the handler lived in, milliseconds since the Unix epoch: what had
    /// not expired for it has not expired for its changes.
    pub at_ms: u64,
}

/// A change of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateOp {
    /// Which one.
    pub key: String,
    /// What must still be there; otherwise none of the event's changes are made.
    pub only_if: Option<Expected>,
    /// What becomes of it.
    pub change: StateChange,
}

/// What a change depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// There is no such key.
    Absent,
    /// Nobody has changed it since it had this version.
    Version(u64),
}

/// What becomes of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StateChange {
    /// It has this value.
    Put {
        /// The value.
        value: Bytes,
        /// When it is gone by itself, milliseconds since the Unix epoch.
        expires_ms: Option<u64>,
    },
    /// So much is added to the decimal number that it holds, 0 where there is none: those
    /// of concurrent events add up. Its expiry stays.
    Add(i64),
    /// It is gone.
    Delete,
}

/// How much state a subscription may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StateQuota {
    /// Keys.
    pub keys: u64,
    /// Bytes of keys and values together.
    pub bytes: u64,
}

impl StateQuota {
    /// For whoever is not limited.
    pub const UNLIMITED: Self = Self { keys: u64::MAX, bytes: u64::MAX };
}

/// How much state a subscription has; what has expired counts until it is swept away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StateSize {
    /// Keys.
    pub keys: u64,
    /// Bytes of keys and values together.
    pub bytes: u64,
}

/// The value of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateEntry {
    /// The value.
    pub value: Bytes,
    /// Another one after each change, also where the key was gone in between.
    pub version: u64,
    /// When it is gone by itself, milliseconds since the Unix epoch.
    pub expires_ms: Option<u64>,
}

/// Changes that are to be made outside of a settlement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateWrite {
    /// The changes.
    pub changes: StateChanges,
    /// Written in the same step, so that changes of an event that is delivered again are
    /// not made again.
    pub mark: Option<Mark>,
}

/// Keeps the state of subscriptions, each by its group, beside their marks.
#[async_trait]
pub trait StateStore: Send + Sync {
    /// The value of `key` unless it has expired at `now_ms`.
    ///
    /// # Errors
    /// [`SourceError::Unavailable`] while the store does not answer.
    async fn get(
        &self,
        group: &str,
        key: &str,
        now_ms: u64,
    ) -> Result<Option<StateEntry>, SourceError>;

    /// Up to `limit` keys that begin with `prefix` and come after `after`, in byte order,
    /// with their values, without what has expired at `now_ms`.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    async fn list(
        &self,
        group: &str,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
        now_ms: u64,
    ) -> Result<Vec<(String, StateEntry)>, SourceError>;

    /// How much there is.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    async fn size(&self, group: &str) -> Result<StateSize, SourceError>;

    /// Makes changes, one write after the other; they are durable when this returns. A
    /// write that does not fit what the state has become meanwhile is left out, and the
    /// inner error says why.
    ///
    /// # Errors
    /// [`SourceError::Unavailable`]: none of them is certain. The call may be made again,
    /// and then makes them again.
    async fn write(
        &self,
        group: &str,
        writes: &[StateWrite],
    ) -> Result<Vec<Result<(), String>>, SourceError>;
}
