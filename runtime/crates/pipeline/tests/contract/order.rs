//! Contract O1 to O3 and H2: what waits for what.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use parking_lot::RwLock;
use sandbar_core::{Call, ErrorClass, Handler, HandlerError, Outcomes, Verdict};
use sandbar_pipeline::{Ordering, SubscriptionConfig};
use tokio::time::sleep;

use crate::support::{
    Broker, FakeHandler, History, Running, What, config, handler::text, p, partition, until,
};

const SECOND: Duration = Duration::from_secs(1);

fn retry() -> HandlerError {
    HandlerError::new(ErrorClass::Handler, Verdict::Retry { after: None }, "not now")
}

/// Takes `1..=50` ms, differently for each event.
fn slow(history: &Arc<History>) -> FakeHandler {
    FakeHandler::build(history, |call| async move {
        sleep(Duration::from_millis(1 + call.event.position * 37 % 50)).await;
        Ok(Default::default())
    })
}

async fn all_done(broker: &Arc<Broker>, running: Running) {
    until("everything is committed", || broker.committed(&p(0)) == broker.end(&p(0))).await;
    running.drain(SECOND).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn o1_attempts_of_a_key_do_not_overlap_and_begin_in_offset_order() {
    let (broker, history) = (Broker::new(), History::new());
    for n in 0..200 {
        broker.append(Some(&format!("k{}", n % 5)), "");
    }
    let running = Running::on_partition(&broker, config(), Arc::new(slow(&history))).await;
    all_done(&broker, running).await;
    history.assert_no_overlap(|e| e.key.clone());
    for key in 0..5 {
        let key = format!("k{key}");
        let entries = history.entries();
        let of_key = entries
            .iter()
            .filter(|e| e.what == What::Began && e.key.as_deref() == Some(key.as_bytes()));
        let positions: Vec<_> = of_key.map(|e| e.position).collect();
        assert!(positions.is_sorted() && positions.len() == 40, "{positions:?}");
    }
    assert_eq!(history.most_at_once(), 5, "other keys go on meanwhile");
}

#[tokio::test(start_paused = true)]
async fn o1_a_batch_never_holds_two_events_of_a_key() {
    let (broker, history) = (Broker::new(), History::new());
    for n in 0..300 {
        broker.append(Some(&format!("k{}", n % 30)), "");
    }
    let handler = Arc::new(slow(&history).with_batch(16));
    let running = Running::on_partition(
        &broker,
        SubscriptionConfig { concurrency: 2, ..config() },
        handler.clone(),
    )
    .await;
    all_done(&broker, running).await;
    history.assert_no_overlap(|e| e.key.clone());
    let batches = handler.batches.lock().clone();
    assert!(batches.iter().any(|n| *n > 8), "batches are used: {batches:?}");
    assert!(batches.iter().all(|n| *n <= 16), "{batches:?}");
}

#[tokio::test(start_paused = true)]
async fn o2_a_waiting_retry_holds_its_key_and_nothing_else() {
    let (broker, history) = (Broker::new(), History::new());
    for (key, payload) in [("a", "fail"), ("a", "later"), ("b", ""), ("c", ""), ("b", "")] {
        broker.append(Some(key), payload);
    }
    let handler = FakeHandler::new(&history, |call| async move {
        if text(&call) == "fail" && call.attempt == 1 {
            Err(retry())
        } else {
            Ok(Default::default())
        }
    });
    let running = Running::on_partition(&broker, config(), handler).await;
    all_done(&broker, running).await;
    assert_eq!(history.began(), [(0, 1), (2, 1), (3, 1), (4, 1), (0, 2), (1, 1)]);
    let first = history.began_at(0, 1).unwrap();
    assert_eq!(history.began_at(4, 1).unwrap(), first, "other keys did not wait");
    assert_eq!(history.began_at(1, 1).unwrap(), first + SECOND, "its own key waited for the retry");
}

#[tokio::test(start_paused = true)]
async fn o3_equal_keys_of_two_topics_share_no_lane() {
    let (broker, history) = (Broker::new(), History::new());
    let other = partition("returns", 0);
    broker.append(Some("k"), "");
    broker.append_to(other.clone(), Some("k"), "");
    let handler = FakeHandler::new(&history, |_| async {
        sleep(SECOND).await;
        Ok(Default::default())
    });
    let running = Running::on_partition(&broker, config(), handler).await;
    running.assign(other.clone()).await;
    until("both are done", || broker.committed(&p(0)) + broker.committed(&other) == 2).await;
    assert_eq!(history.most_at_once(), 2);
    running.drain(SECOND).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn o3_what_each_ordering_lets_run_at_once() {
    for (ordering, key, most) in [
        (Ordering::Key, None, 8),
        (Ordering::Key, Some("k"), 1),
        (Ordering::Partition, None, 1),
        (Ordering::Partition, Some("k"), 1),
        (Ordering::None, Some("k"), 8),
    ] {
        let (broker, history) = (Broker::new(), History::new());
        for _ in 0..40 {
            broker.append(key, "");
        }
        let config = SubscriptionConfig { ordering, concurrency: 8, ..config() };
        let running = Running::on_partition(&broker, config, Arc::new(slow(&history))).await;
        all_done(&broker, running).await;
        assert_eq!(history.most_at_once(), most, "{ordering:?} with key {key:?}");
        if most == 1 {
            assert!(history.began().is_sorted(), "{ordering:?} with key {key:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn o3_under_partition_order_a_retry_holds_the_partition() {
    let (broker, history) = (Broker::new(), History::new());
    for key in ["a", "b", "c"] {
        broker.append(Some(key), "");
    }
    let handler = FakeHandler::new(&history, |call| async move {
        if call.event.position == 0 && call.attempt == 1 {
            Err(retry())
        } else {
            Ok(Default::default())
        }
    });
    let config = SubscriptionConfig { ordering: Ordering::Partition, ..config() };
    let running = Running::on_partition(&broker, config, handler).await;
    all_done(&broker, running).await;
    assert_eq!(history.began(), [(0, 1), (0, 2), (1, 1), (2, 1)]);
}

/// A slot whose handler is replaced while calls run.
struct Slot(RwLock<Arc<FakeHandler>>);

#[async_trait]
impl Handler for Slot {
    async fn handle(&self, calls: &[&Call]) -> Outcomes {
        let current = self.0.read().clone();
        current.handle(calls).await
    }
}

#[tokio::test(start_paused = true)]
async fn h2_calls_in_flight_finish_on_the_old_version_and_order_holds_across_the_swap() {
    let (broker, history) = (Broker::new(), History::new());
    for _ in 0..3 {
        broker.append(Some("k"), "");
    }
    let version = |name| {
        let handler = FakeHandler::build(&history, |call: Call| async move {
            sleep(SECOND).await;
            // the retry of what the old version began belongs to the new one
            if (call.event.position, call.attempt) == (0, 1) {
                Err(retry())
            } else {
                Ok(Default::default())
            }
        });
        Arc::new(handler.with_version(name))
    };
    let slot = Arc::new(Slot(RwLock::new(version("old"))));
    let running = Running::on_partition(&broker, config(), slot.clone()).await;
    until("the old version is at work", || history.began().len() == 1).await;
    *slot.0.write() = version("new");
    all_done(&broker, running).await;
    history.assert_no_overlap(|e| e.key.clone());
    let seen: Vec<_> = history
        .entries()
        .iter()
        .map(|e| (e.position, e.attempt, e.version, e.what == What::Began))
        .collect();
    assert_eq!(
        seen[..4],
        [(0, 1, "old", true), (0, 1, "old", false), (0, 2, "new", true), (0, 2, "new", false)]
    );
    assert_eq!(broker.committed(&p(0)), 3);
}
