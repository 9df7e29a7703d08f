//! A NATS server named by the environment.
#![allow(dead_code)] // each test binary uses its part

use std::time::Duration;

use sandbar_broker_nats::{Nats, NatsConfig};
use sandbar_core::{
    Connection, Delivery, Event, Outgoing, Partition, ReadFrom, Settlement, Source, SourceError,
    SourceEvent, SubscriptionSpec,
};
use sandbar_testkit::server::NATS;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
};

/// Longest wait for anything.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// Short, so that tests see what a handler may outlast.
pub const ACK_WAIT: Duration = Duration::from_secs(2);

pub struct Server {
    pub address: String,
}

/// The server to test against, where there is one.
pub fn server() -> Option<Server> {
    NATS.address().map(|address| Server { address })
}

impl Server {
    pub fn config(&self) -> NatsConfig {
        NatsConfig {
            servers: self.address.clone(),
            create_topics: true,
            ack_wait: ACK_WAIT,
            ..NatsConfig::default()
        }
    }

    pub fn connect(&self) -> Nats {
        Nats::connect("nats", self.config()).unwrap()
    }
}

/// A name that no other test has.
pub fn unique(what: &str) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    format!("{what}-{}-{}", std::process::id(), now.as_nanos())
}

pub fn spec(group: &str, topic: &str) -> SubscriptionSpec {
    SubscriptionSpec::new(group, vec![topic.to_owned()])
}

/// Publishes all of `records`, again where the server was away.
pub async fn publish(nats: &Nats, records: &[Outgoing]) {
    let mut left = records.to_vec();
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !left.is_empty() {
        assert!(tokio::time::Instant::now() < deadline, "publishing stalled");
        let results = nats.sink().publish(&left).await;
        let mut failed = Vec::new();
        for (record, result) in left.into_iter().zip(results) {
            match result {
                Ok(()) => {}
                Err(sandbar_core::PublishError::Unavailable(_)) => failed.push(record),
                Err(e) => panic!("{e}"),
            }
        }
        left = failed;
    }
}

/// `count` records whose payload is their number, with `keys` keys in turn.
pub fn numbered(topic: &str, count: u64, keys: u64) -> Vec<Outgoing> {
    let record = |n: u64| Outgoing::new(topic, n.to_string()).with_key(format!("key-{}", n % keys));
    (0..count).map(record).collect()
}

pub fn number(event: &Event) -> u64 {
    std::str::from_utf8(event.payload.as_ref().unwrap()).unwrap().parse().unwrap()
}

/// Everything in `topic`, up to its present end.
pub async fn read_all(nats: &Nats, topic: &str) -> Vec<Event> {
    let mut reader = nats.read(topic, ReadFrom::Start).await.unwrap();
    let mut all = Vec::new();
    loop {
        let events = tokio::time::timeout(PATIENCE, reader.next(1000)).await.expect("stalled");
        match events.unwrap() {
            events if events.is_empty() => return all,
            events => all.extend(events),
        }
    }
}

/// The next event of a source, passing over reports that the server is away.
pub async fn next_event(source: &mut Box<dyn Source>) -> SourceEvent {
    loop {
        match tokio::time::timeout(PATIENCE, source.next()).await.expect("no event came") {
            Ok(event) => return event,
            Err(SourceError::Unavailable(_)) => {}
            Err(e) => panic!("{e}"),
        }
    }
}

pub async fn assigned(source: &mut Box<dyn Source>) -> Box<dyn Partition> {
    match next_event(source).await {
        SourceEvent::Assigned(partition) => partition,
        SourceEvent::Revoking { id, .. } => panic!("{id} is being revoked"),
        SourceEvent::Finished => panic!("finished"),
    }
}

pub async fn recv(partition: &mut Box<dyn Partition>, max: usize) -> Vec<Delivery> {
    tokio::time::timeout(PATIENCE, partition.recv(max)).await.expect("no event came").unwrap()
}

/// Exactly `count` events.
pub async fn recv_all(partition: &mut Box<dyn Partition>, count: usize) -> Vec<Delivery> {
    let mut all = Vec::new();
    while all.len() < count {
        all.extend(recv(partition, count - all.len()).await);
    }
    all
}

pub async fn settle(partition: &mut Box<dyn Partition>, deliveries: &[Delivery]) {
    try_settle(partition, deliveries).await.unwrap_or_else(|e| panic!("{e}"));
}

/// Tries again while the server is away.
pub async fn try_settle(
    partition: &mut Box<dyn Partition>,
    deliveries: &[Delivery],
) -> Result<(), SourceError> {
    let settlements: Vec<_> = deliveries.iter().map(|d| Settlement::done(d.token)).collect();
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        match partition.settle(&settlements).await {
            Err(SourceError::Unavailable(_)) if tokio::time::Instant::now() < deadline => {}
            settled => return settled,
        }
    }
}

pub fn numbers(deliveries: &[Delivery]) -> Vec<u64> {
    deliveries.iter().map(|d| number(&d.event)).collect()
}

/// A way to a server on which nothing reaches it any more once it is [cut](Self::cut), and
/// what it says still comes: neither side notices by itself.
pub struct Cable {
    pub address: String,
    cut: watch::Sender<bool>,
}

impl Cable {
    pub async fn to(server: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (cut, is_cut) = watch::channel(false);
        tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let server = TcpStream::connect(&server).await.unwrap();
                tokio::spawn(pass_on(client, server, is_cut.clone()));
            }
        });
        Self { address, cut }
    }

    pub fn cut(&self) {
        self.cut.send_replace(true);
    }
}

async fn pass_on(mut client: TcpStream, mut server: TcpStream, is_cut: watch::Receiver<bool>) {
    let (mut from_client, mut to_client) = client.split();
    let (mut from_server, mut to_server) = server.split();
    let there = async {
        let mut chunk = vec![0; 1 << 16];
        loop {
            match from_client.read(&mut chunk).await {
                Ok(0) | Err(_) => return,
                Ok(_) if *is_cut.borrow() => {}
                Ok(length) if to_server.write_all(&chunk[..length]).await.is_err() => return,
                Ok(_) => {}
            }
        }
    };
    let back = tokio::io::copy(&mut from_server, &mut to_client);
    tokio::select! {
        () = there => {}
        _ = back => {}
    }
}
