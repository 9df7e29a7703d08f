//! What handlers publish: allowed or not, durable before the acknowledgement, or in
//! one step with it.

use std::{sync::Arc, time::Duration};

use sandbar_core::{ErrorClass, HandlerError, Outgoing, PublishError, SourceError, Verdict};
use sandbar_pipeline::{DeadLetter, State};
use tokio::time::sleep;

use crate::support::{
    Broker, FakeHandler, History, Running, broker::stored, config, handler::echo, p, until,
};

const SECOND: Duration = Duration::from_secs(1);

fn echoing(history: &Arc<History>) -> Arc<FakeHandler> {
    FakeHandler::new(history, |call| async move { echo(&call) })
}

#[tokio::test(start_paused = true)]
async fn an_output_is_durable_before_its_event_is_acknowledged() {
    let history = History::new();
    let broker = Arc::new(Broker::slow(SECOND));
    for n in 0..20 {
        broker.append(None, &n.to_string());
    }
    let running = Running::on_partition(&broker, config(), echoing(&history)).await;
    until("everything is committed", || broker.committed(&p(0)) == 20).await;
    for (_, position, durable) in &broker.state().commits {
        assert!(position.0 as usize <= *durable, "{position:?} with {durable} outputs");
    }
    assert_eq!((running.stats.published.get(), running.stats.handled.get()), (20, 20));
    running.drain(SECOND).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn d1_while_the_output_is_away_events_are_held_back_and_not_handled_again() {
    let (broker, history) = (Broker::new(), History::new());
    broker.append(Some("a"), "1");
    broker.append(Some("a"), "2");
    broker.break_publishing(|_| Some(PublishError::Unavailable("no leader".into())));
    let running = Running::on_partition(&broker, config(), echoing(&history)).await;
    until("it is held back", || running.stats.held_back.get() == 1).await;
    sleep(600 * SECOND).await;
    assert_eq!((broker.committed(&p(0)), history.began()), (0, vec![(0, 1)]));
    let (state, reason) = running.stats.state();
    assert_eq!(state, State::Unavailable);
    assert_eq!(
        reason.unwrap(),
        "connection `fake` does not take events for topic `out`: no leader"
    );
    assert!(broker.state().publish_calls < 150, "it is paced");
    broker.mend();
    until("everything is committed", || broker.committed(&p(0)) == 2).await;
    assert_eq!(broker.payloads("out"), ["1", "2"]);
    assert_eq!(running.stats.state().0, State::Running);
    running.drain(SECOND).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn outputs_of_one_event_keep_their_order_when_one_has_to_be_published_again() {
    let (broker, history) = (Broker::new(), History::new());
    broker.append(None, "");
    let handler = FakeHandler::new(&history, |_| async {
        Ok(["1", "2", "3"].map(|n| Outgoing::new("out", n).with_key("k")).to_vec().into())
    });
    let mut first = true;
    broker.break_publishing(move |o| {
        let fails = o.payload.as_deref() == Some(b"2") && std::mem::take(&mut first);
        fails.then(|| PublishError::Unavailable("once".into()))
    });
    let running = Running::on_partition(&broker, config(), handler).await;
    until("it is committed", || broker.committed(&p(0)) == 1).await;
    assert_eq!(
        broker.payloads("out"),
        ["1", "3", "2", "3"],
        "the last one to arrive is the last one sent"
    );
    running.drain(SECOND).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_output_that_was_not_granted_is_denied_and_nothing_of_the_event_is_published() {
    let (broker, history) = (Broker::new(), History::new());
    broker.append(None, "topic");
    broker.append(None, "connection");
    let handler = FakeHandler::new(&history, |call| async move {
        let mut denied = Outgoing::new("secret", "x");
        if call.event.position == 1 {
            (denied.topic, denied.connection) = ("out".into(), Some("elsewhere".into()));
        }
        Ok(vec![Outgoing::new("out.fine", "x"), denied].into())
    });
    let running = Running::on_partition(&broker, config(), handler).await;
    until("both are buried", || broker.committed(&p(0)) == 2).await;
    assert_eq!(running.stats.dead_lettered.of(ErrorClass::Denied).get(), 2);
    assert!(broker.published("out.fine").is_empty() && broker.published("secret").is_empty());
    let letters = broker.published("plug.dlq").into_iter();
    let said: Vec<_> = letters.map(|l| DeadLetter::parse(&stored(l)).unwrap().message).collect();
    assert_eq!(
        said[0],
        "publishing to topic `secret` is not allowed: add it to `publish` of plugin `plug`"
    );
    assert_eq!(said[1], "publishing to connection `elsewhere` is not granted");
    running.drain(SECOND).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_output_that_the_broker_refuses_buries_its_event_alone() {
    for broker in [Broker::new(), Broker::atomic()] {
        let history = History::new();
        for n in 0..9 {
            broker.append(Some(&n.to_string()), if n == 4 { "large" } else { "fine" });
        }
        let large = |o: &Outgoing| &*o.topic == "out" && o.payload.as_deref() == Some(b"large");
        broker.break_publishing(move |o| {
            large(o).then(|| PublishError::Rejected("too large".into()))
        });
        broker.break_settling(move |settlements| {
            let guilty = settlements.iter().find(|s| match &s.disposition {
                sandbar_core::Disposition::Done { effects, .. } => effects.iter().any(large),
                sandbar_core::Disposition::Release { .. } => false,
            })?;
            Some(SourceError::Rejected { token: guilty.token, reason: "too large".into() })
        });
        let handler = FakeHandler::build(&history, |call| async move { echo(&call) }).with_batch(4);
        let running = Running::on_partition(&broker, config(), Arc::new(handler)).await;
        until("everything is committed", || broker.committed(&p(0)) == 9).await;
        assert_eq!(broker.payloads("out"), ["fine"; 8]);
        assert_eq!(broker.payloads("plug.dlq"), ["large"]);
        assert_eq!(running.stats.dead_lettered.of(ErrorClass::Output).get(), 1);
        assert_eq!((running.stats.handled.get(), running.stats.published.get()), (8, 8));
        running.drain(SECOND).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn on_an_atomic_source_outputs_and_dead_letters_are_written_with_the_acknowledgement() {
    let (broker, history) = (Broker::atomic(), History::new());
    for payload in ["1", "poison", "2"] {
        broker.append(None, payload);
    }
    let handler = FakeHandler::new(&history, |call| async move {
        match crate::support::handler::text(&call).as_str() {
            "poison" => Err(HandlerError::new(ErrorClass::Trap, Verdict::Reject, "unreachable")),
            _ => echo(&call),
        }
    });
    // nothing is written as long as nothing can be acknowledged
    broker.break_settling(|_| Some(SourceError::Unavailable("fsync".into())));
    let running = Running::on_partition(&broker, config(), handler).await;
    until("it tries", || broker.state().settle_calls > 3).await;
    assert!(broker.state().published.is_empty());
    broker.mend();
    until("everything is committed", || broker.committed(&p(0)) == 3).await;
    assert_eq!((broker.payloads("out").len(), broker.payloads("plug.dlq").len()), (2, 1));
    assert_eq!(broker.state().publish_calls, 0);
    assert_eq!((running.stats.published.get(), running.stats.dead_lettered.total()), (2, 1));
    running.drain(SECOND).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_a_handler_or_a_sink_loses_no_event() {
    let (broker, history) = (Broker::new(), History::new());
    for n in 0..8 {
        broker.append(None, &n.to_string());
    }
    let handler = FakeHandler::build(&history, |call| async move {
        assert!(call.attempt > 1 || call.event.position != 3, "boom");
        echo(&call)
    });
    let mut once = true;
    broker.break_publishing(move |_| {
        assert!(!std::mem::take(&mut once), "sink boom");
        None
    });
    let running = Running::on_partition(&broker, config(), Arc::new(handler.with_batch(4))).await;
    until("everything is committed", || broker.committed(&p(0)) == 8).await;
    let mut published = broker.payloads("out");
    published.sort();
    published.dedup();
    assert_eq!(published.len(), 8);
    assert!(running.stats.retried.of(ErrorClass::Host).get() >= 1);
    running.drain(SECOND).await.unwrap();
}
