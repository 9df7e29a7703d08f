//! What the broker tests share.
#![allow(dead_code)] // each test file uses its own part of this

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use parking_lot::Mutex;
use sandbar_broker_kafka::{Kafka, KafkaConfig};
use sandbar_core::{
    AckToken, Connection, Delivery, Disposition, Event, Outgoing, Partition, PartitionId, ReadFrom,
    ResumeFrom, Settlement, Source, SourceError, SourceEvent, SubscriptionSpec,
};
use sandbar_testkit::server::KAFKA;
use tokio::{sync::oneshot, task::JoinHandle};

/// Longest that anything here may take; what is waited for is a condition.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The address of a real broker, where there is one.
pub fn broker() -> Option<String> {
    KAFKA.address()
}

/// A name that no other test and no earlier run has used.
pub fn unique(what: &str) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_micros();
    format!("{what}-{now}-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A connection that creates topics of `partitions` partitions.
pub fn connect(brokers: &str, partitions: u32, properties: &[(&str, &str)]) -> Kafka {
    let config = KafkaConfig {
        brokers: brokers.into(),
        create_topics: true,
        partitions: Some(partitions),
        replication: Some(1),
        properties: properties.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect(),
    };
    Kafka::connect("test", config).unwrap()
}

pub fn spec(group: &str, topic: &str) -> SubscriptionSpec {
    SubscriptionSpec {
        prefetch: 1000,
        drain_timeout: Duration::from_secs(10),
        ..SubscriptionSpec::new(group, vec![topic.into()])
    }
}

pub fn done(delivery: &Delivery) -> Settlement {
    done_at(delivery.token.0)
}

pub fn done_at(position: u64) -> Settlement {
    Settlement::done(AckToken(position))
}

pub fn positions(deliveries: &[Delivery]) -> Vec<u64> {
    deliveries.iter().map(|d| d.event.position).collect()
}

/// Publishes all of `records`, which must all be accepted.
pub async fn publish(kafka: &Kafka, records: &[Outgoing]) {
    for result in kafka.sink().publish(records).await {
        result.unwrap();
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
pub async fn read_all(kafka: &Kafka, topic: &str) -> Vec<Event> {
    let mut reader = loop {
        match kafka.read(topic, ReadFrom::Start).await {
            Ok(reader) => break reader,
            // a topic that was just made may not have its leaders yet
            Err(SourceError::Unavailable(_)) => tokio::time::sleep(Duration::from_millis(50)).await,
            Err(e) => panic!("{e}"),
        }
    };
    let mut all = Vec::new();
    loop {
        match tokio::time::timeout(PATIENCE, reader.next(1000)).await.expect("reading stalled") {
            Ok(events) if events.is_empty() => return all,
            Ok(events) => all.extend(events),
            Err(SourceError::Unavailable(_)) => {}
            Err(e) => panic!("{e}"),
        }
    }
}

/// How often each number is in `topic`, as a `read_committed` reader sees it.
pub async fn counted(kafka: &Kafka, topic: &str) -> BTreeMap<u64, u32> {
    let mut seen = BTreeMap::new();
    for event in read_all(kafka, topic).await {
        *seen.entry(number(&event)).or_default() += 1;
    }
    seen
}

/// The next event of a source, passing over reports that the broker is away.
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
    tokio::time::timeout(PATIENCE, partition.recv(max)).await.expect("no record came").unwrap()
}

/// Exactly `count` records.
pub async fn recv_all(partition: &mut Box<dyn Partition>, count: usize) -> Vec<Delivery> {
    let mut all = Vec::new();
    while all.len() < count {
        all.extend(recv(partition, count - all.len()).await);
    }
    all
}

/// Waits until `group` resumes at `position` in `partition` of `topic`.
pub async fn committed(kafka: &Kafka, group: &str, topic: &str, partition: u32, position: u64) {
    let id = PartitionId { topic: topic.into(), partition };
    let seen = Mutex::new(None);
    let reached = async {
        loop {
            let cursors = kafka.cursors(group).await.unwrap();
            let now = cursors.iter().find(|(i, ..)| *i == id).map(|(_, resume, _)| *resume);
            *seen.lock() = now;
            if now == Some(ResumeFrom(position)) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let waited = tokio::time::timeout(PATIENCE, reached).await;
    assert!(waited.is_ok(), "{id} resumes at {:?}, not at {position}", seen.lock());
}

/// Waits until `condition` holds.
pub async fn until(what: &str, condition: impl Fn() -> bool) {
    let holds = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, holds)
        .await
        .unwrap_or_else(|_| panic!("never happened: {what}"));
}

/// A subscription that settles all it gets: the least that a pipeline does.
pub struct Worker {
    pub handled: Arc<Mutex<Vec<Event>>>,
    pub holds: Arc<Mutex<Vec<PartitionId>>>,
    /// Reports that the broker is away.
    pub away: Arc<AtomicU64>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), SourceError>>,
}

struct Lane {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Worker {
    pub fn start(source: Box<dyn Source>) -> Self {
        Self::start_with(source, None)
    }

    /// Settles each event with a copy of it to `out`, in its transaction.
    pub fn copying(source: Box<dyn Source>, out: &str) -> Self {
        Self::start_with(source, Some(out.into()))
    }

    fn start_with(mut source: Box<dyn Source>, out: Option<Arc<str>>) -> Self {
        let (stop, mut stopped) = oneshot::channel();
        let handled: Arc<Mutex<Vec<Event>>> = Arc::default();
        let holds: Arc<Mutex<Vec<PartitionId>>> = Arc::default();
        let away: Arc<AtomicU64> = Arc::default();
        let (seen, held, trouble) = (handled.clone(), holds.clone(), away.clone());
        let task = tokio::spawn(async move {
            let mut lanes: HashMap<PartitionId, Lane> = HashMap::new();
            loop {
                let event = tokio::select! {
                    biased;
                    _ = &mut stopped => break,
                    event = source.next() => event,
                };
                match event {
                    Ok(SourceEvent::Assigned(partition)) => {
                        let id = partition.id().clone();
                        held.lock().push(id.clone());
                        let (stop, stopped) = oneshot::channel();
                        let task =
                            tokio::spawn(work(partition, out.clone(), seen.clone(), stopped));
                        lanes.insert(id, Lane { stop, task });
                    }
                    Ok(SourceEvent::Revoking { id, drained }) => {
                        held.lock().retain(|other| *other != id);
                        end(lanes.remove(&id).expect("it was assigned")).await;
                        drop(drained);
                    }
                    Ok(SourceEvent::Finished) => break,
                    Err(SourceError::Unavailable(_)) => {
                        trouble.fetch_add(1, Ordering::Relaxed);
                    }
                    Err(e) => return Err(e),
                }
            }
            for (_, lane) in lanes.drain() {
                end(lane).await;
            }
            source.close().await
        });
        Self { handled, holds, away, stop, task }
    }

    /// Drains, commits and leaves the group.
    pub async fn stop(self) -> Result<(), SourceError> {
        let _ = self.stop.send(());
        tokio::time::timeout(PATIENCE, self.task).await.expect("closing stalled").unwrap()
    }
}

async fn end(lane: Lane) {
    let _ = lane.stop.send(());
    lane.task.await.unwrap();
}

/// Settles a delivery with a copy of its event to `out`.
pub fn copy(delivery: &Delivery, out: &Arc<str>) -> Settlement {
    let Event { key, payload, .. } = delivery.event.clone();
    let effects = vec![Outgoing { key, payload, ..Outgoing::new(out.clone(), "") }];
    Settlement { token: delivery.token, disposition: Disposition::done(effects) }
}

async fn work(
    mut partition: Box<dyn Partition>,
    out: Option<Arc<str>>,
    handled: Arc<Mutex<Vec<Event>>>,
    mut stopped: oneshot::Receiver<()>,
) {
    loop {
        let ready = tokio::select! {
            biased;
            _ = &mut stopped => return,
            ready = partition.recv(50) => ready,
        };
        // a partition that was lost is fenced: what it held is delivered to others
        let Ok(ready) = ready else { return };
        let settle =
            |delivery| out.as_ref().map_or_else(|| done(delivery), |out| copy(delivery, out));
        let settlements: Vec<_> = ready.iter().map(settle).collect();
        loop {
            match partition.settle(&settlements).await {
                Ok(()) => break handled.lock().extend(ready.into_iter().map(|d| d.event)),
                Err(SourceError::Unavailable(_)) => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                Err(_) => break,
            }
        }
    }
}
