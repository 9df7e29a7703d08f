//! What a user configures, checked before a single request is made.

use std::{fmt, time::Duration};

use crate::error::ConnectError;

/// Longest that SQS lets a message be invisible, and longest extension of it.
pub(crate) const VISIBILITY_MAX: Duration = Duration::from_secs(12 * 60 * 60);
/// Longest that SQS keeps a receive call waiting.
const WAIT_MAX: Duration = Duration::from_secs(20);

/// An SQS connection as configured. What is absent is looked for where AWS tools look:
/// environment, profile files, web identity, container and instance metadata.
#[derive(Clone)]
pub struct SqsConfig {
    /// AWS region, such as `eu-central-1`.
    pub region: Option<String>,
    /// URL of the service where that is not AWS's own for the region.
    pub endpoint: Option<String>,
    /// Profile in the AWS configuration files.
    pub profile: Option<String>,
    /// Access key id; goes together with `secret_access_key`.
    pub access_key_id: Option<String>,
    /// Secret access key.
    pub secret_access_key: Option<String>,
    /// Session token of temporary credentials.
    pub session_token: Option<String>,
    /// Whether the topics of this connection are FIFO queues (`NAME.fifo`), which keep the
    /// order of each key.
    pub fifo: bool,
    /// Whether queues that do not exist may be created.
    pub create_topics: bool,
    /// What stands before each topic's name in the name of its queue, such as `staging-`.
    pub queue_prefix: String,
    /// How long a message that was received stays invisible unless that is extended, which
    /// happens for as long as it is being handled: so this is how long it takes until the
    /// messages of a killed process are delivered again. Whole seconds from 2 on, at most
    /// 12 hours.
    pub visibility_timeout: Duration,
    /// How long one receive call waits for messages (long polling), at most 20 s. Closing
    /// a subscription may take as long. With 0, the pauses between calls that bring nothing
    /// grow from 0.1 to 2 s.
    pub wait: Duration,
    /// Calls of one kind (receive, send, delete, extend) that a subscription or the sink
    /// may have under way at once; each carries up to 10 messages.
    pub calls: usize,
    /// Who takes an event out of its queue that fails again and again.
    pub redrive: Redrive,
    /// Message attribute in which the event's key travels. On FIFO queues the message
    /// group is the key where this attribute is absent.
    pub key_attribute: String,
}

/// Who takes an event out of its queue that fails again and again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Redrive {
    /// Sandbar, by its retries and dead letters. A queue with a redrive policy of its own
    /// gets a warning when it is opened.
    #[default]
    Sandbar,
    /// Also SQS, by the queue's redrive policy, which counts receives.
    Queue,
}

impl Default for SqsConfig {
    fn default() -> Self {
        Self {
            region: None,
            endpoint: None,
            profile: None,
            access_key_id: None,
            secret_access_key: None,
            session_token: None,
            fifo: false,
            create_topics: false,
            queue_prefix: String::new(),
            visibility_timeout: Duration::from_secs(30),
            wait: Duration::from_secs(5),
            calls: 4,
            redrive: Redrive::Sandbar,
            key_attribute: "sandbar-key".to_owned(),
        }
    }
}

impl fmt::Debug for SqsConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqsConfig")
            .field("region", &self.region)
            .field("endpoint", &self.endpoint)
            .field("profile", &self.profile)
            .field("access_key_id", &self.access_key_id)
            .field("secret_access_key", &self.secret_access_key.as_ref().map(|_| "..."))
            .field("session_token", &self.session_token.as_ref().map(|_| "..."))
            .field("fifo", &self.fifo)
            .field("create_topics", &self.create_topics)
            .field("queue_prefix", &self.queue_prefix)
            .field("visibility_timeout", &self.visibility_timeout)
            .field("wait", &self.wait)
            .field("calls", &self.calls)
            .field("redrive", &self.redrive)
            .field("key_attribute", &self.key_attribute)
            .finish()
    }
}

impl SqsConfig {
    /// The configuration, where it can work.
    pub(crate) fn checked(self) -> Result<Self, ConnectError> {
        let invalid = |key, reason: &str| Err(ConnectError::Invalid { key, reason: reason.into() });
        if let Some(endpoint) = &self.endpoint
            && !(endpoint.starts_with("http://") || endpoint.starts_with("https://"))
        {
            return invalid("endpoint", "it must be a URL that begins with http:// or https://");
        }
        if self.access_key_id.is_some() != self.secret_access_key.is_some() {
            return invalid(
                "access-key-id",
                "it goes together with `secret-access-key`: give both",
            );
        }
        if self.session_token.is_some() && self.access_key_id.is_none() {
            return invalid("session-token", "it goes together with `access-key-id`");
        }
        let least = Duration::from_secs(2);
        if !(least..=VISIBILITY_MAX).contains(&self.visibility_timeout)
            || self.visibility_timeout.subsec_nanos() != 0
        {
            return invalid("visibility-timeout", "it must be whole seconds, from 2 s to 12 h");
        }
        if self.wait > WAIT_MAX || self.wait.subsec_nanos() != 0 {
            return invalid("wait", "it must be whole seconds, at most 20 s");
        }
        if !(1..=64).contains(&self.calls) {
            return invalid("calls", "it must be from 1 to 64");
        }
        if !crate::attributes::is_name(&self.key_attribute) {
            return invalid("key-attribute", "it is no name that SQS allows for an attribute");
        }
        if !self.queue_prefix.bytes().all(crate::names::is_legal) {
            return invalid("queue-prefix", "it may hold letters, digits, `-` and `_` only");
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(change: impl FnOnce(&mut SqsConfig)) -> String {
        let mut config = SqsConfig::default();
        change(&mut config);
        config.checked().unwrap_err().to_string()
    }

    #[test]
    fn what_cannot_work_is_refused_by_the_name_of_its_key() {
        assert!(SqsConfig::default().checked().is_ok());
        assert!(refused(|c| c.endpoint = Some("localhost:9324".into())).starts_with("`endpoint`"));
        assert!(refused(|c| c.access_key_id = Some("a".into())).starts_with("`access-key-id`"));
        assert!(refused(|c| c.session_token = Some("a".into())).starts_with("`session-token`"));
        for timeout in [Duration::ZERO, Duration::from_millis(2500), Duration::from_secs(43_201)] {
            let error = refused(|c| c.visibility_timeout = timeout);
            assert!(error.starts_with("`visibility-timeout`"), "{error}");
        }
        assert!(refused(|c| c.wait = Duration::from_secs(21)).starts_with("`wait`"));
        assert!(refused(|c| c.calls = 0).starts_with("`calls`"));
        assert!(refused(|c| c.key_attribute = "AWS.x".into()).starts_with("`key-attribute`"));
        assert!(refused(|c| c.queue_prefix = "a.".into()).starts_with("`queue-prefix`"));
    }

    #[test]
    fn debug_output_shows_no_secret() {
        let config = SqsConfig {
            secret_access_key: Some("hush".into()),
            session_token: Some("hush".into()),
            ..SqsConfig::default()
        };
        assert!(!format!("{config:?}").contains("hush"));
    }
}
