//! Contract T1 to T4: state changes with the acknowledgement, or not at all.

use std::{sync::Arc, time::Duration};

use sandbar_core::{ErrorClass, HandlerError, Outgoing, PublishError, SourceError, Verdict};
use sandbar_pipeline::{Ordering, Services, SubscriptionConfig};
use tokio::time::sleep;

use crate::support::{
    Broker, FakeHandler, History, Running, config,
    handler::text,
    p, services,
    state::{count, replace},
    until,
};

const SECOND: Duration = Duration::from_secs(1);

/// State within the settlement, and before it.
fn brokers() -> [Arc<Broker>; 3] {
    [Broker::marking(), Broker::new(), Broker::atomic()]
}

fn number(broker: &Broker, key: &str) -> i64 {
    broker.state().kept.number(key)
}

/// Counts each event in `n`, publishes it, and fails as its payload says.
fn counting(history: &Arc<History>) -> Arc<FakeHandler> {
    FakeHandler::new(history, |call| async move {
        let verdict = match text(&call).as_str() {
            "retry" if call.attempt == 1 => Verdict::Retry { after: None },
            "reject" => Verdict::Reject,
            "skip" => Verdict::Skip,
            "denied" => return count("n", vec![Outgoing::new("secret", "")]),
            "refused" => return count("n", vec![Outgoing::new("out.bad", "")]),
            "slow" => {
                sleep(60 * SECOND).await;
                return count("n", vec![Outgoing::new("out", "")]);
            }
            _ => return count("n", vec![Outgoing::new("out", "")]),
        };
        Err(HandlerError::new(ErrorClass::Handler, verdict, "as told"))
    })
}

#[tokio::test(start_paused = true)]
async fn t1_only_what_was_handled_leaves_state() {
    for broker in brokers() {
        let history = History::new();
        for payload in ["ok", "retry", "reject", "skip", "denied", "ok"] {
            broker.append(None, payload);
        }
        let running = Running::on_partition(&broker, config(), counting(&history)).await;
        until("everything is committed", || broker.committed(&p(0)) == 6).await;
        running.drain(SECOND).await.unwrap();
        assert_eq!(number(&broker, "n"), 3);
    }
}

#[tokio::test(start_paused = true)]
async fn t1_refused_outputs_take_the_state_with_them() {
    for broker in [Broker::marking(), Broker::new()] {
        let history = History::new();
        broker.append(None, "refused");
        broker.append(None, "ok");
        broker.break_publishing(|record| {
            let bad = &*record.topic == "out.bad";
            bad.then(|| PublishError::Rejected("too large".into()))
        });
        broker.break_settling(|settlements| {
            let guilty = settlements.iter().find(|s| match &s.disposition {
                sandbar_core::Disposition::Done { effects, .. } => {
                    effects.iter().any(|record| &*record.topic == "out.bad")
                }
                sandbar_core::Disposition::Release { .. } => false,
            })?;
            Some(SourceError::Rejected { token: guilty.token, reason: "too large".into() })
        });
        let config = SubscriptionConfig { allow: vec!["out*".into()], ..config() };
        let running = Running::on_partition(&broker, config, counting(&history)).await;
        until("everything is committed", || broker.committed(&p(0)) == 2).await;
        running.drain(SECOND).await.unwrap();
        assert_eq!((number(&broker, "n"), broker.published("plug.dlq").len()), (1, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn t1_a_cancelled_attempt_leaves_nothing() {
    for broker in brokers() {
        let history = History::new();
        broker.append(None, "slow");
        let running = Running::on_partition(&broker, config(), counting(&history)).await;
        until("it is under way", || !history.began().is_empty()).await;
        running.drain(SECOND).await.unwrap();
        assert_eq!((number(&broker, "n"), broker.committed(&p(0))), (0, 0));
        let running = Running::on_partition(&broker, config(), counting(&history)).await;
        until("it is committed", || broker.committed(&p(0)) == 1).await;
        assert_eq!(number(&broker, "n"), 1, "the next owner has handled it once");
        running.drain(SECOND).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn t2_state_is_written_once_with_the_settlement_however_often_that_is_tried() {
    let (broker, history) = (Broker::marking(), History::new());
    broker.append(None, "ok");
    broker.break_settling(|_| Some(SourceError::Unavailable("away".into())));
    let running = Running::on_partition(&broker, config(), counting(&history)).await;
    until("it settles in vain", || broker.state().settle_calls > 3).await;
    assert_eq!(number(&broker, "n"), 0, "not acknowledged, so not visible");
    broker.mend();
    until("it is committed", || broker.committed(&p(0)) == 1).await;
    running.drain(SECOND).await.unwrap();
    assert_eq!((number(&broker, "n"), history.began().len()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn t2_elsewhere_state_follows_the_outputs_and_precedes_the_acknowledgement() {
    let (broker, history) = (Broker::new(), History::new());
    broker.append(None, "ok");
    broker.break_publishing(|_| Some(PublishError::Unavailable("away".into())));
    broker.break_settling(|_| Some(SourceError::Unavailable("away".into())));
    let running = Running::on_partition(&broker, config(), counting(&history)).await;
    until("it publishes in vain", || broker.state().publish_calls > 3).await;
    assert_eq!(number(&broker, "n"), 0, "its outputs are not durable");
    broker.state().publish_fault = None;
    until("it settles in vain", || broker.state().settle_calls > 3).await;
    assert_eq!(number(&broker, "n"), 1, "it would be lost with the process otherwise");
    broker.mend();
    until("it is committed", || broker.committed(&p(0)) == 1).await;
    running.drain(SECOND).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn t2_with_dedup_what_is_delivered_again_is_not_counted_again() {
    let (broker, history) = (Broker::new(), History::new());
    broker.append(None, "ok");
    broker.break_settling(|_| Some(SourceError::Unavailable("away".into())));
    let config = SubscriptionConfig { dedup: Some(3600 * SECOND), ..config() };
    let running = Running::on_partition(&broker, config.clone(), counting(&history)).await;
    until("it settles in vain", || broker.state().settle_calls > 3).await;
    running.kill().await;
    broker.mend();
    let running = Running::on_partition(&broker, config, counting(&history)).await;
    until("it is committed", || broker.committed(&p(0)) == 1).await;
    running.drain(SECOND).await.unwrap();
    assert_eq!(number(&broker, "n"), 1);
}

#[tokio::test(start_paused = true)]
async fn t2_a_store_that_is_away_holds_the_event_back() {
    let (broker, history) = (Broker::new(), History::new());
    broker.append(None, "ok");
    let no_store = Services { state: None, ..services(&broker) };
    let running = Running::start_with(&broker, config(), counting(&history), no_store);
    running.assign(p(0)).await;
    until("it is held back", || running.stats.held_back.get() == 1).await;
    sleep(60 * SECOND).await;
    assert_eq!(broker.committed(&p(0)), 0);
    running.drain(SECOND).await.unwrap();
}

/// Reads `n`, takes its time, and writes one more under the condition that nobody else did.
fn replacing(broker: &Arc<Broker>, history: &Arc<History>) -> Arc<FakeHandler> {
    let broker = broker.clone();
    FakeHandler::new(history, move |_| {
        let broker = broker.clone();
        async move {
            let (seen, n) = {
                let state = broker.state();
                (state.kept.entry("n").cloned(), state.kept.number("n"))
            };
            sleep(SECOND).await;
            replace("n", seen.as_ref(), n + 1)
        }
    })
}

#[tokio::test(start_paused = true)]
async fn t3_of_two_lanes_that_replace_a_key_the_later_begins_again_and_loses_no_attempt() {
    for broker in brokers() {
        let history = History::new();
        for key in ["a", "b", "c", "d", "e", "f"] {
            broker.append(Some(key), "");
        }
        // one attempt each: a conflict must not use it up
        let mut config = config();
        config.retry.max_attempts = 1;
        let handler = replacing(&broker, &history);
        let running = Running::on_partition(&broker, config, handler).await;
        until("everything is committed", || broker.committed(&p(0)) == 6).await;
        assert_eq!(number(&broker, "n"), 6, "no change was lost");
        assert_eq!(broker.published("plug.dlq").len(), 0);
        let again = history.began().len() as u64 - 6;
        assert!(again > 0, "they were handled side by side");
        assert_eq!(running.stats.state_conflicts.get(), again);
        assert!(history.entries().iter().all(|entry| entry.attempt == 1));
        running.drain(SECOND).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn t3_increments_of_concurrent_events_add_up() {
    for broker in brokers() {
        let history = History::new();
        for _ in 0..50 {
            broker.append(None, "ok");
        }
        let config = SubscriptionConfig { ordering: Ordering::None, ..config() };
        let running = Running::on_partition(&broker, config, counting(&history)).await;
        until("everything is committed", || broker.committed(&p(0)) == 50).await;
        assert_eq!((number(&broker, "n"), running.stats.state_conflicts.get()), (50, 0));
        running.drain(SECOND).await.unwrap();
    }
}

/// Writes one more than it reads, without any condition.
fn overwriting(broker: &Arc<Broker>, history: &Arc<History>) -> Arc<FakeHandler> {
    let broker = broker.clone();
    FakeHandler::new(history, move |call| {
        let broker = broker.clone();
        async move {
            let key = String::from_utf8(call.event.key.unwrap().to_vec()).unwrap();
            let n = broker.state().kept.number(&key);
            let value = (n + 1).to_string().into();
            let change = sandbar_core::StateChange::Put { value, expires_ms: None };
            let op = sandbar_core::StateOp { key, only_if: None, change };
            let quota = sandbar_core::StateQuota::UNLIMITED;
            let changes = sandbar_core::StateChanges { ops: vec![op], quota, at_ms: 0 };
            Ok(sandbar_core::Handled { outputs: Vec::new(), state: Some(Box::new(changes)) })
        }
    })
}

#[tokio::test(start_paused = true)]
async fn t4_an_event_sees_what_the_one_before_it_on_its_lane_has_written() {
    for atomic in [true, false] {
        let mut broker = Broker::slow(Duration::from_millis(20));
        (broker.atomic, broker.atomic_marks) = (atomic, atomic);
        let (broker, history) = (Arc::new(broker), History::new());
        for n in 0..40 {
            broker.append(Some(["a", "b"][n % 2]), "");
        }
        let handler = overwriting(&broker, &history);
        let running = Running::on_partition(&broker, config(), handler).await;
        until("everything is committed", || broker.committed(&p(0)) == 40).await;
        assert_eq!((number(&broker, "a"), number(&broker, "b")), (20, 20));
        running.drain(SECOND).await.unwrap();
    }
}
