//! What a user configures, checked before a single connection is opened.

use std::{collections::BTreeMap, fmt, time::Duration};

use rdkafka::{ClientConfig, config::RDKafkaLogLevel, error::KafkaError};
use sandbar_core::{StartAt, SubscriptionSpec};
use serde::Deserialize;

use crate::error::ConnectError;

/// A Kafka connection as configured.
#[derive(Clone, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct KafkaConfig {
    /// `host:port`, several separated by commas.
    pub brokers: String,
    /// Whether topics that do not exist may be created.
    #[serde(default)]
    pub create_topics: bool,
    /// Partitions of a created topic; the broker's default where absent.
    #[serde(default)]
    pub partitions: Option<u32>,
    /// Replicas of each partition of a created topic; the broker's default where absent.
    #[serde(default)]
    pub replication: Option<u16>,
    /// librdkafka properties, handed over as they are (TLS, SASL, sizes, timeouts).
    #[serde(default)]
    pub properties: BTreeMap<String, String>,
}

impl fmt::Debug for KafkaConfig {
    // the values may be passwords and keys
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaConfig")
            .field("brokers", &self.brokers)
            .field("create_topics", &self.create_topics)
            .field("partitions", &self.partitions)
            .field("replication", &self.replication)
            .field("properties", &self.properties.keys().collect::<Vec<_>>())
            .finish()
    }
}

/// Properties on which delivery guarantees rest, and what decides each instead.
const CONTROLLED: &[(&str, &str)] = &[
    ("bootstrap.servers", "it is set by `brokers`"),
    ("metadata.broker.list", "it is set by `brokers`"),
    ("group.id", "it is the subscription's `group`"),
    ("group.protocol", "the hand-over of partitions relies on the classic protocol"),
    ("auto.offset.reset", "it is the subscription's `start`"),
    ("enable.auto.commit", "only finished events may be committed"),
    ("auto.commit.interval.ms", "only finished events may be committed"),
    ("enable.auto.offset.store", "only finished events may be committed"),
    ("partition.assignment.strategy", "partitions are handed over cooperatively"),
    ("enable.partition.eof", "ends of partitions are watched where reading comes to an end"),
    ("allow.auto.create.topics", "it is set by `create-topics`"),
    ("acks", "an event counts as published only when all in-sync replicas have it"),
    (
        "request.required.acks",
        "an event counts as published only when all in-sync replicas have it",
    ),
    ("enable.idempotence", "the producer's own retries must neither repeat nor reorder"),
    ("delivery.report.only.error", "every record's delivery is awaited"),
    ("transactional.id", "it is derived from the subscription"),
];

/// Events that librdkafka fetches ahead for each partition, at least; fewer where they are large.
const QUEUE_MIN: usize = 40_000;

/// The configuration, checked, and the client configurations made of it.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub config: KafkaConfig,
}

/// A consumer's configuration and the times that follow from it.
pub(crate) struct GroupSettings {
    pub client: ClientConfig,
    /// Longest time that the poll thread may wait for partitions to drain.
    pub drain: Duration,
    /// Whether it sees of a partition what others see, and may read it together with them.
    pub shares: bool,
}

impl Settings {
    pub fn new(config: KafkaConfig) -> Result<Self, ConnectError> {
        if config.brokers.trim().is_empty() {
            return Err(ConnectError::NoBrokers);
        }
        for (property, value) in &config.properties {
            if let Some((_, reason)) = CONTROLLED.iter().find(|(name, _)| name == property) {
                return Err(ConnectError::Controlled { property: property.clone(), reason });
            }
            let tls = property == "security.protocol" && value.to_lowercase().ends_with("ssl");
            if tls && !cfg!(feature = "tls") {
                return Err(ConnectError::NeedsTls { value: value.clone() });
            }
        }
        let settings = Self { config };
        // names and values are checked by librdkafka itself, here and not at the first use
        settings.base().create_native_config().map_err(|e| invalid(&e))?;
        Ok(settings)
    }

    /// What every client shares.
    pub fn base(&self) -> ClientConfig {
        let mut client = ClientConfig::new();
        client
            .set("client.id", "sandbar")
            // a broker that came back should be found within seconds
            .set("reconnect.backoff.max.ms", "2000")
            .set("socket.keepalive.enable", "true");
        for (property, value) in &self.config.properties {
            client.set(property, value);
        }
        let debug = self.config.properties.contains_key("debug");
        client
            .set("bootstrap.servers", self.config.brokers.trim())
            .set("allow.auto.create.topics", "false")
            .set_log_level(if debug { RDKafkaLogLevel::Debug } else { RDKafkaLogLevel::Info });
        client
    }

    /// A consumer that fetches ahead, at least `prefetch` events.
    fn consumer(&self, prefetch: usize) -> ClientConfig {
        let mut client = self.base();
        self.default(&mut client, "topic.metadata.refresh.interval.ms", "10000");
        // the brokers' own topics match no subscription, whatever its pattern
        self.default(&mut client, "topic.blacklist", "^__");
        // A partition whose queue is full is left out of the next fetch. Where all others have
        // nothing new (the inbox, mostly), the broker keeps that fetch as long as it may, and
        // librdkafka asks for nothing else meanwhile: the time is short, and the queues last, also
        // for a partition that brings 150 MiB a second.
        self.default(&mut client, "fetch.wait.max.ms", "100");
        let prefetch = prefetch.clamp(QUEUE_MIN, 1_000_000);
        self.default(&mut client, "queued.min.messages", &prefetch.to_string());
        self.default(&mut client, "queued.max.messages.kbytes", "16384");
        // by default a full queue that was emptied waits up to a second for its next fetch
        self.default(&mut client, "fetch.queue.backoff.ms", "10");
        client
    }

    /// Reads partitions for several subscriptions, and commits nothing.
    pub fn shared(&self) -> ClientConfig {
        let mut client = self.consumer(QUEUE_MIN);
        client
            // librdkafka reads partitions only as a group; the broker never hears of this one
            .set("group.id", "sandbar.shared")
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            // where to begin instead is for each subscription to say, which then reads by itself
            .set("auto.offset.reset", "error");
        client
    }

    /// A member of the subscription's group.
    pub fn group(&self, spec: &SubscriptionSpec) -> Result<GroupSettings, ConnectError> {
        let mut client = self.consumer(spec.prefetch);
        client
            .set("group.id", &spec.group)
            .set(
                "auto.offset.reset",
                if spec.start == StartAt::Latest { "latest" } else { "earliest" },
            )
            // commits what is stored, and only that
            .set("enable.auto.commit", "true")
            .set("auto.commit.interval.ms", "1000")
            .set("enable.auto.offset.store", "false")
            .set("partition.assignment.strategy", "cooperative-sticky");
        if spec.exactly_once {
            // positions are committed in transactions; while one of an owner before us is open,
            // this member waits for what becomes of it
            client.set("enable.auto.commit", "false").set("isolation.level", "read_committed");
        }
        if spec.until_end {
            client.set("enable.partition.eof", "true");
        }
        let native = client.create_native_config().map_err(|e| invalid(&e))?;
        let millis = |property: &str| -> Result<Duration, ConnectError> {
            let value = native.get(property).map_err(|e| invalid(&e))?;
            Ok(Duration::from_millis(number(property, &value)?))
        };
        // while the poll thread waits, heartbeats go on; it must be back to polling before the
        // group gives the member up, with time left for the commit
        let limit = millis("session.timeout.ms")?.min(millis("max.poll.interval.ms")?) * 3 / 4;
        // librdkafka's default is what exactly-once sets
        let isolation = client.get("isolation.level").unwrap_or("read_committed");
        let usual = self.config.properties.get("isolation.level");
        let shares = !spec.until_end && usual.is_none_or(|usual| usual == isolation);
        Ok(GroupSettings { client, drain: spec.drain_timeout.min(limit), shares })
    }

    pub fn producer(&self) -> ClientConfig {
        let mut client = self.base();
        self.default(&mut client, "linger.ms", "5");
        self.default(&mut client, "message.timeout.ms", "30000");
        self.default(&mut client, "queue.buffering.max.kbytes", "131072");
        // which records are too large is the broker's and the topic's to say
        self.default(&mut client, "message.max.bytes", "67108864");
        // equal keys go to the partition where Java's clients put them
        self.default(&mut client, "partitioner", "murmur2_random");
        self.default(&mut client, "topic.metadata.propagation.max.ms", "10000");
        client.set("acks", "all").set("enable.idempotence", "true");
        client
    }

    /// The producer of one exactly-once subscription, under an id that no other has, and
    /// the time after which its coordinator gives a transaction up.
    ///
    /// That time is how long a killed process holds up whoever takes its partitions over,
    /// so it is short; one transaction with everything in it must be committed within it.
    pub fn transactional(&self, group: &str) -> Result<(ClientConfig, Duration), ConnectError> {
        let mut client = self.producer();
        self.default(&mut client, "transaction.timeout.ms", "15000");
        let set = |client: &ClientConfig, property: &str| {
            client.get(property).map(|value| number(property, value)).transpose()
        };
        let timeout = set(&client, "transaction.timeout.ms")?.unwrap_or(15_000);
        // librdkafka demands that neither outlives the transaction
        for (property, longest) in [
            ("message.timeout.ms", timeout),
            ("delivery.timeout.ms", timeout),
            ("socket.timeout.ms", timeout.saturating_sub(100).max(100)),
        ] {
            if set(&client, property)?.is_some_and(|value| value > longest) {
                client.set(property, longest.to_string());
            }
        }
        let id = client.get("client.id").unwrap_or("sandbar");
        let id = format!("{id}-{group}-{:032x}", rand::random::<u128>());
        client.set("transactional.id", id);
        client.create_native_config().map_err(|e| invalid(&e))?;
        Ok((client, Duration::from_millis(timeout)))
    }

    /// Sets what the user did not.
    fn default(&self, client: &mut ClientConfig, property: &str, value: &str) {
        // the same property under its other name
        let alias = match property {
            "message.timeout.ms" => "delivery.timeout.ms",
            "linger.ms" => "queue.buffering.max.ms",
            other => other,
        };
        let set = &self.config.properties;
        if !set.contains_key(property) && !set.contains_key(alias) {
            client.set(property, value);
        }
    }
}

fn number(property: &str, value: &str) -> Result<u64, ConnectError> {
    value.parse().map_err(|_| ConnectError::Invalid {
        property: property.into(),
        description: "it is not a number of milliseconds".into(),
    })
}

/// What librdkafka says of a property, without the values of secret ones.
pub(crate) fn invalid(error: &KafkaError) -> ConnectError {
    let KafkaError::ClientConfig(_, description, property, _) = error else {
        return ConnectError::Client(error.to_string());
    };
    let secret = ["password", "secret", "pem", "token"].iter().any(|s| property.contains(s));
    let description =
        if secret { "its value was not accepted".into() } else { description.trim().to_owned() };
    ConnectError::Invalid { property: property.clone(), description }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(property: &str, value: &str) -> Result<Settings, ConnectError> {
        Settings::new(KafkaConfig {
            brokers: "127.0.0.1:9092".into(),
            properties: [(property.to_owned(), value.to_owned())].into(),
            ..KafkaConfig::default()
        })
    }

    #[test]
    fn controlled_properties_are_refused_with_the_reason() {
        let error = with("enable.auto.commit", "true").unwrap_err().to_string();
        insta::assert_snapshot!(error, @"property `enable.auto.commit` cannot be set: only finished events may be committed");
        for (property, _) in CONTROLLED {
            assert!(matches!(with(property, "1"), Err(ConnectError::Controlled { .. })));
        }
    }

    #[test]
    fn unknown_properties_and_values_are_named() {
        let error = with("sesion.timeout.ms", "1").unwrap_err().to_string();
        assert!(error.contains("`sesion.timeout.ms`"), "{error}");
        let error = with("session.timeout.ms", "soon").unwrap_err().to_string();
        assert!(error.contains("`session.timeout.ms`") && error.contains("value"), "{error}");
    }

    #[test]
    fn secrets_are_neither_printed_nor_part_of_errors() {
        let settings = with("sasl.password", "hunter2").unwrap();
        assert!(!format!("{settings:?}").contains("hunter2"));
        let error = KafkaError::ClientConfig(
            rdkafka::types::RDKafkaConfRes::RD_KAFKA_CONF_INVALID,
            "bad value \"hunter2\"".into(),
            "ssl.key.password".into(),
            "hunter2".into(),
        );
        assert!(!invalid(&error).to_string().contains("hunter2"));
    }

    #[test]
    #[cfg(not(feature = "tls"))]
    fn tls_without_the_feature_says_what_to_build() {
        let error = with("security.protocol", "SASL_SSL").unwrap_err().to_string();
        insta::assert_snapshot!(error, @"`security.protocol` is `SASL_SSL`, but this build has no TLS: build with the cargo feature `tls`");
    }

    #[test]
    #[cfg(feature = "tls")]
    fn tls_and_scram_are_accepted() {
        assert!(with("security.protocol", "SASL_SSL").is_ok());
    }

    #[test]
    fn h4_the_drain_ends_before_the_session_does() {
        let settings = with("session.timeout.ms", "8000").unwrap();
        let drain = |timeout| {
            let spec =
                SubscriptionSpec { drain_timeout: timeout, ..SubscriptionSpec::new("g", vec![]) };
            settings.group(&spec).unwrap().drain
        };
        assert_eq!(drain(Duration::from_secs(60)), Duration::from_secs(6));
        assert_eq!(drain(Duration::from_secs(2)), Duration::from_secs(2));
    }

    #[test]
    fn e1_a_transactional_source_commits_nothing_beside_its_transactions() {
        let settings = with("isolation.level", "read_uncommitted").unwrap();
        let spec = SubscriptionSpec { exactly_once: true, ..SubscriptionSpec::new("g", vec![]) };
        let client = settings.group(&spec).unwrap().client;
        assert_eq!(client.get("enable.auto.commit"), Some("false"));
        assert_eq!(client.get("isolation.level"), Some("read_committed"));
    }

    #[test]
    fn e1_no_timeout_outlives_the_transaction() {
        for (property, expected) in [
            ("message.timeout.ms", "15000"),
            ("delivery.timeout.ms", "15000"),
            ("socket.timeout.ms", "14900"),
        ] {
            let (client, _) = with(property, "60000").unwrap().transactional("g").unwrap();
            assert_eq!(client.get(property), Some(expected));
        }
        let (client, timeout) =
            with("transaction.timeout.ms", "3000").unwrap().transactional("g").unwrap();
        assert_eq!(
            (client.get("message.timeout.ms"), timeout),
            (Some("3000"), Duration::from_secs(3))
        );
    }

    #[test]
    fn e2_every_source_has_a_transactional_id_of_its_own() {
        let settings = with("client.id", "c").unwrap();
        let id =
            || settings.transactional("g").unwrap().0.get("transactional.id").unwrap().to_owned();
        assert!(id().starts_with("c-g-"), "{}", id());
        assert_ne!(id(), id());
    }

    #[test]
    fn users_override_defaults_under_either_name() {
        assert_eq!(with("linger.ms", "7").unwrap().producer().get("linger.ms"), Some("7"));
        let other = with("delivery.timeout.ms", "9").unwrap().producer();
        assert_eq!(other.get("message.timeout.ms"), None);
    }
}
