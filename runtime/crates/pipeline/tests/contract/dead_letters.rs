//! Contract D1, D2, D6: what is given up is buried, byte for byte, or held.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use sandbar_core::{ErrorClass, HandlerError, Header, PublishError, SourceError, Verdict};
use sandbar_pipeline::{DeadLetter, State};
use tokio::time::sleep;

use crate::support::{
    Broker, FakeHandler, History, Running,
    broker::stored,
    config,
    handler::{echo, text},
    p, until,
};

const SECOND: Duration = Duration::from_secs(1);

fn reject() -> HandlerError {
    HandlerError {
        code: "bad".into(),
        ..HandlerError::new(ErrorClass::Handler, Verdict::Reject, "malformed")
    }
}

fn picky(history: &Arc<History>) -> Arc<FakeHandler> {
    FakeHandler::new(history, |call| async move {
        if text(&call) == "poison" { Err(reject()) } else { echo(&call) }
    })
}

#[tokio::test(start_paused = true)]
async fn d1_while_the_dead_letter_topic_takes_nothing_the_position_stays_and_other_keys_go_on() {
    // away, or refusing: both are held back
    for refuse in [false, true] {
        for broker in [Broker::new(), Broker::atomic()] {
            let history = History::new();
            for (key, payload) in [("a", ""), ("a", "poison"), ("a", ""), ("b", "")] {
                broker.append(Some(key), payload);
            }
            let fault = move |o: &str| (o == "plug.dlq").then(|| "disk full".to_owned());
            broker.break_publishing(move |o| {
                fault(&o.topic).map(if refuse {
                    PublishError::Rejected
                } else {
                    PublishError::Unavailable
                })
            });
            broker.break_settling(move |settlements| {
                let letter = |s: &&sandbar_core::Settlement| match &s.disposition {
                    sandbar_core::Disposition::Done { effects, .. } => {
                        effects.iter().any(|o| fault(&o.topic).is_some())
                    }
                    sandbar_core::Disposition::Release { .. } => false,
                };
                let at_fault = settlements.iter().find(letter)?;
                Some(SourceError::Rejected { token: at_fault.token, reason: "disk full".into() })
            });
            let running = Running::on_partition(&broker, config(), picky(&history)).await;
            until("the trouble is visible", || running.stats.state().0 == State::Unavailable).await;
            assert!(running.stats.state().1.unwrap().contains("disk full"));
            sleep(600 * SECOND).await;
            assert_eq!(broker.committed(&p(0)), 1);
            assert!(history.began().contains(&(3, 1)), "another key went on");
            assert_eq!(
                history.began().iter().filter(|b| b.0 == 1).count(),
                1,
                "it is not tried again for this"
            );
            broker.mend();
            until("everything is committed", || broker.committed(&p(0)) == 4).await;
            assert_eq!(broker.payloads("plug.dlq"), ["poison"]);
            assert_eq!(running.stats.dead_lettered.total(), 1);
            until("the trouble is over", || running.stats.state().0 == State::Running).await;
            assert_eq!(running.stats.held_back.get(), 0);
            running.drain(SECOND).await.unwrap();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn d1_a_drain_while_the_dead_letter_topic_is_away_leaves_the_event_uncommitted() {
    let (broker, history) = (Broker::new(), History::new());
    broker.append(None, "poison");
    broker.break_publishing(|_| Some(PublishError::Unavailable("away".into())));
    let running = Running::on_partition(&broker, config(), picky(&history)).await;
    until("it is held back", || running.stats.held_back.get() == 1).await;
    running.drain(10 * SECOND).await.unwrap();
    assert_eq!(broker.committed(&p(0)), 0);
    broker.mend();
    let again = Running::on_partition(&broker, config(), picky(&history)).await;
    until("it is buried by the next run", || broker.committed(&p(0)) == 1).await;
    assert_eq!(broker.payloads("plug.dlq"), ["poison"]);
    again.drain(SECOND).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn d2_key_payload_and_headers_are_kept_byte_for_byte() {
    let (broker, history) = (Broker::new(), History::new());
    let headers = vec![
        Header::new("h", vec![0xff, 0x00]),
        Header { name: "null".into(), value: None },
        Header::new("h", ""),
        Header::new("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
    ];
    for (key, payload) in [
        (Some(Bytes::from_static(&[0xc3, 0x28])), Some(Bytes::from_static(&[0, 1, 0xfe]))),
        (None, None),
        (Some(Bytes::new()), Some(Bytes::new())),
    ] {
        broker.append_event(p(0), |e| {
            (e.key, e.payload, e.headers) = (key, payload, headers.clone().into());
        });
    }
    let handler = FakeHandler::new(&history, |_| async { Err(reject()) });
    let running = Running::on_partition(&broker, config(), handler).await;
    until("all are buried", || broker.committed(&p(0)) == 3).await;
    for event in broker.events() {
        let letters = broker.published("plug.dlq");
        let of_event = |l: &&sandbar_core::Outgoing| {
            DeadLetter::parse(&stored((*l).clone())).unwrap().offset == event.position
        };
        let letter = letters.iter().find(of_event).unwrap();
        assert_eq!((&letter.key, &letter.payload), (&event.key, &event.payload));
        assert_eq!(letter.headers[..4], event.headers[..]);
    }
    running.drain(SECOND).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn d2_an_error_text_of_a_megabyte_still_publishes() {
    let (broker, history) = (Broker::new(), History::new());
    broker.append(None, "x");
    broker.break_publishing(|o| {
        (o.size() > 9000).then(|| PublishError::Rejected("too large".into()))
    });
    let handler = FakeHandler::new(&history, |_| async {
        let long = "é".repeat(500_000);
        Err(HandlerError {
            backtrace: Some(long.clone()),
            code: long.clone(),
            message: long,
            ..reject()
        })
    });
    let running = Running::on_partition(&broker, config(), handler).await;
    until("it is buried", || broker.committed(&p(0)) == 1).await;
    running.drain(SECOND).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn d6_what_cannot_be_decoded_is_buried_raw_and_stops_nothing() {
    let (broker, history) = (Broker::new(), History::new());
    let good = r#"{"specversion":"1.0","id":"7","source":"/s","type":"t","data":{"a":1}}"#;
    for payload in [r#"{"specversion":"1.0","id":"7"}"#, "no json", good] {
        broker.append_event(p(0), |e| {
            e.key = Some("k".into());
            e.payload = Some(payload.into());
            e.headers = vec![Header::new("content-type", "application/cloudevents+json")].into();
        });
    }
    let handler = FakeHandler::new(&history, |call| async move {
        assert_eq!((call.event.id().as_str(), text(&call).as_str()), ("/s#7", r#"{"a":1}"#));
        // twice, so that a decoded event is seen to survive its retry
        if call.attempt == 1 {
            return Err(HandlerError::new(
                ErrorClass::Handler,
                Verdict::Retry { after: None },
                "again",
            ));
        }
        Err(reject())
    });
    let running = Running::on_partition(&broker, config(), handler).await;
    until("all are buried", || broker.committed(&p(0)) == 3).await;
    let letters = broker.published("plug.dlq");
    let payloads: Vec<_> = broker.events().iter().map(|e| e.payload.clone()).collect();
    let buried: Vec<_> = letters.iter().map(|l| l.payload.clone()).collect();
    assert_eq!(buried, payloads, "as delivered, also where a decoded one failed later");
    let said: Vec<_> =
        letters.into_iter().map(|l| DeadLetter::parse(&stored(l)).unwrap()).collect();
    assert_eq!((said[0].error_class.as_str(), said[0].attempts), ("decode", 1));
    assert_eq!(said[0].message, "CloudEvent lacks the required attribute `source`");
    assert_eq!(
        (said[2].error_class.as_str(), said[2].event_id.as_str()),
        ("handler", "orders/0/2")
    );
    assert_eq!(history.began(), [(2, 1), (2, 2)], "the handler sees only what could be decoded");
    running.drain(SECOND).await.unwrap();
}
