//! The suite of all adapters, on a real Apache Kafka and on librdkafka's mock cluster.

use std::{
    process::ExitCode,
    sync::{Arc, mpsc},
    thread,
};

use async_trait::async_trait;
use rdkafka::{
    ClientConfig, bindings,
    mocking::MockCluster,
    producer::{BaseProducer, DefaultProducerContext, Producer},
};
use sandbar_broker_kafka::{Kafka, KafkaConfig};
use sandbar_core::{Connection, Guarantees};
use sandbar_testkit::{
    conformance::{Backend, Declared, Headers, Suite, Switch},
    server::{KAFKA, KAFKA_3, Server},
};

const PARTITIONS: u32 = 3;
/// Shortest that a broker takes as it comes.
const SESSION: &str = "6000";
/// The mock waits nearly that long for all members where one joins.
const SHORT: &str = "3000";

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
        locks_keys: false,
        lease: None,
        gaps: &[],
    }
}

fn connect(brokers: &str, create_topics: bool, session: &str) -> Arc<dyn Connection> {
    // a member that hears of others soon, and is waited for no longer than that
    let properties = [
        ("session.timeout.ms", session),
        ("heartbeat.interval.ms", "300"),
        ("message.timeout.ms", "5000"),
    ];
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
    name: &'static str,
    brokers: String,
    /// Where it may be killed.
    node: Option<Server>,
}

/// Not to be killed: see [`KAFKA_3`].
fn newest() -> Option<Real> {
    Some(Real { name: KAFKA.name, brokers: KAFKA.address()?, node: None })
}

fn of_3_9() -> Option<Real> {
    let node = KAFKA_3.killable_if_any();
    Some(Real { name: KAFKA_3.name, brokers: KAFKA_3.address()?, node })
}

#[async_trait]
impl Backend for Real {
    fn declared(&self) -> Declared {
        declared(self.name)
    }

    async fn connect(&self) -> Arc<dyn Connection> {
        connect(&self.brokers, true, SESSION)
    }

    async fn connect_strict(&self) -> Arc<dyn Connection> {
        connect(&self.brokers, false, SESSION)
    }

    fn switch(&self) -> Option<&dyn Switch> {
        self.node.as_ref().map(|node| node as &dyn Switch)
    }
}

type Cluster<'c> = MockCluster<'c, DefaultProducerContext>;
type Order = Box<dyn FnOnce(&Cluster<'_>) + Send>;

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
            let client = ClientConfig::new().set("test.mock.num.brokers", "1").create();
            let client: BaseProducer = client.unwrap();
            let cluster = client.client().mock_cluster().unwrap();
            groups_begin_soon(&client);
            tell.send(cluster.bootstrap_servers()).unwrap();
            queue.iter().for_each(|order| order(&cluster));
        });
        Self { orders, brokers: brokers.recv().unwrap() }
    }

    /// Returns when it is done.
    fn order(&self, order: impl FnOnce(&Cluster<'_>) + Send + 'static) {
        let (done, waiting) = mpsc::channel();
        let order = move |cluster: &Cluster<'_>| {
            order(cluster);
            done.send(()).unwrap();
        };
        self.orders.send(Box::new(order)).unwrap();
        waiting.recv().unwrap();
    }
}

/// The first member of a group waits no 3 s for others.
#[allow(unsafe_code)] // rdkafka does not pass this on
fn groups_begin_soon(client: &BaseProducer) {
    // SAFETY: the cluster is the client's, which is borrowed
    unsafe {
        let cluster = bindings::rd_kafka_handle_mock_cluster(client.client().native_ptr());
        bindings::rd_kafka_mock_group_initial_rebalance_delay_ms(cluster, 100);
    }
}

/// Why the mock is not held to what Apache Kafka is.
const TAKES_NO_POSITIONS: &str = "the mock takes no positions while a member joins, also after \
                                  it was away, and gives out again what they cover";

#[async_trait]
impl Backend for Mock {
    fn declared(&self) -> Declared {
        Declared {
            gaps: &[
                ("group_in_two_processes", TAKES_NO_POSITIONS),
                ("broker_restart", TAKES_NO_POSITIONS),
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
        connect(&self.brokers, false, SHORT)
    }

    async fn connect_strict(&self) -> Arc<dyn Connection> {
        connect(&self.brokers, false, SHORT)
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

fn main() -> ExitCode {
    Suite::default()
        .on("on_kafka", newest)
        .on("on_kafka_3", of_3_9)
        .on("on_the_mock", || Some(Mock::start()))
        .run()
}
