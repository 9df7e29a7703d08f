//! The thread that owns a consumer's polling from its first moment to its last.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use rdkafka::{consumer::Consumer, error::KafkaError};
use sandbar_core::SourceError;
use tokio::sync::oneshot;

use crate::{assignment::GroupConsumer, record, transactions::Transactions};

/// How long a poll waits for an event: bounds how late a stop is noticed.
const POLL: Duration = Duration::from_millis(100);
/// How often positions that moved are handed over for committing.
const STORE_EVERY: Duration = Duration::from_millis(500);

/// With how many of these goes what may not have reached the broker.
const REFRESH: u32 = 10;

/// What the source tells its thread.
#[derive(Default)]
pub(crate) struct Orders {
    /// The topics may be subscribed to: they exist, or will have to appear by themselves.
    pub subscribe: AtomicBool,
    /// Commit, leave the group, end.
    pub stop: AtomicBool,
}

/// Starts the thread. The receiver gets the outcome of the last commit, after the
/// group was left.
pub(crate) fn start(
    consumer: Arc<GroupConsumer>,
    topics: Vec<String>,
    orders: Arc<Orders>,
    transactions: Option<Arc<Transactions>>,
) -> std::io::Result<oneshot::Receiver<Result<(), SourceError>>> {
    let (ended, outcome) = oneshot::channel();
    thread::Builder::new().name("kafka-poll".into()).spawn(move || {
        let group = consumer.context().clone();
        run(&consumer, &topics, &orders);
        if let Some(transactions) = transactions {
            transactions.stop();
        }
        let result = group.end(&consumer);
        group.shut();
        // the last reference, as all partitions are fenced: leaves the group
        drop(consumer);
        // the source may have been dropped instead of closed
        let _ = ended.send(result);
    })?;
    Ok(outcome)
}

fn run(consumer: &GroupConsumer, topics: &[String], orders: &Orders) {
    let group = consumer.context();
    let mut subscribed = false;
    let mut next_store = Instant::now() + STORE_EVERY;
    let mut stores = 0_u32;
    while !orders.stop.load(Ordering::Acquire) && !group.failed() {
        if !subscribed && orders.subscribe.load(Ordering::Acquire) {
            let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
            match consumer.subscribe(&topics) {
                Ok(()) => subscribed = true,
                Err(e) => group.fail(format!("cannot subscribe to {}: {e}", topics.join(", "))),
            }
        }
        // polling never pauses, whatever the pipeline does: a full partition only stops its own
        // fetching, so no backoff is long enough to be thrown out of the group (contract C4)
        match consumer.poll(POLL) {
            None => {}
            Some(Ok(message)) => {
                // every partition has a queue of its own. Were this record dropped, the position
                // would pass it as if it were a gap
                let position = record::position(&message);
                group.fail(format!("a record at position {position} came by the wrong queue"));
            }
            Some(Err(KafkaError::MessageConsumptionFatal(code))) => {
                let known = consumer.client().fatal_error();
                let (code, reason) = known.unwrap_or((code, String::new()));
                group.fail(format!("{code} {reason}").trim().to_owned());
            }
            // has been reported through the client's error callback
            Some(Err(_)) => {}
        }
        group.arrange(consumer);
        if Instant::now() >= next_store {
            stores = stores.wrapping_add(1);
            group.store_moved(consumer, stores.is_multiple_of(REFRESH));
            next_store = Instant::now() + STORE_EVERY;
        }
    }
}
