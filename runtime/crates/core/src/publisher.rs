//! The seam by which a handler publishes at once, whatever becomes of its event.

use async_trait::async_trait;

use crate::Outgoing;

/// Publishes on behalf of one handler, as far as it may.
#[async_trait]
pub trait Publisher: Send + Sync {
    /// Publishes `events` in their order and returns when all of them are durable.
    ///
    /// # Errors
    /// [`PublishRefusal::Denied`]: none was published. On the others some may have been.
    async fn publish(&self, events: Vec<Outgoing>) -> Result<(), PublishRefusal>;
}

/// Why not all events were published.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishRefusal {
    /// The handler may not publish to this topic or connection.
    #[error("publishing to `{0}` is not allowed")]
    Denied(String),
    /// The broker refuses one of them for good.
    #[error("{0}")]
    Rejected(String),
    /// The broker is away.
    #[error("{0}")]
    Unavailable(String),
}
