//! What a statement works with.

use std::{
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use sandbar_core::{
    Connection, Event, Guarantees, Outgoing, PublishError, ReadFrom, Reader, SourceError,
    SubscriptionSpec,
};
use tokio::{
    sync::Mutex,
    time::{sleep, timeout},
};

use super::{Backend, Consumer, Declared, Got, PATIENCE, Switch};

/// Pause between two looks at something that is to change.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Keys of numbered records.
const KEYS: u64 = 5;

/// A backend, and the connections that its test made.
pub struct Bench {
    backend: Box<dyn Backend>,
    declared: Declared,
    connections: Mutex<Vec<Arc<dyn Connection>>>,
}

impl Bench {
    /// On top of `backend`.
    pub fn new(backend: Box<dyn Backend>) -> Self {
        Self { declared: backend.declared(), backend, connections: Mutex::default() }
    }

    /// What is demanded.
    pub fn declared(&self) -> &Declared {
        &self.declared
    }

    /// What sources must promise.
    pub fn guarantees(&self) -> Guarantees {
        self.declared.guarantees
    }

    /// Partitions of a topic.
    pub fn partitions(&self) -> usize {
        self.declared.partitions as usize
    }

    /// Whether the broker can be taken away.
    pub fn has_switch(&self) -> bool {
        self.backend.switch().is_some()
    }

    /// Takes the broker away and brings it back.
    pub fn switch(&self) -> &dyn Switch {
        self.backend.switch().expect("asked for only where there is one")
    }

    /// A connection that may make topics.
    pub async fn connect(&self) -> Arc<dyn Connection> {
        let connection = self.backend.connect().await;
        self.connections.lock().await.push(connection.clone());
        connection
    }

    /// A connection that may make none.
    pub async fn connect_strict(&self) -> Arc<dyn Connection> {
        let connection = self.backend.connect_strict().await;
        self.connections.lock().await.push(connection.clone());
        connection
    }

    /// A connection that stands for another process.
    pub async fn connect_elsewhere(&self) -> Option<Arc<dyn Connection>> {
        let connection = self.backend.connect_elsewhere().await?;
        self.connections.lock().await.push(connection.clone());
        Some(connection)
    }

    /// Closes all connections, and makes one as a process does that starts again.
    pub async fn reopen(&self) -> Arc<dyn Connection> {
        self.close().await;
        let connection = self.backend.reopen().await;
        self.connections.lock().await.push(connection.clone());
        connection
    }

    /// Closes all connections.
    pub async fn close(&self) {
        for connection in self.connections.lock().await.drain(..) {
            timeout(PATIENCE, connection.close()).await.expect("the connection never closed");
        }
    }

    /// A topic of its own, made.
    pub async fn topic(&self, connection: &Arc<dyn Connection>, what: &str) -> String {
        let topic = unique(what);
        self.make_topic(connection, &topic).await;
        topic
    }

    /// Makes `topic`.
    pub async fn make_topic(&self, connection: &Arc<dyn Connection>, topic: &str) {
        self.backend.make_topic(&**connection, topic).await;
    }

    /// Joins a group and waits until it holds all partitions of one topic.
    pub async fn open(
        &self,
        connection: &Arc<dyn Connection>,
        spec: &SubscriptionSpec,
    ) -> Consumer {
        let mut consumer = self.subscribe(connection, spec).await;
        consumer.assigned(self.partitions()).await;
        consumer
    }

    /// Joins a group, and waits for nothing.
    pub async fn subscribe(
        &self,
        connection: &Arc<dyn Connection>,
        spec: &SubscriptionSpec,
    ) -> Consumer {
        let source = connection.subscribe(spec.clone()).await;
        Consumer::new(source.unwrap_or_else(|e| panic!("not subscribed: {e}")))
    }

    /// Exactly `count` deliveries, which are settled: all together, or as they come where the
    /// broker gives out no more of a key before.
    pub async fn handle(&self, consumer: &mut Consumer, count: usize) -> Vec<Got> {
        let mut got = Vec::new();
        while got.len() < count {
            let some = match self.declared.locks_keys {
                true => consumer.some(count - got.len()).await,
                false => consumer.take(count).await,
            };
            consumer.done(&some).await.expect("settles");
            got.extend(some);
        }
        got
    }

    /// All that there is for a subscription until the end. Settled only where the broker would
    /// otherwise not give out all of a key.
    pub async fn drain(&self, consumer: &mut Consumer) -> Vec<Got> {
        consumer.drain(self.partitions(), self.declared.locks_keys).await
    }

    /// What the group of `spec` would still be given; it may be settled by that.
    pub async fn left(
        &self,
        connection: &Arc<dyn Connection>,
        spec: &SubscriptionSpec,
    ) -> Vec<Got> {
        let spec = SubscriptionSpec { until_end: true, ..spec.clone() };
        let mut consumer = self.subscribe(connection, &spec).await;
        let left = self.drain(&mut consumer).await;
        consumer.close().await;
        left
    }

    /// Fails where the group of `spec` would still be given something.
    pub async fn nothing_left(&self, connection: &Arc<dyn Connection>, spec: &SubscriptionSpec) {
        let left = self.left(connection, spec).await;
        assert!(left.is_empty(), "what was settled came again: {left:?}");
    }

    /// `count` records with the numbers from `first` on as payload, of [`KEYS`] keys in turn.
    pub fn numbered(&self, topic: &str, first: u64, count: u64) -> Vec<Outgoing> {
        keyed(topic, first..first + count, KEYS)
    }

    /// The same, of which `at_once` can be in hand whatever the broker holds back.
    pub fn numbered_to_hold(
        &self,
        topic: &str,
        first: u64,
        count: u64,
        at_once: u64,
    ) -> Vec<Outgoing> {
        let keys = if self.declared.locks_keys { at_once } else { KEYS };
        keyed(topic, first..first + count, keys)
    }

    /// Publishes `records`, again where the broker is not ready; none may be rejected.
    pub async fn publish(&self, connection: &Arc<dyn Connection>, records: &[Outgoing]) {
        let mut rest = records.to_vec();
        let publishing = async {
            while !rest.is_empty() {
                let results = connection.sink().publish(&rest).await;
                assert_eq!(results.len(), rest.len(), "one result per record");
                let mut again = Vec::new();
                for (record, result) in rest.drain(..).zip(results) {
                    match result {
                        Ok(()) => {}
                        Err(PublishError::Unavailable(_)) => again.push(record),
                        Err(PublishError::Rejected(reason)) => panic!("rejected: {reason}"),
                    }
                }
                rest = again;
                if !rest.is_empty() {
                    sleep(LOOK_AGAIN).await;
                }
            }
        };
        timeout(PATIENCE, publishing).await.expect("publishing stalled");
    }

    /// Opens a reader, again while the broker does not know a new topic's leaders yet.
    pub async fn reader(
        &self,
        connection: &Arc<dyn Connection>,
        topic: &str,
        from: ReadFrom,
    ) -> Box<dyn Reader> {
        self.answered("read", || connection.read(topic, from)).await
    }

    /// All that a reader gives up to its end.
    pub async fn read_all(
        &self,
        connection: &Arc<dyn Connection>,
        topic: &str,
        from: ReadFrom,
    ) -> Vec<Event> {
        let mut reader = self.reader(connection, topic, from).await;
        let mut all = Vec::new();
        loop {
            match timeout(PATIENCE, reader.next(7)).await.expect("reading stalled") {
                Ok(events) if events.is_empty() => return all,
                Ok(events) => all.extend(events),
                Err(SourceError::Unavailable(_)) => sleep(LOOK_AGAIN).await,
                Err(e) => panic!("{topic} was not read: {e}"),
            }
        }
    }

    /// Asks until the answer is not that the broker is away.
    pub async fn answered<T, F>(&self, what: &str, mut ask: impl FnMut() -> F) -> T
    where
        F: Future<Output = Result<T, SourceError>>,
    {
        let asking = async {
            loop {
                match ask().await {
                    Ok(answer) => return answer,
                    Err(SourceError::Unavailable(_)) => sleep(LOOK_AGAIN).await,
                    Err(e) => panic!("{what}: {e}"),
                }
            }
        };
        timeout(PATIENCE, asking).await.unwrap_or_else(|_| panic!("{what}: no answer"))
    }

    /// The refusal that `ask` must meet, which names `name`.
    pub async fn refused<T, F>(&self, what: &str, name: &str, mut ask: impl FnMut() -> F)
    where
        F: Future<Output = Result<T, SourceError>>,
    {
        let asking = async {
            loop {
                match ask().await {
                    Ok(_) => panic!("{what} was not refused"),
                    Err(SourceError::Unavailable(_)) => sleep(LOOK_AGAIN).await,
                    Err(SourceError::Fatal(reason)) => return reason,
                    Err(e) => panic!("{what} is refused, but not for good: {e}"),
                }
            }
        };
        let reason =
            timeout(PATIENCE, asking).await.unwrap_or_else(|_| panic!("{what}: no answer"));
        assert!(reason.contains(name), "{what}: the refusal does not name {name}: {reason}");
    }
}

fn keyed(topic: &str, numbers: Range<u64>, keys: u64) -> Vec<Outgoing> {
    let record = |n: u64| Outgoing::new(topic, n.to_string()).with_key(format!("key-{}", n % keys));
    numbers.map(record).collect()
}

/// Waits until `look` gives something.
pub async fn eventually<T, F>(what: &str, mut look: impl FnMut() -> F) -> T
where
    F: Future<Output = Option<T>>,
{
    let looking = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            sleep(LOOK_AGAIN).await;
        }
    };
    timeout(PATIENCE, looking).await.unwrap_or_else(|_| panic!("never happened: {what}"))
}

/// A name that no other test and no earlier run has used.
pub fn unique(what: &str) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let now = SystemTime::UNIX_EPOCH.elapsed().expect("a clock after 1970").as_micros();
    format!("conf-{what}-{now}-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A group with a name of its own on `topic`. No statement has more in work than its
/// prefetch.
pub fn spec(topic: &str) -> SubscriptionSpec {
    SubscriptionSpec {
        prefetch: 100,
        drain_timeout: Duration::from_secs(5),
        ..SubscriptionSpec::new(unique("group"), vec![topic.to_owned()])
    }
}
