//! librdkafka's error codes, sorted into what the caller can do about them.

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use sandbar_core::{PublishError, SourceError};

/// Why a connection cannot be made of its configuration.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ConnectError {
    /// `brokers` is empty.
    #[error("`brokers` is empty: give at least one `host:port`")]
    NoBrokers,
    /// A property that Sandbar itself decides.
    #[error("property `{property}` cannot be set: {reason}")]
    Controlled {
        /// The property.
        property: String,
        /// What decides it instead.
        reason: &'static str,
    },
    /// TLS was asked for, and is not part of this build.
    #[error(
        "`security.protocol` is `{value}`, but this build has no TLS: build with the cargo feature `tls`"
    )]
    NeedsTls {
        /// The value given.
        value: String,
    },
    /// librdkafka does not know the property or refuses its value.
    #[error("property `{property}` is not accepted: {description}")]
    Invalid {
        /// The property.
        property: String,
        /// librdkafka's words.
        description: String,
    },
    /// librdkafka refuses the configuration as a whole.
    #[error("the client could not be made: {0}")]
    Client(String),
}

/// Codes by which a broker says that we may not do this.
fn denied(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as E;
    matches!(
        code,
        E::TopicAuthorizationFailed
            | E::GroupAuthorizationFailed
            | E::ClusterAuthorizationFailed
            | E::TransactionalIdAuthorizationFailed
    )
}

/// The code behind an error. rdkafka leaves out that of an admin request.
pub(crate) fn code(error: &KafkaError) -> Option<RDKafkaErrorCode> {
    match error {
        KafkaError::AdminOp(code) => Some(*code),
        other => other.rdkafka_error_code(),
    }
}

/// The error of a request made once, for `what`.
pub(crate) fn request(what: &str, error: &KafkaError, heard: Option<String>) -> SourceError {
    let because = heard.map(|h| format!(" ({h})")).unwrap_or_default();
    let message = format!("could not {what}: {}{because}", describe(error));
    match code(error) {
        Some(code) if denied(code) || code == RDKafkaErrorCode::InvalidTopic => {
            SourceError::Fatal(message)
        }
        _ => SourceError::Unavailable(message),
    }
}

/// The bare text of an error, without rdkafka's wrapping where there is a code.
pub(crate) fn describe(error: &KafkaError) -> String {
    code(error).map_or_else(|| error.to_string(), |code| code.to_string())
}

/// The fate of one record that was not delivered.
pub(crate) fn publish(topic: &str, code: RDKafkaErrorCode) -> PublishError {
    use RDKafkaErrorCode as E;
    match code {
        E::MessageSizeTooLarge | E::InvalidMessageSize | E::MessageBatchTooLarge => {
            PublishError::Rejected(format!(
                "record is too large for topic {topic}: raise the topic's `max.message.bytes`, \
                 and `message.max.bytes` in the connection's properties where that is lower"
            ))
        }
        E::InvalidTopic
        | E::UnknownPartition
        | E::InvalidRecord
        | E::PolicyViolation
        | E::InvalidTimestamp
        | E::InvalidArgument
        | E::UnsupportedForMessageFormat => {
            PublishError::Rejected(format!("topic {topic} refuses the record: {code}"))
        }
        code if denied(code) => {
            PublishError::Rejected(format!("writing to topic {topic} is not allowed: {code}"))
        }
        code => PublishError::Unavailable(format!("topic {topic}: {code}")),
    }
}

/// Codes that say a topic is not (or no longer) there.
pub(crate) fn unknown_topic(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as E;
    matches!(code, E::UnknownTopic | E::UnknownTopicOrPartition)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_errors_that_no_retry_can_cure_reject_a_record() {
        use RDKafkaErrorCode as E;
        for code in [E::MessageSizeTooLarge, E::TopicAuthorizationFailed, E::InvalidTopic] {
            assert!(matches!(publish("t", code), PublishError::Rejected(_)), "{code}");
        }
        for code in [
            E::MessageTimedOut,
            E::BrokerTransportFailure,
            E::NotEnoughReplicas,
            E::NotLeaderForPartition,
            E::PurgeQueue,
            E::Fatal,
            E::UnknownTopicOrPartition,
        ] {
            assert!(matches!(publish("t", code), PublishError::Unavailable(_)), "{code}");
        }
    }

    #[test]
    fn a_denied_request_is_fatal_and_an_unreachable_broker_is_not() {
        let denied = KafkaError::MetadataFetch(RDKafkaErrorCode::TopicAuthorizationFailed);
        assert!(matches!(request("read topic t", &denied, None), SourceError::Fatal(_)));
        let denied = KafkaError::AdminOp(RDKafkaErrorCode::ClusterAuthorizationFailed);
        assert!(matches!(request("create topic t", &denied, None), SourceError::Fatal(_)));
        let away = KafkaError::MetadataFetch(RDKafkaErrorCode::BrokerTransportFailure);
        let error = request("list topics", &away, Some("connection refused".into()));
        assert!(matches!(&error, SourceError::Unavailable(m) if m.contains("connection refused")));
    }
}
