//! What SQS answers, sorted into what the caller can do about it.

use sandbar_core::{PublishError, SourceError};

/// Why a connection cannot be made of its configuration.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ConnectError {
    /// A key has a value that can never work.
    #[error("`{key}` is not accepted: {reason}")]
    Invalid {
        /// The key in the configuration.
        key: &'static str,
        /// What is wrong with its value.
        reason: String,
    },
}

/// Why a call, or one entry of a batched call, did not work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub kind: Kind,
    /// For people: the error code and SQS's own words.
    pub message: String,
}

/// What can be done about a [`Failure`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Not reached, throttled, or broken on its side: the same call may work later.
    Away,
    /// There is no such queue, or there is none any more.
    NoQueue,
    /// These credentials may not do this.
    Denied,
    /// The call as it is can never work.
    Refused,
}

/// Error codes (without the prefixes and suffixes that versions of the protocol put around
/// them) by which SQS says that we may not do this. Expired credentials are not among
/// them: whoever issued them may renew them.
const DENIED: [&str; 8] = [
    "AccessDenied",
    "AuthFailure",
    "InvalidAccessKeyId",
    "InvalidClientTokenId",
    "InvalidSecurity",
    "MissingAuthenticationToken",
    "SignatureDoesNotMatch",
    "UnrecognizedClient",
];

/// Codes of requests that fail however often they are made.
const REFUSED: [&str; 17] = [
    "BatchEntryIdsNotDistinct",
    "BatchRequestTooLong",
    "InvalidAddress",
    "InvalidAttributeName",
    "InvalidAttributeValue",
    "InvalidBatchEntryId",
    "InvalidIdFormat",
    "InvalidMessageContents",
    "InvalidParameterCombination",
    "InvalidParameterValue",
    "MessageNotInflight",
    "MissingParameter",
    "QueueNameExists",
    "ReceiptHandleIsInvalid",
    "TooManyEntriesInBatchRequest",
    "UnsupportedOperation",
    "ValidationError",
];

impl Failure {
    /// A request that got no answer.
    pub fn away(message: impl Into<String>) -> Self {
        Self { kind: Kind::Away, message: message.into() }
    }

    /// A request, or an entry of one, that was answered with an error.
    pub fn answered(code: &str, message: &str) -> Self {
        let bare = code.rsplit(['.', '#']).next().unwrap_or(code);
        let bare = bare.strip_suffix("Exception").unwrap_or(bare);
        let kind = match bare {
            "NonExistentQueue" | "QueueDoesNotExist" | "QueueDeletedRecently" => Kind::NoQueue,
            _ if DENIED.contains(&bare) => Kind::Denied,
            _ if REFUSED.contains(&bare) => Kind::Refused,
            _ => Kind::Away,
        };
        Self { kind, message: format!("{message} ({bare})") }
    }

    /// As the fate of what a source or a connection was doing.
    pub fn source(&self, what: &str) -> SourceError {
        let message = format!("could not {what}: {}", self.message);
        match self.kind {
            Kind::Denied | Kind::Refused => SourceError::Fatal(message),
            Kind::Away | Kind::NoQueue => SourceError::Unavailable(message),
        }
    }

    /// As the fate of a record that was to go to `topic`.
    pub fn publish(&self, topic: &str) -> PublishError {
        let message = &self.message;
        match self.kind {
            Kind::Denied => PublishError::Rejected(format!(
                "writing to topic {topic} is not allowed: {message}"
            )),
            Kind::Refused => {
                PublishError::Rejected(format!("topic {topic} refuses the record: {message}"))
            }
            Kind::Away | Kind::NoQueue => {
                PublishError::Unavailable(format!("topic {topic}: {message}"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_known_in_every_spelling() {
        let kind = |code| Failure::answered(code, "").kind;
        for code in ["AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist"] {
            assert_eq!(kind(code), Kind::NoQueue);
        }
        assert_eq!(kind("com.amazonaws.sqs#QueueDoesNotExist"), Kind::NoQueue);
        assert_eq!(kind("AccessDeniedException"), Kind::Denied);
        assert_eq!(kind("InvalidMessageContents"), Kind::Refused);
    }

    #[test]
    fn only_what_no_retry_can_cure_ends_a_source_or_rejects_a_record() {
        for code in ["ExpiredToken", "RequestThrottled", "InternalError", "OverLimit", "Unheard"] {
            let failure = Failure::answered(code, "later");
            assert!(matches!(failure.source("x"), SourceError::Unavailable(_)), "{code}");
            assert!(matches!(failure.publish("t"), PublishError::Unavailable(_)), "{code}");
        }
        for code in ["AccessDenied", "InvalidMessageContents"] {
            let failure = Failure::answered(code, "never");
            assert!(matches!(failure.source("x"), SourceError::Fatal(m) if m.contains(code)));
            assert!(matches!(failure.publish("t"), PublishError::Rejected(m) if m.contains(code)));
        }
    }
}
