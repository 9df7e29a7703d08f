//! What a user configures, checked before a single connection is opened.

use std::{collections::BTreeMap, fmt, path::PathBuf};

use lapin::{
    ExchangeKind,
    types::AMQPValue,
    uri::{AMQPScheme, AMQPUri},
};
use serde::Deserialize;

use crate::error::ConnectError;

/// Seconds between heartbeats, unless the URI says otherwise: a connection that was cut
/// without a word is noticed within two of them.
const HEARTBEAT: u16 = 10;

/// A RabbitMQ connection as configured.
#[derive(Clone, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct RabbitMqConfig {
    /// `amqp://host:port/vhost`, or `amqps` for TLS. User, password and virtual host in it
    /// are percent-encoded; no path at all is the virtual host `/`. The query may set
    /// `heartbeat` (seconds), `connection_timeout` (milliseconds) and `frame_max` (bytes).
    pub uri: String,
    /// In place of the URI's user.
    #[serde(default)]
    pub username: Option<String>,
    /// In place of the URI's password, as it is.
    #[serde(default)]
    pub password: Option<String>,
    /// Certificates (PEM) to be trusted besides the system's, for `amqps`.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// Whether exchanges, queues and bindings that do not exist may be declared. Otherwise
    /// they are only looked for.
    #[serde(default)]
    pub create_topics: bool,
    /// Type of a declared exchange.
    #[serde(default)]
    pub exchange_type: ExchangeType,
    /// Routing keys that a queue is bound with, by queue (`GROUP.TOPIC`) or by topic; those
    /// of the queue go first. Without any, a queue gets all that its exchange is sent.
    #[serde(default)]
    pub bindings: BTreeMap<String, Vec<String>>,
    /// Routing key of published events; the event's key where absent.
    #[serde(default)]
    pub routing_key: Option<String>,
    /// Header that holds the key of received events, before all else that could.
    #[serde(default)]
    pub key_header: Option<String>,
    /// Whether an event that no queue takes is held back instead of lost.
    #[serde(default)]
    pub mandatory: bool,
    /// Whether one process at a time reads a queue (single active consumer), others standing
    /// by, which keeps the order. Otherwise they share the work, and no order is kept.
    #[serde(default = "yes")]
    pub exclusive: bool,
    /// Arguments of declared queues besides those that Sandbar decides on.
    #[serde(default)]
    pub queue_arguments: BTreeMap<String, Argument>,
}

fn yes() -> bool {
    true
}

impl Default for RabbitMqConfig {
    fn default() -> Self {
        Self {
            uri: String::new(),
            username: None,
            password: None,
            ca_file: None,
            create_topics: false,
            exchange_type: ExchangeType::default(),
            bindings: BTreeMap::new(),
            routing_key: None,
            key_header: None,
            mandatory: false,
            exclusive: true,
            queue_arguments: BTreeMap::new(),
        }
    }
}

impl fmt::Debug for RabbitMqConfig {
    // the URI may hold a password
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let uri = parse(&self.uri).map(|uri| shown(&uri)).unwrap_or_else(|_| "(invalid)".into());
        f.debug_struct("RabbitMqConfig")
            .field("uri", &uri)
            .field("username", &self.username)
            .field("password", &self.password.as_ref().map(|_| "(hidden)"))
            .field("ca_file", &self.ca_file)
            .field("create_topics", &self.create_topics)
            .field("exchange_type", &self.exchange_type)
            .field("bindings", &self.bindings)
            .field("routing_key", &self.routing_key)
            .field("key_header", &self.key_header)
            .field("mandatory", &self.mandatory)
            .field("exclusive", &self.exclusive)
            .field("queue_arguments", &self.queue_arguments)
            .finish()
    }
}

/// How an exchange chooses the queues of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ExchangeType {
    /// By patterns of routing keys; `#` matches them all.
    #[default]
    Topic,
    /// Every queue that is bound.
    Fanout,
    /// By equal routing keys. Needs [`RabbitMqConfig::bindings`].
    Direct,
}

impl ExchangeType {
    pub(crate) fn kind(self) -> ExchangeKind {
        match self {
            Self::Topic => ExchangeKind::Topic,
            Self::Fanout => ExchangeKind::Fanout,
            Self::Direct => ExchangeKind::Direct,
        }
    }
}

/// A value among [`RabbitMqConfig::queue_arguments`].
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Argument {
    /// A boolean.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// Text.
    Text(String),
}

impl From<&Argument> for AMQPValue {
    fn from(argument: &Argument) -> Self {
        match argument {
            Argument::Bool(value) => Self::Boolean(*value),
            Argument::Int(value) => Self::LongLongInt(*value),
            Argument::Text(value) => Self::LongString(value.as_str().into()),
        }
    }
}

/// Queue arguments on which delivery guarantees rest, and what decides each instead.
const CONTROLLED: &[(&str, &str)] = &[
    ("x-queue-type", "confirmed events must survive the loss of a node: queues are quorum queues"),
    ("x-single-active-consumer", "it is set by `exclusive`"),
];

/// The configuration, checked.
pub(crate) struct Settings {
    pub config: RabbitMqConfig,
    pub uri: AMQPUri,
    /// What is trusted besides the system's certificates, in PEM.
    pub certificates: Option<String>,
}

impl Settings {
    pub fn new(config: RabbitMqConfig) -> Result<Self, ConnectError> {
        let mut uri = parse(&config.uri)?;
        let user = &mut uri.authority.userinfo;
        user.username = config.username.clone().unwrap_or_else(|| user.username.clone());
        user.password = config.password.clone().unwrap_or_else(|| user.password.clone());
        uri.query.heartbeat.get_or_insert(HEARTBEAT);
        if uri.scheme == AMQPScheme::AMQPS && !cfg!(feature = "tls") {
            return Err(ConnectError::NeedsTls);
        }
        for argument in config.queue_arguments.keys() {
            if let Some((_, reason)) = CONTROLLED.iter().find(|(name, _)| name == argument) {
                return Err(ConnectError::Controlled { argument: argument.clone(), reason });
            }
        }
        let keys = config.bindings.values().flatten().chain(&config.routing_key);
        let names = config.queue_arguments.keys().chain(&config.key_header);
        if let Some(long) = keys.chain(names).find(|text| text.len() > 255) {
            return Err(ConnectError::TooLong { text: long.clone() });
        }
        let read = |path: &PathBuf| {
            std::fs::read_to_string(path)
                .map_err(|e| ConnectError::CaFile { path: path.clone(), reason: e.to_string() })
        };
        let certificates = config.ca_file.as_ref().map(read).transpose()?;
        Ok(Self { config, uri, certificates })
    }

    /// Where it connects to, without what is secret.
    pub fn address(&self) -> String {
        shown(&self.uri)
    }

    /// Routing keys that `queue` of `topic` is bound with; `None` where none are configured.
    pub fn bindings(&self, queue: &str, topic: &str) -> Option<&[String]> {
        let bindings = &self.config.bindings;
        bindings.get(queue).or_else(|| bindings.get(topic)).map(Vec::as_slice)
    }
}

/// The parser's own errors are not passed on: some of them show all that was parsed.
fn parse(uri: &str) -> Result<AMQPUri, ConnectError> {
    let known = uri.starts_with("amqp://") || uri.starts_with("amqps://");
    uri.parse().ok().filter(|_| known).ok_or(ConnectError::Uri)
}

fn shown(uri: &AMQPUri) -> String {
    format!("{}://{}:{}/{}", uri.scheme, uri.authority.host, uri.authority.port, uri.vhost)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(uri: &str) -> RabbitMqConfig {
        RabbitMqConfig { uri: uri.into(), ..RabbitMqConfig::default() }
    }

    #[test]
    fn neither_debug_nor_errors_show_a_password() {
        let mut config = config("amqp://me:s3cret@host:5673/v");
        config.password = Some("hush".into());
        let shown = format!("{config:?}");
        assert!(shown.contains("amqp://host:5673/v") && shown.contains("create_topics: false"));
        assert!(!shown.contains("s3cret") && !shown.contains("hush"), "{shown}");
        for bad in ["amqp:me:s3cret", "amqp://me:s3cret@host:x", "http://me:s3cret@host", ""] {
            config.uri = bad.into();
            assert!(!format!("{config:?}").contains("s3cret"));
            let error = Settings::new(config.clone()).err().unwrap().to_string();
            assert!(!error.contains("s3cret") && error.contains("amqp://"), "{error}");
        }
    }

    #[test]
    fn user_and_password_of_their_own_go_first_and_are_taken_as_they_are() {
        let mut config = config("amqp://a:b@127.0.0.1:1234");
        config.password = Some("p%41:/@".into());
        let settings = Settings::new(config).unwrap();
        let user = &settings.uri.authority.userinfo;
        assert_eq!((user.username.as_str(), user.password.as_str()), ("a", "p%41:/@"));
        assert_eq!(settings.address(), "amqp://127.0.0.1:1234//");
        assert_eq!(settings.uri.query.heartbeat, Some(HEARTBEAT));
    }

    #[test]
    fn what_carries_the_guarantees_cannot_be_configured_away() {
        let mut config = config("amqp://h");
        config.queue_arguments.insert("x-queue-type".into(), Argument::Text("classic".into()));
        let error = Settings::new(config).err().unwrap().to_string();
        assert!(error.contains("`x-queue-type` cannot be set"), "{error}");
    }

    #[cfg(not(feature = "tls"))]
    #[test]
    fn tls_that_is_not_built_in_is_refused() {
        let error = Settings::new(config("amqps://h")).err().unwrap().to_string();
        assert!(error.contains("cargo feature `tls`"), "{error}");
    }

    #[test]
    fn bindings_of_the_queue_go_before_those_of_the_topic() {
        let mut config = config("amqp://h");
        config.bindings.insert("orders".into(), vec!["eu.#".into()]);
        config.bindings.insert("g.orders".into(), vec!["us.#".into()]);
        let settings = Settings::new(config).unwrap();
        assert_eq!(settings.bindings("g.orders", "orders").unwrap(), ["us.#"]);
        assert_eq!(settings.bindings("h.orders", "orders").unwrap(), ["eu.#"]);
        assert_eq!(settings.bindings("g.other", "other"), None);
    }
}
