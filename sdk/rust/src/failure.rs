use std::{fmt, time::Duration};

/// Why an event was not processed, and what should follow.
///
/// A panic, an exceeded time limit and a memory limit count as [`Failure::Retry`]
/// with the policy's delay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// Deliver again; uses up one attempt, then goes to the dead-letter queue.
    Retry {
        /// For people.
        reason: String,
        /// Overrides the policy's next delay (the host clamps it to the policy's maximum).
        after: Option<Duration>,
    },
    /// Never retry: straight to the dead-letter queue.
    Reject {
        /// Stable machine-readable code; dead letters are grouped by it.
        code: String,
        /// For people.
        message: String,
    },
    /// Not for this plugin: acknowledge, count as skipped.
    Skip {
        /// For people.
        reason: String,
    },
    /// A dependency is down: pause this plugin for so long, then deliver again
    /// without using up an attempt. Counted in whole milliseconds.
    Defer {
        /// How long to pause.
        pause: Duration,
    },
}

impl Failure {
    /// A transient failure: try again under the retry policy.
    pub fn retry(reason: impl Into<String>) -> Self {
        Self::Retry { reason: reason.into(), after: None }
    }

    /// A permanent failure: straight to the dead-letter queue.
    pub fn reject(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Reject { code: code.into(), message: message.into() }
    }

    /// The event is not for this plugin.
    pub fn skip(reason: impl Into<String>) -> Self {
        Self::Skip { reason: reason.into() }
    }

    /// A dependency is down: pause the whole plugin.
    pub fn defer(pause: Duration) -> Self {
        Self::Defer { pause }
    }

    /// Asks for this delay before the next attempt. Lengthens or shortens the pause
    /// of [`Failure::defer`]; changes nothing of the failures that end an event.
    ///
    /// ```
    /// use std::time::Duration;
    /// use sandbar_sdk::Failure;
    ///
    /// let failure = Failure::retry("rate limited").after(Duration::from_secs(30));
    /// assert_eq!(failure.to_string(), "rate limited (again after 30s)");
    /// ```
    #[must_use]
    pub fn after(self, delay: Duration) -> Self {
        match self {
            Self::Retry { reason, .. } => Self::Retry { reason, after: Some(delay) },
            Self::Defer { .. } => Self::Defer { pause: delay },
            ended => ended,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Retry { reason, after: None } => f.write_str(reason),
            Self::Retry { reason, after: Some(delay) } => {
                write!(f, "{reason} (again after {delay:?})")
            }
            Self::Reject { code, message } => write!(f, "{code}: {message}"),
            Self::Skip { reason } => write!(f, "skipped: {reason}"),
            Self::Defer { pause } => write!(f, "deferred for {pause:?}"),
        }
    }
}

impl std::error::Error for Failure {}

impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Self {
        Self::reject("invalid-json", error.to_string())
    }
}

impl From<std::str::Utf8Error> for Failure {
    fn from(error: std::str::Utf8Error) -> Self {
        Self::reject("invalid-utf8", error.to_string())
    }
}

/// Says at the place of an error what should become of the event.
///
/// ```
/// use sandbar_sdk::{Failure, ResultExt};
///
/// fn total(text: &str) -> Result<u32, Failure> {
///     text.parse::<u32>().or_reject("bad-total")
/// }
/// assert_eq!(total("x").unwrap_err().to_string(), "bad-total: invalid digit found in string");
/// ```
pub trait ResultExt<T> {
    /// Turns the error into [`Failure::Retry`].
    ///
    /// # Errors
    /// The same as before, as a [`Failure`].
    fn or_retry(self) -> Result<T, Failure>;

    /// Turns the error into [`Failure::Reject`] with this code.
    ///
    /// # Errors
    /// The same as before, as a [`Failure`].
    fn or_reject(self, code: &str) -> Result<T, Failure>;
}

impl<T, E: fmt::Display> ResultExt<T> for Result<T, E> {
    fn or_retry(self) -> Result<T, Failure> {
        self.map_err(|e| Failure::retry(e.to_string()))
    }

    fn or_reject(self, code: &str) -> Result<T, Failure> {
        self.map_err(|e| Failure::reject(code, e.to_string()))
    }
}

/// As the host counts it. A longer delay than u64 milliseconds (584 million years) is as
/// good as this one.
#[cfg(any(target_arch = "wasm32", test))]
pub(crate) fn millis(delay: Duration) -> u64 {
    u64::try_from(delay.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delay_applies_to_what_is_delivered_again_only() {
        let second = Duration::from_secs(1);
        let retry = Failure::retry("r").after(second);
        assert_eq!(retry, Failure::Retry { reason: "r".into(), after: Some(second) });
        assert_eq!(Failure::defer(second * 2).after(second), Failure::defer(second));
        assert_eq!(Failure::reject("c", "m").after(second), Failure::reject("c", "m"));
        assert_eq!(Failure::skip("s").after(second), Failure::skip("s"));
    }
}
