//! Contract H4 to H6 and R7: stopping is not failing.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use sandbar_core::{AckToken, ErrorClass, HandlerError, SourceError, Verdict};
use sandbar_pipeline::{RunEnd, State, SubscriptionConfig};
use tokio::time::{Instant, sleep};

use crate::support::{Broker, FakeHandler, History, Running, config, handler::echo, p, until};

const SECOND: Duration = Duration::from_secs(1);

/// Takes as many seconds as the event's position plus one.
fn slow(history: &Arc<History>) -> Arc<FakeHandler> {
    FakeHandler::new(history, |call| async move {
        sleep(SECOND * (call.event.position as u32 + 1)).await;
        echo(&call)
    })
}

fn failing(history: &Arc<History>) -> Arc<FakeHandler> {
    FakeHandler::new(history, |_| async {
        Err(HandlerError::new(ErrorClass::Handler, Verdict::Retry { after: None }, "not now"))
    })
}

#[tokio::test(start_paused = true)]
async fn h5_a_stop_takes_in_nothing_more_finishes_what_runs_and_commits() {
    let (broker, history) = (Broker::new(), History::new());
    for key in ["a", "b", "c", "c", "d"] {
        broker.append(Some(key), "");
    }
    let config = SubscriptionConfig { concurrency: 3, ..config() };
    let running = Running::on_partition(&broker, config, slow(&history)).await;
    until("attempts run", || history.began().len() == 3).await;
    running.stop.drain(60 * SECOND);
    sleep(SECOND / 2).await;
    broker.append(Some("e"), "");
    let (stats, began) = (running.stats.clone(), Instant::now());
    assert_eq!(running.end().await.unwrap(), RunEnd::Drained);
    assert!(began.elapsed() < 4 * SECOND, "it does not wait longer than it must");
    assert_eq!(history.began(), [(0, 1), (1, 1), (2, 1)], "nothing new is begun");
    assert_eq!(broker.committed(&p(0)), 3);
    assert_eq!((stats.received.get(), stats.handled.get(), stats.released.get()), (5, 3, 2));
    assert_eq!((stats.in_flight.get(), stats.state().0), (0, State::Stopped));
    let state = broker.state();
    assert_eq!(state.released, [(AckToken(3), Duration::ZERO), (AckToken(4), Duration::ZERO)]);
    assert_eq!(state.closed, 1, "the group is left");
}

#[tokio::test(start_paused = true)]
async fn h5_at_the_deadline_what_still_runs_is_aborted_and_stays_uncommitted() {
    let (broker, history) = (Broker::new(), History::new());
    for _ in 0..10 {
        broker.append(None, "");
    }
    let config = SubscriptionConfig { concurrency: 10, ..config() };
    let running = Running::on_partition(&broker, config, slow(&history)).await;
    until("attempts run", || history.began().len() == 10).await;
    let began = Instant::now();
    running.drain(5 * SECOND).await.unwrap();
    assert!(began.elapsed() <= 5 * SECOND, "{:?}", began.elapsed());
    assert_eq!(history.aborted(), [4, 5, 6, 7, 8, 9]);
    assert_eq!((broker.committed(&p(0)), broker.payloads("out").len()), (4, 4));
    assert!(broker.published("plug.dlq").is_empty());
}

#[tokio::test(start_paused = true)]
async fn h6_a_cancelled_attempt_is_released_and_never_dead_lettered() {
    let (broker, history) = (Broker::new(), History::new());
    broker.append(Some("k"), "");
    let mut config = config();
    config.retry.max_attempts = 1;
    let stuck = FakeHandler::new(&history, |_| std::future::pending());
    for _ in 0..5 {
        let running = Running::on_partition(&broker, config.clone(), stuck.clone()).await;
        until("it runs", || history.began().len() > history.aborted().len()).await;
        running.drain(SECOND).await.unwrap();
    }
    assert_eq!(history.began(), [(0, 1); 5], "each delivery is a first attempt");
    assert_eq!((broker.committed(&p(0)), broker.state().published.len()), (0, 0));
    let running = Running::on_partition(&broker, config, slow(&history)).await;
    until("it is handled in the end", || broker.committed(&p(0)) == 1).await;
    running.drain(SECOND).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn r7_a_stop_or_a_revocation_in_mid_retry_neither_loses_nor_buries_the_event() {
    for revoke in [false, true] {
        let (broker, history) = (Broker::new(), History::new());
        broker.append(Some("k"), "");
        broker.append(Some("k"), "");
        let mut config = config();
        config.retry.max_attempts = 2;
        let running = Running::on_partition(&broker, config.clone(), failing(&history)).await;
        until("a retry waits", || running.stats.retried.total() == 1).await;
        if revoke {
            running.revoke(p(0), 30 * SECOND).await.await.unwrap();
            let released = broker.state().released.clone();
            assert_eq!(released[1], (AckToken(1), Duration::ZERO));
            let (token, left) = released[0];
            assert_eq!(token, AckToken(0));
            assert!(
                left > SECOND * 9 / 10 && left <= SECOND,
                "what is left of its delay goes along: {left:?}"
            );
            running.assign(p(0)).await;
            until("a retry waits again", || running.stats.retried.total() == 2).await;
        }
        let stats = running.stats.clone();
        running.drain(30 * SECOND).await.unwrap();
        assert_eq!((broker.committed(&p(0)), broker.state().published.len()), (0, 0));
        assert_eq!(stats.dead_lettered.total(), 0);
        let running = Running::on_partition(&broker, config, slow(&history)).await;
        until("both are handled", || broker.committed(&p(0)) == 2).await;
        running.drain(SECOND).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn h4_a_revocation_drains_its_partition_only() {
    let (broker, history) = (Broker::new(), History::new());
    for n in 0..2 {
        broker.append_to(p(n), None, "");
    }
    let handler = FakeHandler::new(&history, |_| async {
        sleep(3 * SECOND).await;
        Ok(Default::default())
    });
    let running = Running::on_partition(&broker, config(), handler).await;
    running.assign(p(1)).await;
    until("both run", || history.began().len() == 2).await;
    let mut drained = running.revoke(p(0), 10 * SECOND).await;
    assert!(drained.try_recv().is_err(), "it drains first");
    drained.await.unwrap();
    assert_eq!(broker.committed(&p(0)), 1, "everything is settled before the guard goes");
    assert_eq!(running.held.load(Ordering::SeqCst), 1, "and the partition is dropped");
    for n in 0..2 {
        broker.append_to(p(n), None, "");
    }
    until("the other partition goes on", || broker.committed(&p(1)) == 2).await;
    assert_eq!(broker.committed(&p(0)), 1);
    assert_eq!(running.stats.snapshot().partitions.len(), 1);
    let drained = |what| {
        running.metric(&format!(r#"sandbar_drain_duration_seconds_{what}{{plugin="plug"}}"#))
    };
    assert_eq!(drained("count"), 1.0);
    assert!((2.5..3.5).contains(&drained("sum")), "{}", drained("sum"));
    running.drain(10 * SECOND).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn h4_a_revoked_partition_meets_the_deadline_and_nothing_of_it_runs_on() {
    let (broker, history) = (Broker::new(), History::new());
    broker.append(Some("k"), "");
    let stuck = FakeHandler::new(&history, |_| std::future::pending());
    let running = Running::on_partition(&broker, config(), stuck).await;
    until("it runs", || history.began().len() == 1).await;
    let began = Instant::now();
    running.revoke(p(0), 10 * SECOND).await.await.unwrap();
    assert_eq!(began.elapsed(), 9 * SECOND, "the last second is for settling");
    assert_eq!(history.aborted(), [0]);
    running.drain(SECOND).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn h4_being_fenced_in_a_drain_loses_the_partition_and_not_the_run() {
    let (broker, history) = (Broker::new(), History::new());
    broker.append(None, "");
    broker.append_to(p(1), None, "");
    let running = Running::on_partition(&broker, config(), slow(&history)).await;
    until("it runs", || history.began().len() == 1).await;
    let drained = running.revoke(p(0), 10 * SECOND).await;
    // another member has it already
    drop(broker.open(p(0), &Arc::default()));
    drained.await.unwrap();
    assert_eq!(broker.committed(&p(0)), 0);
    running.assign(p(1)).await;
    until("the run goes on", || broker.committed(&p(1)) == 1).await;
    running.drain(SECOND).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn h5_a_broker_that_is_away_does_not_hold_up_the_deadline() {
    let (broker, history) = (Broker::new(), History::new());
    broker.append(None, "");
    broker.break_settling(|_| Some(SourceError::Unavailable("away".into())));
    let running = Running::on_partition(&broker, config(), slow(&history)).await;
    until("it settles in vain", || broker.state().settle_calls > 2).await;
    let began = Instant::now();
    running.drain(20 * SECOND).await.unwrap();
    assert!((19 * SECOND..=21 * SECOND).contains(&began.elapsed()), "{:?}", began.elapsed());
    assert_eq!(broker.committed(&p(0)), 0);
}

#[tokio::test(start_paused = true)]
async fn h5_an_earlier_deadline_is_heard_while_events_are_being_released() {
    let (broker, history) = (Arc::new(Broker::slow(600 * SECOND)), History::new());
    for _ in 0..2 {
        broker.append(Some("k"), "");
    }
    let stuck = FakeHandler::new(&history, |_| std::future::pending());
    let running = Running::on_partition(&broker, config(), stuck).await;
    until("it runs", || history.began().len() == 1).await;
    let began = Instant::now();
    let drained = running.revoke(p(0), 300 * SECOND).await;
    sleep(299 * SECOND + SECOND / 2).await;
    assert_eq!(history.aborted(), [0], "all that is left to do is to release it");
    running.stop.drain(SECOND / 10);
    drained.await.unwrap();
    assert!(began.elapsed() < 299 * SECOND + 7 * SECOND / 10, "{:?}", began.elapsed());
    running.end().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn h5_dropping_the_run_aborts_its_attempts() {
    let (broker, history) = (Broker::new(), History::new());
    broker.append(None, "");
    let running = Running::on_partition(&broker, config(), slow(&history)).await;
    until("it runs", || history.began().len() == 1).await;
    let stats = running.stats.clone();
    let held = running.held.clone();
    running.kill().await;
    until("the attempt is gone", || history.aborted() == [0]).await;
    until("the partition is dropped", || held.load(Ordering::SeqCst) == 0).await;
    assert_eq!((broker.committed(&p(0)), stats.in_flight.get()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn h5_what_fails_or_defers_during_a_drain_is_not_tried_again_by_it() {
    let (broker, history) = (Broker::new(), History::new());
    for _ in 0..3 {
        broker.append(None, "");
    }
    let handler = FakeHandler::new(&history, |call| async move {
        sleep(SECOND).await;
        let verdict = match call.event.position {
            0 => Verdict::Retry { after: Some(Duration::ZERO) },
            1 => Verdict::Defer { pause: Duration::ZERO },
            // keeps the drain going
            _ => {
                sleep(20 * SECOND).await;
                return Ok(Default::default());
            }
        };
        Err(HandlerError::new(ErrorClass::Handler, verdict, "not now"))
    });
    let running = Running::on_partition(&broker, config(), handler).await;
    until("attempts run", || history.began().len() == 3).await;
    running.drain(60 * SECOND).await.unwrap();
    assert_eq!(history.began(), [(0, 1), (1, 1), (2, 1)]);
    assert_eq!(broker.state().released.len(), 2);
}
