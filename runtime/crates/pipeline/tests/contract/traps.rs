//! Traps seen in the field, one negative test each.

use std::{sync::atomic::Ordering, time::Duration};

use sandbar_core::{ErrorClass, HandlerError, Verdict};
use tokio::time::sleep;

use crate::support::{Broker, FakeHandler, History, Running, config, handler::echo, p, until};

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn trap_a_failed_event_is_not_lost_by_committing_later_ones() {
    let (broker, history) = (Broker::new(), History::new());
    for n in 0..10 {
        broker.append(Some(&n.to_string()), &n.to_string());
    }
    let handler = FakeHandler::new(&history, |call| async move {
        if call.event.position == 3 {
            return Err(HandlerError::new(
                ErrorClass::Handler,
                Verdict::Retry { after: None },
                "not now",
            ));
        }
        echo(&call)
    });
    let mut config = config();
    config.retry.max_attempts = 1000;
    config.retry.max_age = Duration::from_secs(1_000_000);
    let running = Running::on_partition(&broker, config.clone(), handler).await;
    until("all others are done", || broker.payloads("out").len() == 9).await;
    sleep(60 * SECOND).await;
    assert_eq!(broker.committed(&p(0)), 3);
    running.drain(SECOND).await.unwrap();
    assert_eq!(broker.committed(&p(0)), 3, "nor by the last commit");
    let handler = FakeHandler::new(&history, |call| async move { echo(&call) });
    let running = Running::on_partition(&broker, config, handler).await;
    until("everything is committed", || broker.committed(&p(0)) == 10).await;
    assert!(broker.payloads("out").contains(&"3".to_owned()));
    running.drain(SECOND).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn trap_an_event_is_not_dead_lettered_because_a_shutdown_cancelled_its_retry() {
    let (broker, history) = (Broker::new(), History::new());
    broker.append(None, "");
    let mut config = config();
    config.retry.max_attempts = 3;
    // its third attempt, which would be the last, is cancelled in mid-call
    let handler = FakeHandler::new(&history, |call| async move {
        if call.attempt == 3 {
            std::future::pending::<()>().await;
        }
        Err(HandlerError::new(ErrorClass::Handler, Verdict::Retry { after: None }, "not now"))
    });
    let running = Running::on_partition(&broker, config, handler).await;
    until("the last attempt runs", || history.began().last() == Some(&(0, 3))).await;
    running.drain(SECOND).await.unwrap();
    assert_eq!((broker.committed(&p(0)), broker.state().published.len()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn trap_a_dropped_delivery_is_not_an_acknowledged_one() {
    let (broker, history) = (Broker::new(), History::new());
    for n in 0..100 {
        broker.append(Some(&(n % 3).to_string()), "");
    }
    let handler = FakeHandler::new(&history, |_| std::future::pending());
    let running = Running::on_partition(&broker, config(), handler).await;
    until("events are everywhere: running and on lanes", || history.began().len() == 3).await;
    // no drain, no farewell: everything is dropped where it is
    let held = running.held.clone();
    running.kill().await;
    until("the partition is dropped", || held.load(Ordering::SeqCst) == 0).await;
    assert_eq!(broker.committed(&p(0)), 0);
    assert_eq!(broker.state().settle_calls, 0);
}
