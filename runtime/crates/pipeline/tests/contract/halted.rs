//! Contract O4: what becomes of a key after a dead letter.

use std::{sync::Arc, time::Duration};

use sandbar_core::{
    Disposition, ErrorClass, HandlerError, Outgoing, PublishError, Sink, SourceError, Verdict,
};
use sandbar_pipeline::{
    DeadLetter, DeadLetterConfig, HaltedKey, OnDeadLetter, OnExhausted, Ordering, Parcel, Services,
    State, SubscriptionConfig, halted_keys,
};
use tokio::time::sleep;

use crate::support::{
    Broker, FakeHandler, History, Running,
    broker::stored,
    config,
    handler::{echo, text},
    inbox, p, services, until,
};

const SECOND: Duration = Duration::from_secs(1);
const HALTED: &str = "sandbar-halted.sandbar.plug";

fn halting() -> SubscriptionConfig {
    let to = DeadLetterConfig::new("plug.dlq");
    let to = DeadLetterConfig { on_dead_letter: OnDeadLetter::HaltKey, ..to };
    SubscriptionConfig { dead_letter: Some(to), ..config() }
}

fn brokers() -> [Arc<Broker>; 2] {
    [Broker::new(), Broker::atomic()]
}

/// Rejects what is poison, the first so many times.
fn picky(history: &Arc<History>, times: usize) -> Arc<FakeHandler> {
    let left = Arc::new(parking_lot::Mutex::new(times));
    FakeHandler::new(history, move |call| {
        let left = left.clone();
        async move {
            sleep(SECOND).await;
            let mut left = left.lock();
            if text(&call) != "poison" || *left == 0 {
                return Ok(Default::default());
            }
            *left -= 1;
            Err(HandlerError::new(ErrorClass::Handler, Verdict::Reject, "malformed"))
        }
    })
}

/// Dead letters in order: payload, and what blocked them.
fn letters(broker: &Broker) -> Vec<(String, Option<String>)> {
    let letters = broker.published("plug.dlq").into_iter();
    let said = letters.map(|l| DeadLetter::parse(&stored(l)).unwrap().blocked_by);
    broker.payloads("plug.dlq").into_iter().zip(said).collect()
}

fn letter(payload: &str, blocked_by: Option<&str>) -> (String, Option<String>) {
    (payload.to_owned(), blocked_by.map(str::to_owned))
}

async fn note(broker: &Arc<Broker>, record: Outgoing) {
    assert!(broker.publish(&[record]).await.iter().all(Result::is_ok));
}

#[tokio::test(start_paused = true)]
async fn o4_after_a_dead_letter_its_key_goes_on() {
    for broker in brokers() {
        let history = History::new();
        broker.append(Some("a"), "poison");
        broker.append(Some("a"), "x");
        let running = Running::on_partition(&broker, config(), picky(&history, 1)).await;
        until("both are settled", || broker.committed(&p(0)) == 2).await;
        assert_eq!(history.began(), [(0, 1), (1, 1)]);
        assert!(broker.published(HALTED).is_empty());
        running.drain(SECOND).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn o4_a_halted_keys_later_events_follow_it_unhandled_and_other_keys_go_on() {
    for ordering in [Ordering::Key, Ordering::Partition] {
        for broker in brokers() {
            let history = History::new();
            for (key, payload) in [("b", "w"), ("a", "poison"), ("a", "x"), ("b", "y"), ("a", "z")]
            {
                broker.append(Some(key), payload);
            }
            broker.append(None, "keyless");
            let config = SubscriptionConfig { ordering, ..halting() };
            let running = Running::on_partition(&broker, config, picky(&history, 9)).await;
            until("everything is settled", || broker.committed(&p(0)) == 6).await;
            let mut handled: Vec<_> = history.began().iter().map(|b| b.0).collect();
            handled.sort_unstable();
            assert_eq!(handled, [0, 1, 3, 5], "the key's own waited for their dead letter");
            let behind = Some("orders/0/1");
            assert_eq!(
                letters(&broker),
                [letter("poison", None), letter("x", behind), letter("z", behind)]
            );
            let blocked = stored(broker.published("plug.dlq")[1].clone());
            let said = DeadLetter::parse(&blocked).unwrap();
            assert_eq!((said.error_class.as_str(), said.attempts, said.offset), ("blocked", 0, 2));
            let stats = &running.stats;
            assert_eq!(stats.dead_lettered.of(ErrorClass::Blocked).get(), 2);
            assert_eq!(stats.halted_keys.get(), 1);
            let notes = broker.published(HALTED);
            assert_eq!(notes.len(), 1, "one note is enough");
            assert_eq!(notes[0].key.as_deref(), Some(&b"orders/0/a"[..]));
            assert_eq!(notes[0].payload.as_deref(), behind.map(str::as_bytes));
            running.drain(SECOND).await.unwrap();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn o4_the_next_owner_of_the_partition_knows_what_is_halted() {
    for broker in brokers() {
        let history = History::new();
        broker.append(Some("a"), "poison");
        let running = Running::on_partition(&broker, halting(), picky(&history, 1)).await;
        until("it is buried", || broker.committed(&p(0)) == 1).await;
        running.drain(SECOND).await.unwrap();
        broker.append(Some("a"), "x");
        let running = Running::on_partition(&broker, halting(), picky(&history, 1)).await;
        until("the next one is settled", || broker.committed(&p(0)) == 2).await;
        assert_eq!(letters(&broker)[1], letter("x", Some("orders/0/0")));
        assert_eq!(history.began(), [(0, 1)]);
        running.drain(SECOND).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn o4_as_long_as_it_is_not_known_what_is_halted_nothing_is_taken_in() {
    let (broker, history) = (Broker::new(), History::new());
    broker.append(Some("a"), "x");
    broker.state().read_fault =
        Some(Box::new(|| Some(SourceError::Unavailable("no leader".into()))));
    let running = Running::on_partition(&broker, halting(), picky(&history, 1)).await;
    until("the trouble is visible", || running.stats.state().0 == State::Unavailable).await;
    assert_eq!(running.stats.state().1.unwrap(), format!("topic {HALTED}: no leader"));
    sleep(600 * SECOND).await;
    assert_eq!(broker.state().recv_calls, 0);
    running.drain(SECOND).await.unwrap();
    let running = Running::on_partition(&broker, halting(), picky(&history, 1)).await;
    broker.mend();
    until("it is handled", || broker.committed(&p(0)) == 1).await;
    running.drain(SECOND).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn o4_a_key_is_halted_and_released_while_the_subscription_runs() {
    for broker in brokers() {
        let history = History::new();
        let running = Running::on_partition(&broker, halting(), picky(&history, 1)).await;
        broker.append(Some("a"), "poison");
        broker.append(Some("b"), "y");
        until("it is buried", || broker.committed(&p(0)) == 2).await;
        // as the command line does it
        let connection = services(&broker).connection.unwrap();
        let halted = halted_keys(&*connection, "sandbar.plug").await.unwrap();
        let expected =
            HaltedKey { topic: "orders".into(), partition: 0, key: "a".into(), position: 0 };
        assert_eq!(halted, [expected]);
        note(&broker, halted[0].release(HALTED)).await;
        until("the release is known", || running.stats.halted_keys.get() == 0).await;
        broker.append(Some("a"), "x");
        until("the key goes on", || broker.committed(&p(0)) == 3).await;
        assert_eq!(history.began().last(), Some(&(2, 1)));
        // and what another process notes is known, too
        note(&broker, Outgoing::new(HALTED, "orders/0/2").with_key("orders/0/a")).await;
        until("the note is known", || running.stats.halted_keys.get() == 1).await;
        broker.append(Some("a"), "z");
        until("it is settled", || broker.committed(&p(0)) == 4).await;
        assert_eq!(letters(&broker)[1], letter("z", Some("orders/0/2")));
        assert!(halted_keys(&*connection, "sandbar.plug").await.unwrap().len() == 1);
        running.drain(SECOND).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn o4_a_key_is_halted_by_nothing_but_a_durable_dead_letter() {
    let (broker, history) = (Broker::new(), History::new());
    broker.append(Some("a"), "poison");
    broker.append(Some("a"), "x");
    broker.break_publishing(|o| {
        (&*o.topic == "plug.dlq").then(|| PublishError::Unavailable("away".into()))
    });
    let running = Running::on_partition(&broker, halting(), picky(&history, 1)).await;
    until("it is held back", || running.stats.held_back.get() == 1).await;
    sleep(60 * SECOND).await;
    assert!(broker.published(HALTED).is_empty());
    // now the other way round
    broker.break_publishing(|o| {
        (&*o.topic == HALTED).then(|| PublishError::Unavailable("away".into()))
    });
    until("its letter is durable", || broker.published("plug.dlq").len() == 1).await;
    sleep(60 * SECOND).await;
    assert_eq!((broker.committed(&p(0)), history.began().len()), (0, 1), "the key waits for both");
    broker.mend();
    until("both are settled", || broker.committed(&p(0)) == 2).await;
    assert_eq!(letters(&broker)[1], letter("x", Some("orders/0/0")));
    running.drain(SECOND).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn o4_an_event_does_not_wait_for_its_own_dead_letter() {
    let (broker, history) = (Broker::new(), History::new());
    broker.append(Some("a"), "fine");
    broker.append(Some("a"), "poison");
    broker.append(Some("a"), "x");
    broker.break_settling(|_| Some(SourceError::Unavailable("away".into())));
    let running = Running::on_partition(&broker, halting(), picky(&history, 1)).await;
    until("its key is halted", || !broker.published(HALTED).is_empty()).await;
    running.kill().await;
    broker.mend();
    let running = Running::on_partition(&broker, halting(), picky(&history, 0)).await;
    until("everything is settled", || broker.committed(&p(0)) == 3).await;
    assert_eq!(running.stats.handled.get(), 2, "what is delivered again is tried again");
    assert_eq!(letters(&broker).last(), Some(&letter("x", Some("orders/0/1"))));
    running.drain(SECOND).await.unwrap();
}

/// Refuses to settle what publishes `poison`.
fn refuse_poison(broker: &Broker) {
    broker.break_settling(|settlements| {
        let poison = |o: &Outgoing| &*o.topic == "out" && o.payload.as_deref() == Some(b"poison");
        let guilty = settlements.iter().find(|s| match &s.disposition {
            Disposition::Done { effects, .. } => effects.iter().any(poison),
            Disposition::Release { .. } => false,
        })?;
        Some(SourceError::Rejected { token: guilty.token, reason: "too large".into() })
    });
}

#[tokio::test(start_paused = true)]
async fn o4_r6_an_event_does_not_pass_one_whose_outputs_may_still_be_refused() {
    for (exhausted, committed) in [(OnExhausted::DeadLetter, 3), (OnExhausted::Halt, 0)] {
        let mut broker = Broker::slow(SECOND);
        broker.atomic = true;
        let (broker, history) = (Arc::new(broker), History::new());
        for (key, payload) in [("a", "poison"), ("a", "x"), ("b", "y")] {
            broker.append(Some(key), payload);
        }
        refuse_poison(&broker);
        let handler = FakeHandler::new(&history, |call| async move { echo(&call) });
        let config = SubscriptionConfig { exhausted, ..halting() };
        let running = Running::on_partition(&broker, config, handler).await;
        until("it has failed", || {
            running.stats.state().0 == State::Halted || broker.committed(&p(0)) == 3
        })
        .await;
        sleep(60 * SECOND).await;
        assert_eq!(history.began(), [(0, 1), (2, 1)], "{exhausted:?}");
        assert_eq!(broker.committed(&p(0)), committed);
        if exhausted == OnExhausted::DeadLetter {
            let expected = [letter("poison", None), letter("x", Some("orders/0/0"))];
            assert_eq!(letters(&broker), expected);
        }
        running.drain(SECOND).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn o4_what_an_operator_sends_again_gets_through() {
    for broker in brokers() {
        let history = History::new();
        broker.append(Some("a"), "poison");
        broker.append(Some("a"), "x");
        let running = Running::on_partition(&broker, halting(), picky(&history, 1)).await;
        until("both are buried", || broker.committed(&p(0)) == 2).await;
        for letter in broker.published("plug.dlq") {
            let parcel = Parcel::of_dead_letter(&stored(letter)).unwrap();
            broker.append_record(parcel.record(inbox().topic));
        }
        running.assign(inbox()).await;
        until("both are handled", || broker.committed(&inbox()) == 2).await;
        assert_eq!(running.stats.handled.get(), 2);
        assert_eq!(history.began(), [(0, 1), (0, 1), (1, 1)], "in the order of their key");
        assert_eq!(running.stats.halted_keys.get(), 1, "releasing is another matter");
        running.drain(SECOND).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn o4_d6_a_damaged_parcel_halts_no_key() {
    let (broker, history) = (Broker::new(), History::new());
    broker.append_record(Outgoing::new(inbox().topic, "stray").with_key("a"));
    let running = Running::start(&broker, halting(), picky(&history, 0));
    running.assign(inbox()).await;
    until("it is buried", || broker.committed(&inbox()) == 1).await;
    assert_eq!((letters(&broker).len(), broker.published(HALTED).len()), (1, 0));
    running.drain(SECOND).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn o4_what_cannot_be_kept_is_refused() {
    let (broker, history) = (Broker::new(), History::new());
    let unordered = SubscriptionConfig { ordering: Ordering::None, ..halting() };
    for (config, services, why) in
        [(halting(), Services::default(), "connection"), (unordered, services(&broker), "ordering")]
    {
        let ended = Running::start_with(&broker, config, picky(&history, 0), services).end().await;
        assert!(matches!(&ended, Err(SourceError::Fatal(said)) if said.contains(why)), "{ended:?}");
    }
}
