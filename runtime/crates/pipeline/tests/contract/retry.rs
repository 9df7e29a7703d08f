//! Contract R1 to R4, R6 and R8: when an event is tried again and when no more.

use std::{sync::Arc, time::Duration};

use sandbar_core::{ErrorClass, HandlerError, Verdict};
use sandbar_pipeline::{
    Breaker, BreakerState, DeadLetter, OnExhausted, RetryPolicy, State, SubscriptionConfig,
};
use tokio::time::sleep;

use crate::support::{Broker, FakeHandler, History, Running, config, handler::text, p, until};

const SECOND: Duration = Duration::from_secs(1);

fn failing(history: &Arc<History>, verdict: Verdict) -> Arc<FakeHandler> {
    FakeHandler::new(history, move |_| async move {
        Err(HandlerError::new(ErrorClass::Handler, verdict, "broken"))
    })
}

fn breaker_is(state: &str) -> String {
    format!(r#"sandbar_breaker_state{{plugin="plug",state="{state}"}}"#)
}

const RETRY: Verdict = Verdict::Retry { after: None };

#[tokio::test(start_paused = true)]
async fn r1_a_retry_begins_when_it_is_due_and_not_before() {
    let (broker, history) = (Broker::new(), History::new());
    broker.append(None, "");
    let running = Running::on_partition(&broker, config(), failing(&history, RETRY)).await;
    until("it is given up", || broker.committed(&p(0)) == 1).await;
    let at = |attempt| history.began_at(0, attempt).unwrap();
    assert_eq!((at(2) - at(1), at(3) - at(2)), (SECOND, 2 * SECOND));
    running.drain(SECOND).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn r1_a_handler_may_ask_for_a_delay_up_to_the_longest() {
    let (broker, history) = (Broker::new(), History::new());
    broker.append(None, "");
    let handler = FakeHandler::new(&history, |call| async move {
        let after = Some(Duration::from_secs(if call.attempt == 1 { 7 } else { 90_000 }));
        Err(HandlerError::new(ErrorClass::Handler, Verdict::Retry { after }, "wait"))
    });
    let running = Running::on_partition(&broker, config(), handler).await;
    until("it is given up", || broker.committed(&p(0)) == 1).await;
    let at = |attempt| history.began_at(0, attempt).unwrap();
    assert_eq!((at(2) - at(1), at(3) - at(2)), (7 * SECOND, 600 * SECOND));
    running.drain(SECOND).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn r2_attempts_and_age_are_both_limited() {
    for (max_attempts, max_age, attempts) in [(3, 3600, 3), (100, 10, 4)] {
        let (broker, history) = (Broker::new(), History::new());
        // the one behind it must not be charged for the time it waited
        broker.append(Some("k"), "");
        broker.append(Some("k"), "");
        let retry =
            RetryPolicy { max_attempts, max_age: Duration::from_secs(max_age), ..config().retry };
        let running = Running::on_partition(
            &broker,
            SubscriptionConfig { retry, ..config() },
            failing(&history, RETRY),
        )
        .await;
        until("both are given up", || broker.committed(&p(0)) == 2).await;
        let made = |position| history.began().iter().filter(|(at, _)| *at == position).count();
        assert_eq!(
            (made(0), made(1)),
            (attempts, attempts),
            "at most {max_attempts} in {max_age} s"
        );
        assert_eq!(broker.published("plug.dlq").len(), 2);
        running.drain(SECOND).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn r3_reject_means_exactly_one_attempt() {
    let (broker, history) = (Broker::new(), History::new());
    broker.append(None, "");
    let running =
        Running::on_partition(&broker, config(), failing(&history, Verdict::Reject)).await;
    until("it is given up", || broker.committed(&p(0)) == 1).await;
    assert_eq!(history.began(), [(0, 1)]);
    assert_eq!(broker.published("plug.dlq").len(), 1);
    running.drain(SECOND).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn r4_kinds_of_failure_are_told_apart_in_counters_and_dead_letters() {
    let (broker, history) = (Broker::new(), History::new());
    for class in ErrorClass::ALL {
        broker.append(None, class.as_str());
    }
    let handler = FakeHandler::new(&history, |call| async move {
        let class = ErrorClass::ALL.into_iter().find(|c| c.as_str() == text(&call)).unwrap();
        Err(HandlerError::new(class, RETRY, format!("{class} happened")))
    });
    let running = Running::on_partition(&broker, config(), handler).await;
    until("all are given up", || broker.committed(&p(0)) == ErrorClass::ALL.len() as u64).await;
    for class in ErrorClass::ALL {
        assert_eq!(running.stats.retried.of(class).get(), 2, "{class}");
        assert_eq!(running.stats.dead_lettered.of(class).get(), 1, "{class}");
    }
    for letter in broker.published("plug.dlq") {
        let class = String::from_utf8(letter.payload.clone().unwrap().to_vec()).unwrap();
        let said = DeadLetter::parse(&crate::support::broker::stored(letter)).unwrap();
        assert_eq!((said.error_class, said.message), (class.clone(), format!("{class} happened")));
    }
    running.drain(SECOND).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn r6_halt_stops_the_partition_visibly_with_the_event_uncommitted() {
    for dead_letter_topic_missing in [false, true] {
        let (broker, history) = (Broker::new(), History::new());
        for n in 0..5 {
            broker.append(None, &n.to_string());
        }
        broker.append_to(p(1), None, "elsewhere");
        let handler = FakeHandler::new(&history, |call| async move {
            match text(&call).as_str() {
                "1" => Err(HandlerError::new(ErrorClass::Handler, Verdict::Reject, "poison")),
                _ => Ok(Default::default()),
            }
        });
        let mut config = SubscriptionConfig { concurrency: 1, ..config() };
        if dead_letter_topic_missing {
            config.dead_letter = None
        } else {
            config.exhausted = OnExhausted::Halt
        }
        let running = Running::on_partition(&broker, config, handler).await;
        until("it halts", || running.stats.state().0 == State::Halted).await;
        assert_eq!(
            running.stats.state().1.as_deref(),
            Some("orders/0: event orders/0/1, attempt 1: handler: poison")
        );
        running.assign(p(1)).await;
        until("other partitions go on", || broker.committed(&p(1)) == 1).await;
        broker.append(None, "later");
        sleep(600 * SECOND).await;
        assert_eq!((broker.committed(&p(0)), running.stats.received.get()), (1, 6));
        assert_eq!(broker.published("plug.dlq").len(), 0);
        running.drain(SECOND).await.unwrap();
        assert_eq!(broker.committed(&p(0)), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn r6_drop_acknowledges_and_counts() {
    let (broker, history) = (Broker::new(), History::new());
    broker.append(None, "");
    let config = SubscriptionConfig { exhausted: OnExhausted::Drop, ..config() };
    let running = Running::on_partition(&broker, config, failing(&history, RETRY)).await;
    until("it is given up", || broker.committed(&p(0)) == 1).await;
    assert_eq!(running.stats.dropped.of(ErrorClass::Handler).get(), 1);
    assert_eq!(running.stats.dead_lettered.total(), 0);
    assert_eq!(history.began().len(), 3);
    running.drain(SECOND).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn r8_defer_pauses_the_subscription_and_uses_no_attempt() {
    let (broker, history) = (Broker::new(), History::new());
    broker.append(Some("a"), "defer");
    let deferrals = Arc::new(std::sync::atomic::AtomicU32::new(5));
    let handler = FakeHandler::new(&history, move |call| {
        let deferrals = deferrals.clone();
        async move {
            let left = |n: u32| n.checked_sub(1);
            let order = std::sync::atomic::Ordering::SeqCst;
            if text(&call) == "defer" && deferrals.fetch_update(order, order, left).is_ok() {
                let pause = Verdict::Defer { pause: 60 * SECOND };
                return Err(HandlerError::new(ErrorClass::Handler, pause, "down"));
            }
            Ok(Default::default())
        }
    });
    let running = Running::on_partition(&broker, config(), handler).await;
    until("it pauses", || running.stats.state().0 == State::Paused).await;
    for n in 0..20 {
        broker.append(Some(&n.to_string()), "");
    }
    broker.append_to(p(1), None, "");
    running.assign(p(1)).await;
    sleep(30 * SECOND).await;
    assert_eq!(history.began().len(), 1, "the whole subscription pauses");
    let breaker = |state| running.metric(&breaker_is(state));
    assert_eq!((breaker("open"), breaker("closed"), breaker("half-open")), (1.0, 0.0, 0.0));
    until("everything is committed", || {
        broker.committed(&p(0)) == 21 && broker.committed(&p(1)) == 1
    })
    .await;
    let began = history.began();
    assert!(
        began[..6].iter().all(|b| *b == (0, 1)),
        "six times the first attempt, alone: {began:?}"
    );
    let at: Vec<_> = history.entries().iter().filter(|e| e.position == 0).map(|e| e.at).collect();
    assert!(at[10] - at[0] >= 300 * SECOND, "five pauses of a minute");
    assert_eq!(running.stats.retried.total(), 0);
    assert_eq!(running.metric(r#"sandbar_events_deferred_total{plugin="plug"}"#), 5.0);
    assert_eq!((breaker("open"), breaker("closed")), (0.0, 1.0));
    assert_eq!(running.stats.state().0, State::Running);
    running.drain(SECOND).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn r8_an_outage_opens_the_breaker_and_costs_one_attempt_per_probe() {
    let (broker, history) = (Broker::new(), History::new());
    for n in 0..50 {
        broker.append(Some(&n.to_string()), "");
    }
    let up_at = tokio::time::Instant::now() + 100 * SECOND;
    let handler = FakeHandler::new(&history, move |_| async move {
        sleep(2 * SECOND).await;
        if tokio::time::Instant::now() < up_at {
            return Err(HandlerError::new(ErrorClass::Handler, RETRY, "down"));
        }
        Ok(Default::default())
    });
    let breaker = Breaker { failures: 10, pause: 2 * SECOND, max_pause: 30 * SECOND };
    let retry = RetryPolicy { max_attempts: 20, ..config().retry };
    let config = SubscriptionConfig { breaker, retry, concurrency: 1, ..config() };
    let running = Running::on_partition(&broker, config, handler).await;
    until("a probe is on its way", || running.metric(&breaker_is("half-open")) == 1.0).await;
    assert_eq!(running.stats.snapshot().breaker, BreakerState::HalfOpen);
    until("everything is committed", || broker.committed(&p(0)) == 50).await;
    let failed = running.stats.retried.total();
    assert!(
        (14..=18).contains(&failed),
        "ten failures and a few probes, not fifty retry storms: {failed}"
    );
    assert_eq!(running.stats.dead_lettered.total(), 0);
    running.drain(SECOND).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn r8_time_spent_deferred_does_not_age_an_event() {
    let (broker, history) = (Broker::new(), History::new());
    broker.append(None, "");
    let began = tokio::time::Instant::now();
    let handler = FakeHandler::new(&history, move |call| async move {
        let verdict = match call.attempt {
            1 if began.elapsed() < 200 * SECOND => Verdict::Defer { pause: 60 * SECOND },
            1 => RETRY,
            _ => return Ok(Default::default()),
        };
        Err(HandlerError::new(ErrorClass::Handler, verdict, "down"))
    });
    let retry = RetryPolicy { max_age: 100 * SECOND, ..config().retry };
    let running =
        Running::on_partition(&broker, SubscriptionConfig { retry, ..config() }, handler).await;
    until("it is over", || broker.committed(&p(0)) == 1).await;
    assert_eq!((running.stats.handled.get(), running.stats.dead_lettered.total()), (1, 0));
    running.drain(SECOND).await.unwrap();
}
