//! What the pipeline itself costs an event, from `recv` to `settle`: a source that always
//! has more, a handler that does nothing, a sink that takes everything.
//!
//! ```sh
//! cargo bench -p sandbar-pipeline --bench overhead [-- EVENTS]
//! ```
//!
//! Prints one JSON line per case: nanoseconds per event, best and median of the rounds.

use std::{
    env,
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Instant,
};

use async_trait::async_trait;
use bytes::Bytes;
use sandbar_core::{
    AckToken, Call, Delivery, Event, Guarantees, HandledBy, Handler, Header, Outcomes, Outgoing,
    Partition, PartitionId, PublishError, Settlement, Sink, Source, SourceError, SourceEvent,
};
use sandbar_pipeline::{
    Ordering, Outputs, StopHandle, Subscription, SubscriptionConfig, SubscriptionStats, run,
};
use tokio::sync::Notify;

const ROUNDS: usize = 7;
const KEYS: u64 = 1000;

fn main() {
    let events = env::args().skip(1).find_map(|a| a.parse().ok()).unwrap_or(300_000);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for case in CASES {
        let mut rounds: Vec<f64> =
            (0..ROUNDS).map(|_| runtime.block_on(round(&case, events))).collect();
        rounds.sort_by(f64::total_cmp);
        println!(
            "{{\"case\":\"{}\",\"events\":{events},\"best_ns\":{:.0},\"median_ns\":{:.0}}}",
            case.name,
            rounds[0],
            rounds[ROUNDS / 2]
        );
    }
}

struct Case {
    name: &'static str,
    ordering: Ordering,
    /// Outputs for each event.
    outputs: usize,
    max_batch: usize,
    /// Outputs are part of the settlement.
    atomic: bool,
}

const CASES: [Case; 5] = [
    Case { name: "one by one", ordering: Ordering::Key, outputs: 1, max_batch: 1, atomic: true },
    Case { name: "batches", ordering: Ordering::Key, outputs: 1, max_batch: 128, atomic: true },
    Case { name: "no output", ordering: Ordering::Key, outputs: 0, max_batch: 128, atomic: true },
    Case { name: "published", ordering: Ordering::Key, outputs: 1, max_batch: 128, atomic: false },
    Case { name: "unordered", ordering: Ordering::None, outputs: 1, max_batch: 128, atomic: true },
];

/// Nanoseconds per event.
async fn round(case: &Case, events: u64) -> f64 {
    let config = SubscriptionConfig {
        ordering: case.ordering,
        allow: vec!["out".into()],
        ..SubscriptionConfig::new("bench", "bench")
    };
    let handler = Arc::new(Nothing { outputs: case.outputs, max_batch: case.max_batch });
    let (settled, done) = (Arc::new(AtomicU64::new(0)), Arc::new(Notify::new()));
    let subscription = Subscription::new(
        config,
        handler,
        Outputs::single("bench", Arc::new(Everything)),
        Arc::new(SubscriptionStats::unregistered("bench")),
    );
    let partition = Flood {
        id: PartitionId { topic: "in".into(), partition: 0 },
        next: 0,
        events,
        made: template(),
        settled: settled.clone(),
        done: done.clone(),
    };
    let source = Box::new(One { partition: Some(partition), done, atomic: case.atomic });
    let (_stop, stopped) = StopHandle::new();
    let began = Instant::now();
    let end = run(source, subscription, stopped).await.expect("nothing fails");
    let took = began.elapsed();
    assert_eq!(settled.load(Relaxed), events, "{end:?}");
    took.as_nanos() as f64 / events as f64
}

/// 1 KiB with a key, two headers and an id.
fn template() -> Event {
    Event {
        topic: "in".into(),
        partition: 0,
        position: 0,
        key: None,
        payload: Some(Bytes::from(vec![b'x'; 1024])),
        headers: [Header::new("content-type", "text/plain"), Header::new("trace", "abc")].into(),
        timestamp_ms: 1_700_000_000_000,
        attributes: [("id".to_owned(), "0b7e".to_owned())].into(),
    }
}

struct One {
    partition: Option<Flood>,
    done: Arc<Notify>,
    atomic: bool,
}

#[async_trait]
impl Source for One {
    fn guarantees(&self) -> Guarantees {
        Guarantees {
            ordered: true,
            atomic_effects: self.atomic,
            atomic_marks: false,
            atomic_state: false,
            tombstones: true,
            delayed_release: false,
            spread_over_processes: true,
            fan_out: true,
            retained: true,
            redelivery_counted: false,
        }
    }

    async fn next(&mut self) -> Result<SourceEvent, SourceError> {
        Ok(match self.partition.take() {
            Some(partition) => SourceEvent::Assigned(Box::new(partition)),
            None => {
                self.done.notified().await;
                SourceEvent::Finished
            }
        })
    }

    async fn close(self: Box<Self>) -> Result<(), SourceError> {
        Ok(())
    }
}

/// A partition that always has more, up to `events`.
struct Flood {
    id: PartitionId,
    next: u64,
    events: u64,
    made: Event,
    settled: Arc<AtomicU64>,
    /// Told when all are settled.
    done: Arc<Notify>,
}

#[async_trait]
impl Partition for Flood {
    fn id(&self) -> &PartitionId {
        &self.id
    }

    async fn recv(&mut self, max: usize) -> Result<Vec<Delivery>, SourceError> {
        let end = self.events.min(self.next + max as u64);
        if self.next == self.events {
            return pending().await;
        }
        let deliver = |position: u64| {
            let key = format!("key-{}", position % KEYS);
            let event = Event { position, key: Some(key.into()), ..self.made.clone() };
            Delivery { event, token: AckToken(position), redeliveries: 0 }
        };
        let deliveries = (self.next..end).map(deliver).collect();
        self.next = end;
        Ok(deliveries)
    }

    async fn settle(&mut self, settlements: &[Settlement]) -> Result<(), SourceError> {
        let now = settlements.len() as u64;
        if self.settled.fetch_add(now, Relaxed) + now == self.events {
            self.done.notify_one();
        }
        Ok(())
    }
}

struct Nothing {
    outputs: usize,
    max_batch: usize,
}

#[async_trait]
impl Handler for Nothing {
    async fn handle(&self, calls: &[&Call]) -> Outcomes {
        let (plugin, version, digest) = ("nothing".into(), "0".into(), String::new());
        let by = Arc::new(HandledBy { plugin, version, digest });
        let output = |call: &Call| Outgoing {
            key: call.event.key.clone(),
            payload: call.event.payload.clone(),
            ..Outgoing::new("out", Bytes::new())
        };
        let one = |call: &&Call| {
            let outputs: Vec<_> = (0..self.outputs).map(|_| output(call)).collect();
            Ok(outputs.into())
        };
        Outcomes { by, results: calls.iter().map(one).collect() }
    }

    fn max_batch(&self) -> usize {
        self.max_batch
    }
}

struct Everything;

#[async_trait]
impl Sink for Everything {
    async fn publish(&self, records: &[Outgoing]) -> Vec<Result<(), PublishError>> {
        vec![Ok(()); records.len()]
    }
}
