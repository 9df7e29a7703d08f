//! Contract C1, C2, C4: how far the position moves and how much is taken in.

use std::{sync::Arc, time::Duration};

use sandbar_core::{ErrorClass, HandlerError, SourceError, Verdict};
use sandbar_pipeline::{RunEnd, State, SubscriptionConfig};
use tokio::time::sleep;

use crate::support::{Broker, FakeHandler, History, Running, config, handler::text, p, until};

const SECOND: Duration = Duration::from_secs(1);

fn retry(after: Option<Duration>) -> HandlerError {
    HandlerError::new(ErrorClass::Handler, Verdict::Retry { after }, "not now")
}

#[tokio::test(start_paused = true)]
async fn c1_the_position_waits_for_the_lowest_event_that_is_not_terminal() {
    let (broker, history) = (Broker::new(), History::new());
    for n in 0..6 {
        broker.append(Some(&n.to_string()), "");
    }
    let handler = FakeHandler::new(&history, |call| async move {
        match call.event.position {
            2 if call.attempt == 1 => Err(retry(None)),
            4 => {
                sleep(5 * SECOND).await;
                Ok(Default::default())
            }
            _ => Ok(Default::default()),
        }
    });
    let running = Running::on_partition(&broker, config(), handler).await;
    until("everything is committed", || broker.committed(&p(0)) == 6).await;
    let commits: Vec<_> = broker.state().commits.iter().map(|(_, r, _)| r.0).collect();
    assert_eq!(commits, [2, 4, 6], "at the failed event, then at the slow one, then at the end");
    assert_eq!(running.stats.handled.get(), 6);
    running.drain(SECOND).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn c2_gaps_do_not_stall_the_position_and_it_never_goes_back() {
    let (broker, history) = (Broker::new(), History::new());
    for position in [3, 4, 9, 40] {
        broker.append_event(p(0), |e| e.position = position);
    }
    let handler = FakeHandler::new(&history, |call| async move {
        sleep(SECOND * (50 - call.event.position as u32)).await;
        Ok(Default::default())
    });
    let running = Running::on_partition(&broker, config(), handler).await;
    until("everything is committed", || broker.committed(&p(0)) == 41).await;
    let commits: Vec<_> = broker.state().commits.iter().map(|(_, r, _)| r.0).collect();
    assert!(commits.is_sorted(), "{commits:?}");
    running.drain(SECOND).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn c4_the_window_is_bounded_while_a_long_backoff_holds_it() {
    let (broker, history) = (Broker::new(), History::new());
    for n in 0..100 {
        broker.append(Some(&(n % 10).to_string()), "");
    }
    // every key is stuck for ten minutes at its first event
    let ten_minutes = Duration::from_secs(600);
    let handler = FakeHandler::new(&history, move |call| async move {
        if call.event.position < 10 && call.attempt == 1 {
            Err(retry(Some(ten_minutes)))
        } else {
            Ok(Default::default())
        }
    });
    let running = Running::on_partition(
        &broker,
        SubscriptionConfig { max_in_flight: 16, ..config() },
        handler,
    )
    .await;
    until("all keys wait", || running.stats.retried.total() == 10).await;
    sleep(ten_minutes / 2).await;
    assert_eq!(running.stats.received.get(), 16, "no more than the window is taken in");
    assert_eq!(running.stats.in_flight.get(), 16);
    assert_eq!(broker.state().recv_calls, 1, "back-pressure is not asking");
    assert_eq!(running.stats.state(), (State::Running, None));
    assert!((299..=301).contains(&running.stats.oldest_unfinished_seconds.get()));
    until("everything is committed", || broker.committed(&p(0)) == 100).await;
    assert_eq!(running.stats.in_flight.get(), 0);
    running.drain(SECOND).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn c1_a_settlement_that_the_broker_cannot_take_is_made_again() {
    let (broker, history) = (Broker::new(), History::new());
    for _ in 0..5 {
        broker.append(None, "");
    }
    let mut failures = 3;
    broker.break_settling(move |_| {
        failures -= 1;
        (failures >= 0).then(|| SourceError::Unavailable("leader election".into()))
    });
    let handler = FakeHandler::new(&history, |_| async { Ok(Default::default()) });
    let running = Running::on_partition(&broker, config(), handler).await;
    until("the trouble is visible", || running.stats.state().0 == State::Unavailable).await;
    assert_eq!(running.stats.state().1.as_deref(), Some("orders/0: leader election"));
    assert_eq!(running.stats.handled.get(), 0, "handled means acknowledged");
    until("everything is committed", || broker.committed(&p(0)) == 5).await;
    until("the trouble is over", || running.stats.state().0 == State::Running).await;
    assert_eq!(history.began().len(), 5, "nothing is handled twice for it");
    running.drain(SECOND).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn c1_attempts_go_on_while_a_settlement_is_written() {
    let history = History::new();
    let broker = Arc::new(Broker::slow(SECOND));
    for _ in 0..1000 {
        broker.append(None, "");
    }
    let handler = FakeHandler::new(&history, |_| async { Ok(Default::default()) });
    let running = Running::on_partition(&broker, config(), handler).await;
    until("everything is committed", || broker.committed(&p(0)) == 1000).await;
    assert!(broker.state().settle_calls <= 3, "what finishes meanwhile makes up the next group");
    running.drain(SECOND).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_is_away_is_waited_for_without_spinning() {
    let (broker, history) = (Broker::new(), History::new());
    broker.append(None, "");
    broker.break_receiving(|| Some(SourceError::Unavailable("connection refused".into())));
    let handler = FakeHandler::new(&history, |_| async { Ok(Default::default()) });
    let running = Running::on_partition(&broker, config(), handler).await;
    running.say(Err(SourceError::Unavailable("no broker".into()))).await;
    until("the trouble is visible", || running.stats.state().0 == State::Unavailable).await;
    sleep(Duration::from_secs(600)).await;
    let calls = broker.state().recv_calls;
    assert!((100..=130).contains(&calls), "{calls} calls in ten minutes: one each five seconds");
    broker.mend();
    until("the event is committed", || broker.committed(&p(0)) == 1).await;
    assert_eq!(running.stats.state().0, State::Running);
    running.drain(SECOND).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_fatal_error_ends_the_run_with_its_cause_and_commits_what_is_done() {
    let (broker, history) = (Broker::new(), History::new());
    for _ in 0..3 {
        broker.append(None, "");
    }
    let handler = FakeHandler::new(&history, |_| async {
        sleep(SECOND).await;
        Ok(Default::default())
    });
    let running = Running::on_partition(&broker, config(), handler).await;
    until("attempts run", || history.began().len() == 3).await;
    let stats = running.stats.clone();
    running.say(Err(SourceError::Fatal("not authorised".into()))).await;
    assert_eq!(running.end().await.unwrap_err().to_string(), "not authorised");
    assert_eq!(stats.state(), (State::Failed, Some("not authorised".into())));
    assert_eq!(broker.committed(&p(0)), 3, "what ran was finished and committed");
    assert_eq!(broker.state().closed, 1);
}

#[tokio::test(start_paused = true)]
async fn a_bounded_source_ends_when_everything_is_done_retries_included() {
    let (broker, history) = (Broker::new(), History::new());
    for n in 0..4 {
        broker.append(Some("k"), &n.to_string());
    }
    let handler = FakeHandler::new(&history, |call| async move {
        if call.attempt == 1 && text(&call) == "1" {
            Err(retry(None))
        } else {
            Ok(Default::default())
        }
    });
    let running = Running::on_partition(&broker, config(), handler).await;
    until("a retry waits", || running.stats.retried.total() == 1).await;
    running.say(Ok(sandbar_core::SourceEvent::Finished)).await;
    let stats = running.stats.clone();
    assert_eq!(running.end().await.unwrap(), RunEnd::Finished);
    assert_eq!((broker.committed(&p(0)), stats.handled.get(), stats.released.get()), (4, 4, 0));
}
