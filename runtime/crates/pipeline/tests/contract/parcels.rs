//! Contract D3, D5, D6 and R1: what comes to a subscription through its inbox.

use std::time::Duration;

use sandbar_core::{ErrorClass, Event, HandlerError, Header, Outgoing, Verdict};
use sandbar_pipeline::{DeadLetter, Parcel, Reason, SubscriptionConfig};
use tokio::time::{Instant, sleep};

use crate::support::{
    Broker, FakeHandler, History, Running, WALL_MS, broker::stored, config, handler::text, inbox,
    p, until,
};

const SECOND: Duration = Duration::from_secs(1);

fn broken(verdict: Verdict) -> HandlerError {
    HandlerError::new(ErrorClass::Handler, verdict, "broken")
}

/// A parcel with an event from far away.
fn parcel(reason: Reason, payload: &'static str) -> Parcel {
    Parcel {
        to: "sandbar.plug".into(),
        reason,
        attempt: 1,
        redrives: 1,
        first_failed_ms: WALL_MS - 86_400_000,
        began_ms: None,
        due_ms: 0,
        event: Event {
            topic: "far".into(),
            partition: 7,
            position: 42,
            timestamp_ms: 5,
            headers: [Header::new("h", "1"), Header { name: "h".into(), value: None }].into(),
            ..stored(Outgoing::new("far", payload).with_key("k"))
        },
    }
}

fn put(broker: &Broker, parcel: &Parcel) {
    broker.append_record(parcel.record(inbox().topic));
}

#[tokio::test(start_paused = true)]
async fn d3_the_handler_sees_a_redriven_event_as_it_first_was() {
    for broker in [Broker::new(), Broker::atomic()] {
        let history = History::new();
        let sent = parcel(Reason::Redrive, "x");
        put(&broker, &sent);
        let (seen, calls) = std::sync::mpsc::channel();
        let handler = FakeHandler::new(&history, move |call| {
            seen.send(call).unwrap();
            async { Ok(Default::default()) }
        });
        let running = Running::start(&broker, config(), handler);
        running.assign(inbox()).await;
        until("it is settled in the inbox", || broker.committed(&inbox()) == 1).await;
        let call = calls.try_recv().unwrap();
        assert_eq!((call.event, call.attempt), (sent.event, 1));
        assert_eq!(running.stats.handled.get(), 1);
        running.drain(SECOND).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn d5_a_redriven_event_that_fails_again_keeps_its_origin_and_counts_its_redrives() {
    for broker in [Broker::new(), Broker::atomic()] {
        let history = History::new();
        put(&broker, &parcel(Reason::Redrive, "x"));
        let handler =
            FakeHandler::new(&history, |_| async { Err(broken(Verdict::Retry { after: None })) });
        let running = Running::start(&broker, config(), handler);
        running.assign(inbox()).await;
        for redrives in 1..4 {
            until("it is buried", || broker.committed(&inbox()) == redrives).await;
            let letters = broker.published("plug.dlq");
            let letter = stored(letters.last().unwrap().clone());
            let said = DeadLetter::parse(&letter).unwrap();
            assert_eq!((said.topic.as_str(), said.partition, said.offset), ("far", 7, 42));
            assert_eq!((said.timestamp_ms, said.event_id.as_str()), (5, "far/7/42"));
            assert_eq!(said.first_failed_at, "2026-11-20T10:30:00.000Z", "the very first time");
            assert_eq!(u64::from(said.redrives), redrives);
            assert_eq!(said.attempts, 3, "each redrive has all of its attempts");
            assert!(letter.headers.iter().all(|h| !h.name.starts_with("sandbar-parcel-")));
            put(&broker, &Parcel::of_dead_letter(&letter).unwrap());
        }
        running.drain(SECOND).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn i1_a_redriven_event_has_the_identity_that_it_first_had() {
    for broker in [Broker::new(), Broker::atomic(), Broker::marking()] {
        let history = History::new();
        // as after a redrive that was killed between its publish and its checkpoint
        put(&broker, &parcel(Reason::Redrive, "x"));
        put(&broker, &parcel(Reason::Redrive, "x"));
        let handler = FakeHandler::new(&history, |_| async { Ok(Default::default()) });
        let config = SubscriptionConfig { dedup: Some(600 * SECOND), ..config() };
        let running = Running::start(&broker, config, handler);
        running.assign(inbox()).await;
        until("both are settled", || broker.committed(&inbox()) == 2).await;
        assert_eq!((running.stats.handled.get(), running.stats.dedup_hits.get()), (1, 1));
        assert_eq!(broker.state().marked[0].0, "far/7/42");
        running.drain(SECOND).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn d6_what_is_no_parcel_for_this_group_is_buried_as_it_is() {
    let (broker, history) = (Broker::new(), History::new());
    let damaged = parcel(Reason::Retry, "x").record(inbox().topic);
    let damaged = damaged.with_header("sandbar-parcel-partition", "seven");
    broker.append_record(Outgoing::new(inbox().topic, "stray").with_key("k"));
    broker.append_record(damaged.clone());
    put(&broker, &Parcel { to: "sandbar.other".into(), ..parcel(Reason::Retry, "x") });
    put(&broker, &parcel(Reason::Redrive, "good"));
    let handler = FakeHandler::new(&history, |call| async move {
        assert_eq!(text(&call), "good");
        Ok(Default::default())
    });
    let running = Running::start(&broker, config(), handler);
    running.assign(inbox()).await;
    until("everything is settled", || broker.committed(&inbox()) == 4).await;
    let letters = broker.published("plug.dlq");
    let parsed = letters.iter().map(|l| DeadLetter::parse(&stored(l.clone())).unwrap());
    let said: Vec<_> = parsed.map(|l| (l.offset, l.error_class, l.message)).collect();
    let decode = |offset, message: &str| (offset, "decode".to_owned(), message.to_owned());
    assert_eq!(
        said,
        [
            decode(0, "no parcel: it lacks the header `sandbar-parcel-topic`"),
            decode(1, "no parcel: its header `sandbar-parcel-partition` says `seven`"),
            decode(2, "a parcel for group `sandbar.other`"),
        ]
    );
    assert_eq!(letters[1].headers[..damaged.headers.len()], damaged.headers[..], "byte for byte");
    assert_eq!((history.began().len(), running.stats.handled.get()), (1, 1));
    running.drain(SECOND).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn r1_a_parcel_that_comes_early_waits_for_its_time_and_holds_up_no_other() {
    let (broker, history) = (Broker::new(), History::new());
    let began = Instant::now();
    let early = Parcel { due_ms: WALL_MS + 60_000, ..parcel(Reason::Retry, "early") };
    put(&broker, &early);
    put(&broker, &parcel(Reason::Retry, "due"));
    let handler = FakeHandler::new(&history, move |call| async move {
        let early = text(&call) == "early";
        assert_eq!(began.elapsed() >= 60 * SECOND, early, "{}", text(&call));
        Ok(Default::default())
    });
    let running = Running::start(&broker, config(), handler);
    running.assign(inbox()).await;
    until("the one that is due is handled", || running.stats.handled.get() == 1).await;
    // a stop meanwhile loses nothing of it (contract R7)
    running.drain(10 * SECOND).await.unwrap();
    assert_eq!(broker.committed(&inbox()), 0);
    let handler = FakeHandler::new(&history, move |call| async move {
        assert!(text(&call) == "due" || began.elapsed() >= 60 * SECOND);
        Ok(Default::default())
    });
    let running = Running::start(&broker, config(), handler);
    running.assign(inbox()).await;
    until("both are handled", || broker.committed(&inbox()) == 2).await;
    running.drain(SECOND).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn o1_parcels_keep_the_order_of_the_inbox_in_lanes_of_their_own() {
    let (broker, history) = (Broker::new(), History::new());
    for payload in ["1", "2", "3"] {
        put(&broker, &parcel(Reason::Redrive, payload));
    }
    broker.append(Some("k"), "own");
    let (seen, payloads) = std::sync::mpsc::channel();
    let handler = FakeHandler::new(&history, move |call| {
        let seen = seen.clone();
        async move {
            sleep(SECOND).await;
            seen.send(text(&call)).unwrap();
            Ok(Default::default())
        }
    });
    let running = Running::on_partition(&broker, config(), handler).await;
    running.assign(inbox()).await;
    until("everything is settled", || {
        broker.committed(&inbox()) == 3 && broker.committed(&p(0)) == 1
    })
    .await;
    let order: Vec<_> = payloads.try_iter().filter(|p| p != "own").collect();
    assert_eq!(order, ["1", "2", "3"]);
    assert_eq!(history.most_at_once(), 2, "the lane of the inbox and that of the topic");
    running.drain(SECOND).await.unwrap();
}
