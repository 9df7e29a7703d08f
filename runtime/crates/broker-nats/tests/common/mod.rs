//! A NATS server named by the environment.
#![allow(dead_code)] // each test binary uses its part

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use sandbar_broker_nats::{Nats, NatsConfig};
use sandbar_core::{
    Connection, Delivery, Event, Outgoing, Partition, ReadFrom, Settlement, Source, SourceError,
    SourceEvent, SubscriptionSpec,
};

/// Longest wait for anything.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// Short, so that tests see what a handler may outlast.
pub const ACK_WAIT: Duration = Duration::from_secs(2);

pub struct Server {
    pub address: String,
    /// Where its scripts find it, if it may be killed.
    pub dir: Option<PathBuf>,
}

/// The server to test against; `None` where the environment names none.
pub fn server() -> Option<Server> {
    let Ok(address) = std::env::var("SANDBAR_NATS") else {
        println!("MISSING BROKER: not run, because SANDBAR_NATS names no NATS server");
        let ci = std::env::var("CI").as_deref() == Ok("true");
        assert!(!ci, "CI must name a NATS server in SANDBAR_NATS");
        return None;
    };
    Some(Server { address, dir: std::env::var("SANDBAR_NATS_DIR").ok().map(PathBuf::from) })
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

    /// kill -9.
    pub fn kill(&self) {
        let dir = self.dir.as_ref().expect("a server that may be killed");
        let pid = std::fs::read_to_string(dir.join("nats.pid")).unwrap();
        run(Command::new("kill").args(["-9", pid.trim()]));
        while Path::new("/proc").join(pid.trim()).join("exe").exists() {
            std::thread::yield_now();
        }
    }

    pub fn start(&self) {
        let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../scripts/nats");
        run(Command::new(scripts.join("start")).arg(self.dir.as_ref().unwrap()));
    }
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
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
    let settlements: Vec<_> = deliveries.iter().map(|d| Settlement::done(d.token)).collect();
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        match partition.settle(&settlements).await {
            Ok(()) => return,
            Err(SourceError::Unavailable(_)) if tokio::time::Instant::now() < deadline => {}
            Err(e) => panic!("{e}"),
        }
    }
}

pub fn numbers(deliveries: &[Delivery]) -> Vec<u64> {
    deliveries.iter().map(|d| number(&d.event)).collect()
}
