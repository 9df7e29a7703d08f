//! From what is written to what an adapter asks for; defaults are the adapter's.

#[cfg(feature = "nats")]
pub(super) fn nats(s: &crate::config::settings::NatsSettings) -> sandbar_broker_nats::NatsConfig {
    let d = sandbar_broker_nats::NatsConfig::default();
    sandbar_broker_nats::NatsConfig {
        servers: s.servers.0.clone(),
        user: s.user.clone(),
        password: s.password.as_ref().map(|p| p.0.clone()),
        token: s.token.as_ref().map(|t| t.0.clone()),
        credentials: s.credentials.clone(),
        tls_ca: s.tls_ca.clone(),
        create_topics: s.create_topics.unwrap_or(d.create_topics),
        replicas: s.replicas.map_or(d.replicas, |n| n.get().into()),
        max_age: s.max_age.map_or(d.max_age, |age| age.0.map(|period| period.0)),
        key_header: s.key_header.clone(),
        key_token: s.key_token.map(|n| n.get().into()),
        exclusive: s.exclusive.unwrap_or(d.exclusive),
        ack_wait: s.ack_wait.map_or(d.ack_wait, |p| p.0),
        at_most_once: s.at_most_once.unwrap_or(d.at_most_once),
    }
}

#[cfg(feature = "rabbitmq")]
pub(super) fn rabbitmq(
    s: &crate::config::settings::RabbitMqSettings,
) -> sandbar_broker_rabbitmq::RabbitMqConfig {
    use sandbar_broker_rabbitmq::{Argument, ExchangeType, RabbitMqConfig};

    use crate::config::settings::{ExchangeSetting, QueueArgument};

    let d = RabbitMqConfig::default();
    let argument = |argument: &QueueArgument| match argument {
        QueueArgument::Bool(value) => Argument::Bool(*value),
        QueueArgument::Int(value) => Argument::Int(*value),
        QueueArgument::Text(value) => Argument::Text(value.clone()),
    };
    RabbitMqConfig {
        uri: s.uri.0.clone(),
        username: s.username.clone(),
        password: s.password.as_ref().map(|p| p.0.clone()),
        ca_file: s.ca_file.clone(),
        create_topics: s.create_topics.unwrap_or(d.create_topics),
        exchange_type: match s.exchange_type {
            Some(ExchangeSetting::Topic) => ExchangeType::Topic,
            Some(ExchangeSetting::Fanout) => ExchangeType::Fanout,
            Some(ExchangeSetting::Direct) => ExchangeType::Direct,
            None => d.exchange_type,
        },
        bindings: s.bindings.clone(),
        routing_key: s.routing_key.clone(),
        key_header: s.key_header.clone(),
        mandatory: s.mandatory.unwrap_or(d.mandatory),
        exclusive: s.exclusive.unwrap_or(d.exclusive),
        queue_arguments: s.queue_arguments.iter().map(|(n, a)| (n.clone(), argument(a))).collect(),
    }
}

#[cfg(feature = "sqs")]
pub(super) fn sqs(s: &crate::config::settings::SqsSettings) -> sandbar_broker_sqs::SqsConfig {
    use sandbar_broker_sqs::{Redrive, SqsConfig};

    use crate::config::settings::RedriveSetting;

    let d = SqsConfig::default();
    let secret = |secret: &Option<crate::config::Secret>| secret.as_ref().map(|s| s.0.clone());
    SqsConfig {
        region: s.region.clone(),
        endpoint: s.endpoint.clone(),
        profile: s.profile.clone(),
        access_key_id: secret(&s.access_key_id),
        secret_access_key: secret(&s.secret_access_key),
        session_token: secret(&s.session_token),
        fifo: s.fifo.unwrap_or(d.fifo),
        create_topics: s.create_topics.unwrap_or(d.create_topics),
        queue_prefix: s.queue_prefix.clone().unwrap_or(d.queue_prefix),
        visibility_timeout: s.visibility_timeout.map_or(d.visibility_timeout, |p| p.0),
        wait: s.wait.map_or(d.wait, |p| p.0),
        calls: s.calls.map_or(d.calls, |n| n.get().into()),
        redrive: match s.redrive {
            Some(RedriveSetting::Sandbar) => Redrive::Sandbar,
            Some(RedriveSetting::Queue) => Redrive::Queue,
            None => d.redrive,
        },
        key_attribute: s.key_attribute.clone().unwrap_or(d.key_attribute),
    }
}
