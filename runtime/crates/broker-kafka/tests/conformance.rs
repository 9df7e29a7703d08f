//! The suite of all adapters, on a real Apache Kafka and on librdkafka's mock cluster.

mod common;

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, mpsc},
    thread,
};

use async_trait::async_trait;
use rdkafka::{mocking::MockCluster, producer::DefaultProducerContext};
use sandbar_broker_kafka::{Kafka, KafkaConfig};
use sandbar_core::{Connection, Guarantees};
use sandbar_testkit::conformance::{Backend, Declared, Headers, Switch};

const PARTITIONS: u32 = 3;

fn declared(name: &'static str) -> Declared {
    Declared {
        name,
        guarantees: Guarantees {
            ordered: true,
            atomic_effects: false,
            atomic_marks: false,
            atomic_state: false,
            tombstones: true,
            delayed_release: false,
            spread_over_processes: true,
            fan_out: true,
            retained: true,
            redelivery_counted: false,
        },
        partitions: PARTITIONS,
        largest_payload: 900_000,
        too_large: Some(2 << 20),
        headers: Headers::EVERYTHING,
        lease: None,
        gaps: &[],
    }
}

fn connect(brokers: &str, create_topics: bool) -> Arc<dyn Connection> {
    let properties = [("session.timeout.ms", "10000"), ("message.timeout.ms", "5000")];
    let config = KafkaConfig {
        brokers: brokers.into(),
        create_topics,
        partitions: Some(PARTITIONS),
        replication: Some(1),
        properties: properties.map(|(k, v)| (k.into(), v.into())).into(),
    };
    Arc::new(Kafka::connect("test", config).unwrap())
}

/// A broker that runs.
struct Real {
    brokers: String,
    /// Of a node that `scripts/kafka/start` started and that may be killed.
    node: Option<Node>,
}

/// The folder of such a node.
struct Node(PathBuf);

fn real() -> Option<Real> {
    let brokers = common::broker()?;
    let node = std::env::var_os("SANDBAR_KAFKA_DIR").filter(|dir| !dir.is_empty());
    Some(Real { brokers, node: node.map(|dir| Node(dir.into())) })
}

#[async_trait]
impl Backend for Real {
    fn declared(&self) -> Declared {
        declared("Apache Kafka")
    }

    async fn connect(&self) -> Arc<dyn Connection> {
        connect(&self.brokers, true)
    }

    async fn connect_strict(&self) -> Arc<dyn Connection> {
        connect(&self.brokers, false)
    }

    fn switch(&self) -> Option<&dyn Switch> {
        self.node.as_ref().map(|node| node as &dyn Switch)
    }
}

/// Blocks: nothing else is to be done meanwhile.
#[async_trait]
impl Switch for Node {
    async fn kill(&self) {
        let pid = std::fs::read_to_string(self.0.join("kafka.pid")).unwrap();
        assert!(Command::new("kill").args(["-9", pid.trim()]).status().unwrap().success());
    }

    async fn start(&self) {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../scripts/kafka/start");
        let output = Command::new(script).arg(&self.0).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

type Cluster = MockCluster<'static, DefaultProducerContext>;
type Order = Box<dyn FnOnce(&Cluster) + Send>;

/// librdkafka's broker in memory, one for each test. It cannot leave its thread, and ends
/// with the last who gives it orders.
struct Mock {
    orders: mpsc::Sender<Order>,
    brokers: String,
}

impl Mock {
    fn start() -> Self {
        let (orders, queue) = mpsc::channel::<Order>();
        let (tell, brokers) = mpsc::channel();
        thread::spawn(move || {
            let cluster = MockCluster::new(1).unwrap();
            tell.send(cluster.bootstrap_servers()).unwrap();
            queue.iter().for_each(|order| order(&cluster));
        });
        Self { orders, brokers: brokers.recv().unwrap() }
    }

    /// Returns when it is done.
    fn order(&self, order: impl FnOnce(&Cluster) + Send + 'static) {
        let (done, waiting) = mpsc::channel();
        let order = move |cluster: &Cluster| {
            order(cluster);
            done.send(()).unwrap();
        };
        self.orders.send(Box::new(order)).unwrap();
        waiting.recv().unwrap();
    }
}

#[async_trait]
impl Backend for Mock {
    fn declared(&self) -> Declared {
        Declared {
            gaps: &[
                ("exactly_once", "the mock never stores the offsets of a transaction"),
                ("too_large_is_rejected", "the mock takes records of any size"),
                ("read_from_a_time", "the mock finds no offsets by time"),
                ("trim", "the mock does not know DeleteRecords"),
                ("move_cursor", "the mock takes offsets of a known group from members alone"),
            ],
            ..declared("librdkafka's mock cluster")
        }
    }

    async fn connect(&self) -> Arc<dyn Connection> {
        connect(&self.brokers, false)
    }

    async fn connect_strict(&self) -> Arc<dyn Connection> {
        connect(&self.brokers, false)
    }

    async fn make_topic(&self, _: &dyn Connection, topic: &str) {
        let partitions = PARTITIONS.try_into().unwrap();
        let topic = topic.to_owned();
        self.order(move |cluster| cluster.create_topic(&topic, partitions, 1).unwrap());
    }

    fn switch(&self) -> Option<&dyn Switch> {
        Some(self)
    }
}

#[async_trait]
impl Switch for Mock {
    async fn kill(&self) {
        self.order(|cluster| cluster.broker_down(1).unwrap());
    }

    async fn start(&self) {
        self.order(|cluster| cluster.broker_up(1).unwrap());
    }
}

mod on_kafka {
    sandbar_testkit::conformance_tests!(super::real());
}

mod on_the_mock {
    sandbar_testkit::conformance_tests!(Some(super::Mock::start()));
}
