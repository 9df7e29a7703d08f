//! Which events a subscription has handled already (contract I1 to I3).

use async_trait::async_trait;

use crate::SourceError;

/// Says that one event was handled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// Identity of the event, see [`Event::id`](crate::Event::id).
    pub id: String,
    /// When the mark may be forgotten, milliseconds since the Unix epoch.
    pub expires_ms: u64,
}

/// Remembers marks by subscription. Bounded by the age of its marks alone, so
/// every mark expires.
#[async_trait]
pub trait Marks: Send + Sync {
    /// Which of `ids` carry a mark of `group` that has not expired at `now_ms`, in
    /// the order of `ids`.
    ///
    /// # Errors
    /// [`SourceError::Unavailable`] while the store does not answer.
    async fn seen(
        &self,
        group: &str,
        ids: &[String],
        now_ms: u64,
    ) -> Result<Vec<bool>, SourceError>;

    /// Writes marks of `group`; they are durable when this returns. An event that
    /// is marked already keeps the later of the two expiries.
    ///
    /// # Errors
    /// [`SourceError::Unavailable`]: none of them is certain; the call may be made again.
    async fn mark(&self, group: &str, marks: &[Mark]) -> Result<(), SourceError>;
}
