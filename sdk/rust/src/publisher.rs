//! Publishing in the middle of a call, whatever becomes of its event. Needs the grant
//! `publisher`.
//!
//! Prefer to return events: those are published if the attempt succeeds, and in one step
//! with the acknowledgement where the broker has such. What is published here stays
//! published, and is published again by a retry.
//!
//! ```
//! use sandbar_sdk::{Event, Failure, Outgoing, publisher, testing};
//!
//! fn handle(event: &Event) -> Result<(), Failure> {
//!     publisher::publish(Outgoing::new("audit").text(format!("saw {}", event.id())))?;
//!     Err(Failure::reject("no", "but that it was seen is on record"))
//! }
//!
//! assert!(handle(&Event::new("in")).is_err());
//! assert_eq!(testing::published()[0].topic, "audit");
//! ```

use std::fmt;

use crate::{Failure, IntoOutputs, platform};

/// Why events were not published, or not all of them.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum PublishError {
    /// The plugin may not publish to this topic or connection.
    Denied(String),
    /// Larger than the limit, in bytes, for all that one call publishes.
    TooLarge(u64),
    /// The broker did not confirm in time; it may have the events or not.
    Timeout,
    /// The broker is away.
    Unavailable(String),
    /// The broker refuses them, or there are too many.
    Other(String),
}

impl fmt::Display for PublishError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Denied(what) => write!(f, "may not publish to `{what}`"),
            Self::TooLarge(limit) => write!(f, "may publish {limit} bytes at most"),
            Self::Timeout => f.write_str("the broker did not confirm in time"),
            Self::Unavailable(reason) => write!(f, "the broker is away: {reason}"),
            Self::Other(reason) => f.write_str(reason),
        }
    }
}

impl std::error::Error for PublishError {}

/// What cannot work is rejected, the rest is worth a retry.
impl From<PublishError> for Failure {
    fn from(error: PublishError) -> Self {
        let code = match &error {
            PublishError::Denied(_) => "publish-denied",
            PublishError::TooLarge(_) => "publish-too-large",
            _ => return Self::retry(error.to_string()),
        };
        Self::reject(code, error.to_string())
    }
}

/// Publishes now; returns once the broker has confirmed every event.
///
/// # Errors
/// [`PublishError`]. But for [`PublishError::Denied`] and
/// [`TooLarge`](PublishError::TooLarge), some may have been published.
pub fn publish(events: impl IntoOutputs) -> Result<(), PublishError> {
    platform::publish(events.into_outputs())
}
