//! What the broker tests share.
#![allow(dead_code)] // each test file uses its own part of this

use std::time::{Duration, SystemTime};

use sandbar_broker_rabbitmq::{RabbitMq, RabbitMqConfig};
use sandbar_core::{
    Connection, Delivery, Outgoing, Partition, Settlement, Source, SourceError, SourceEvent,
    SubscriptionSpec,
};
use sandbar_testkit::server::{RABBITMQ, Server};

/// Longest that anything here may take; what is waited for is a condition.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// A real broker.
pub struct Broker {
    pub uri: String,
    /// Where it may be killed.
    pub node: Option<Server>,
}

/// The broker to test against, where there is one.
pub fn broker() -> Option<Broker> {
    Some(Broker { uri: RABBITMQ.address()?, node: RABBITMQ.killable_if_any() })
}

impl Broker {
    /// A connection that declares what it needs, with what `change` makes of it.
    pub fn connect(&self, change: impl FnOnce(&mut RabbitMqConfig)) -> RabbitMq {
        let mut config = RabbitMqConfig {
            uri: self.uri.clone(),
            create_topics: true,
            ..RabbitMqConfig::default()
        };
        change(&mut config);
        RabbitMq::connect("test", config).unwrap()
    }
}

/// A name that no other test and no earlier run has used.
pub fn unique(what: &str) -> String {
    format!("{what}-{}", SystemTime::UNIX_EPOCH.elapsed().unwrap().as_nanos())
}

pub fn spec(group: &str, topic: &str) -> SubscriptionSpec {
    SubscriptionSpec { prefetch: 100, ..SubscriptionSpec::new(group, vec![topic.into()]) }
}

pub fn done(delivery: &Delivery) -> Settlement {
    Settlement::done(delivery.token)
}

pub fn number(delivery: &Delivery) -> u64 {
    let payload = delivery.event.payload.as_ref().unwrap();
    std::str::from_utf8(payload).unwrap().parse().unwrap()
}

/// `count` records from `first` on whose payload is their number, with `keys` keys in turn.
pub fn numbered(topic: &str, first: u64, count: u64, keys: u64) -> Vec<Outgoing> {
    let record = |n: u64| Outgoing::new(topic, n.to_string()).with_key(format!("k{}", n % keys));
    (first..first + count).map(record).collect()
}

/// Publishes all of `records`, which must all be accepted.
pub async fn publish(connection: &RabbitMq, records: &[Outgoing]) {
    for result in connection.sink().publish(records).await {
        result.unwrap();
    }
}

/// The next partition of a source, passing over reports that the broker is away.
pub async fn assigned(source: &mut Box<dyn Source>) -> Box<dyn Partition> {
    loop {
        match tokio::time::timeout(PATIENCE, source.next()).await.expect("nothing was assigned") {
            Ok(SourceEvent::Assigned(partition)) => return partition,
            Ok(_) => panic!("neither revoked nor finished"),
            Err(SourceError::Unavailable(_)) => {}
            Err(e) => panic!("{e}"),
        }
    }
}

/// Exactly `count` deliveries.
pub async fn recv_all(partition: &mut Box<dyn Partition>, count: usize) -> Vec<Delivery> {
    let mut all = Vec::new();
    while all.len() < count {
        let ready = tokio::time::timeout(PATIENCE, partition.recv(count - all.len())).await;
        all.extend(ready.expect("nothing came").unwrap());
    }
    all
}
