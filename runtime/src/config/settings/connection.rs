//! `[connections.NAME]` as it is written.

use std::{
    collections::BTreeMap,
    num::{NonZeroU8, NonZeroU16, NonZeroU32},
    path::{Path, PathBuf},
};

use schemars::JsonSchema;
use serde::Deserialize;
use toml::Spanned;

use crate::config::{
    redact::Secret,
    units::{ConfigText, OrUnlimited, Period, PositivePeriod, RetryTiers, Size},
};

/// `[connections.NAME]`: one broker.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum ConnectionSettings {
    /// The embedded durable log.
    Log(LogSettings),
    /// Apache Kafka, or what speaks its protocol.
    Kafka(KafkaSettings),
    /// NATS with JetStream.
    Nats(NatsSettings),
    /// RabbitMQ.
    #[serde(rename = "rabbitmq")]
    RabbitMq(RabbitMqSettings),
    /// Amazon SQS, or what speaks its protocol.
    Sqs(SqsSettings),
}

/// A connection of type `log`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct LogSettings {
    /// Where the log is kept. Relative to the data folder; named after the
    /// connection by default.
    pub path: Option<PathBuf>,
    /// Partitions of topics that are created; 1 by default.
    pub partitions: Option<NonZeroU32>,
    /// How long events stay, whether they were handled or not.
    pub retention: RetentionSettings,
    /// How long events wait in topics whose `retry.through` is `topics`: one topic for
    /// each delay, for all plugins together. `["5s", "30s", "5m"]` by default.
    pub retry_tiers: Option<RetryTiers>,
}

/// What a log keeps. The limit that is reached first counts.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct RetentionSettings {
    /// Events older than this are removed, or `unlimited`; `7d` by default.
    pub age: Option<OrUnlimited<Period>>,
    /// The oldest events of a topic that holds more than this are removed, or
    /// `unlimited`, which is the default.
    pub size: Option<OrUnlimited<Size>>,
}

/// A connection of type `kafka`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct KafkaSettings {
    /// Addresses to start from: `host:port`, separated by commas.
    #[schemars(with = "String")]
    pub brokers: Spanned<String>,
    /// Whether topics that do not exist are created; `false` by default.
    #[serde(default)]
    pub create_topics: Option<bool>,
    /// Partitions of topics that are created; the broker's default if left out.
    #[serde(default)]
    pub partitions: Option<NonZeroU32>,
    /// Replicas of topics that are created; the broker's default if left out.
    #[serde(default)]
    pub replication: Option<NonZeroU16>,
    /// Properties of librdkafka (`security.protocol`, `sasl.username`, ...), handed on as they are.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, ConfigText>")]
    pub properties: BTreeMap<Spanned<String>, ConfigText>,
    /// How long events wait in topics whose `retry.through` is `topics`: one topic for
    /// each delay, for all plugins together. `["5s", "30s", "5m"]` by default.
    #[serde(default)]
    pub retry_tiers: Option<RetryTiers>,
}

/// A connection of type `rabbitmq`. A topic is an exchange, and a plugin has a quorum
/// queue of its own on each, called `GROUP.TOPIC`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct RabbitMqSettings {
    /// `amqp://USER:PASSWORD@HOST:PORT/VHOST`, or `amqps` for TLS.
    pub uri: Secret,
    /// In place of the user in `uri`.
    #[serde(default)]
    pub username: Option<String>,
    /// In place of the password in `uri`, as it is.
    #[serde(default)]
    pub password: Option<Secret>,
    /// Certificates (PEM) to be trusted besides the system's. Relative to this file.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// Whether exchanges, queues and bindings that do not exist are declared; `false` by default.
    #[serde(default)]
    pub create_topics: Option<bool>,
    /// Type of exchanges that are declared; `topic` by default.
    #[serde(default)]
    pub exchange_type: Option<ExchangeSetting>,
    /// Routing keys that a queue is bound with, by queue (`GROUP.TOPIC`) or by topic. A queue
    /// without any gets all that its exchange is sent.
    #[serde(default)]
    pub bindings: BTreeMap<String, Vec<String>>,
    /// Routing key of published events; the event's key by default.
    #[serde(default)]
    pub routing_key: Option<String>,
    /// Header that holds the key of received events, before all else that could.
    #[serde(default)]
    pub key_header: Option<String>,
    /// Whether an event that no queue takes is held back instead of lost; `false` by default.
    #[serde(default)]
    pub mandatory: Option<bool>,
    /// Whether one process at a time reads a queue, which keeps the order; `true` by default.
    #[serde(default)]
    pub exclusive: Option<bool>,
    /// Arguments of declared queues besides those that are set here.
    #[serde(default)]
    pub queue_arguments: BTreeMap<String, QueueArgument>,
}

/// How an exchange chooses the queues of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ExchangeSetting {
    /// By patterns of routing keys.
    #[default]
    Topic,
    /// Every queue that is bound.
    Fanout,
    /// By equal routing keys; needs `bindings`.
    Direct,
}

/// An argument of a queue.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum QueueArgument {
    /// A boolean.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// Text.
    Text(String),
}

/// A connection of type `sqs`. A topic is a queue, which one plugin can read. Credentials
/// that are not given are looked for where AWS tools look for them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct SqsSettings {
    /// AWS region, such as `eu-central-1`.
    pub region: Option<String>,
    /// URL of the service where that is not AWS's own for the region.
    pub endpoint: Option<String>,
    /// Profile in the AWS configuration files.
    pub profile: Option<String>,
    /// Access key id; goes together with `secret-access-key`.
    pub access_key_id: Option<Secret>,
    /// Secret access key.
    pub secret_access_key: Option<Secret>,
    /// Session token of temporary credentials.
    pub session_token: Option<Secret>,
    /// Whether the queues are FIFO queues (`NAME.fifo`), which keep the order of each key;
    /// `false` by default.
    pub fifo: Option<bool>,
    /// Whether queues that do not exist are created; `false` by default.
    pub create_topics: Option<bool>,
    /// What stands before each topic's name in the name of its queue; nothing by default.
    pub queue_prefix: Option<String>,
    /// How long after a process was killed its messages are delivered again; `30s` by default.
    pub visibility_timeout: Option<PositivePeriod>,
    /// How long one receive call waits for messages; `5s` by default, at most `20s`.
    pub wait: Option<Period>,
    /// Calls of one kind that are under way at once, of up to 10 messages each; 4 by default.
    pub calls: Option<NonZeroU8>,
    /// Who takes a message out of its queue that fails again and again; `sandbar` by default.
    pub redrive: Option<RedriveSetting>,
    /// Message attribute in which an event's key travels; `sandbar-key` by default.
    pub key_attribute: Option<String>,
}

/// Who takes a message out of its queue that fails again and again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RedriveSetting {
    /// Retries and dead letters of this runtime.
    #[default]
    Sandbar,
    /// Also SQS, by the queue's redrive policy.
    Queue,
}

/// A connection of type `nats`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct NatsSettings {
    /// `host:port` or `nats://host:port`, several separated by commas; `tls://` encrypts.
    /// User and password may stand in the URL.
    pub servers: Secret,
    /// User, with `password`.
    #[serde(default)]
    pub user: Option<String>,
    /// Password of `user`.
    #[serde(default)]
    pub password: Option<Secret>,
    /// Token, instead of a user.
    #[serde(default)]
    pub token: Option<Secret>,
    /// Credentials file (JWT and NKey seed), instead of a user. Relative to this file.
    #[serde(default)]
    pub credentials: Option<PathBuf>,
    /// Certificates (PEM) to be trusted instead of the system's. Relative to this file.
    #[serde(default)]
    pub tls_ca: Option<PathBuf>,
    /// Whether streams that do not exist are created; `false` by default.
    #[serde(default)]
    pub create_topics: Option<bool>,
    /// Replicas of streams that are created; 1 by default.
    #[serde(default)]
    pub replicas: Option<NonZeroU8>,
    /// How long streams that are created keep their events, or `unlimited`, which is the
    /// default.
    #[serde(default)]
    pub max_age: Option<OrUnlimited<PositivePeriod>>,
    /// Header that holds an event's key; `sandbar-key` by default.
    #[serde(default)]
    pub key_header: Option<String>,
    /// Which token of an event's subject is its key, counted from 1. A topic to write to
    /// that has `*` there gets the key in its place.
    #[serde(default)]
    pub key_token: Option<NonZeroU16>,
    /// Whether one process at a time reads a topic for a group, which keeps the order;
    /// `true` by default.
    #[serde(default)]
    pub exclusive: Option<bool>,
    /// How long after a process was killed its events are delivered again; `10s` by default.
    #[serde(default)]
    pub ack_wait: Option<PositivePeriod>,
    /// Reads core NATS subjects, which keep nothing: events that are published while nobody
    /// reads, or are under way when a process ends, are lost. `false` by default.
    #[serde(default)]
    pub at_most_once: Option<bool>,
    /// How long events wait in topics whose `retry.through` is `topics`: one topic for
    /// each delay, for all plugins together. `["5s", "30s", "5m"]` by default.
    #[serde(default)]
    pub retry_tiers: Option<RetryTiers>,
}

impl NatsSettings {
    /// The same with paths that no longer depend on the working directory.
    pub(in crate::config) fn in_folder(&self, folder: &Path) -> Self {
        let resolve = |path: &Option<PathBuf>| path.as_ref().map(|path| folder.join(path));
        let (credentials, tls_ca) = (resolve(&self.credentials), resolve(&self.tls_ca));
        Self { credentials, tls_ca, ..self.clone() }
    }
}
