//! What becomes durable together with an acknowledgement.

use std::sync::Arc;

use sandbar_core::{
    Connection, Disposition, Expected, Guarantees, Mark, Outgoing, ReadFrom, SourceError,
    StateChange, StateChanges, StateOp, StateQuota, SubscriptionSpec,
};

use super::{
    Bench, Consumer,
    bench::{spec, unique},
    consumer::{Got, numbers},
};

/// The time that handlers live in. Nothing expires.
const NOW: u64 = 1_000;

/// A settlement whose effect is a copy of the event in `out`.
fn copied(got: &Got, out: &str) -> Disposition {
    let effect = Outgoing { payload: got.event().payload.clone(), ..Outgoing::new(out, "") };
    Disposition::done(vec![effect])
}

/// Settles all that `consumer` gets with copies to `out`, and checks both.
async fn copies(
    bench: &Bench,
    connection: &Arc<dyn Connection>,
    mut consumer: Consumer,
    spec: &SubscriptionSpec,
) {
    let out = bench.topic(connection, "effects-out").await;
    bench.publish(connection, &bench.numbered(&spec.topics[0], 0, 10)).await;
    let got = consumer.take(10).await;
    consumer.settle(got.iter().map(|g| (g, copied(g, &out)))).await.expect("settles");
    consumer.close().await;
    let payloads = bench.read_all(connection, &out, ReadFrom::Start).await;
    let mut copies: Vec<_> = payloads.into_iter().filter_map(|e| e.payload).collect();
    copies.sort();
    let expected: Vec<_> = (0..10).map(|n: u64| n.to_string()).collect();
    assert_eq!(copies, expected, "each copy once");
    let plain = SubscriptionSpec { exactly_once: false, ..spec.clone() };
    bench.nothing_left(connection, &plain).await;
}

/// `count` records that can be in hand at once, of one partition, so that they are
/// settled in one call.
fn together(bench: &Bench, topic: &str, count: u64) -> Vec<Outgoing> {
    let mut records = bench.numbered_to_hold(topic, 0, count, count);
    if bench.partitions() > 1 {
        records.iter_mut().for_each(|record| record.key = Some("key".into()));
    }
    records
}

/// Settles an event, and in the same call another one `with` what is not promised: neither is
/// settled, since a call is all or nothing.
async fn rejects(
    bench: &Bench,
    connection: &Arc<dyn Connection>,
    mut consumer: Consumer,
    spec: &SubscriptionSpec,
    with: impl Fn(&Got) -> Disposition,
) {
    bench.publish(connection, &together(bench, &spec.topics[0], 2)).await;
    let got = consumer.take(2).await;
    let settlements = [(&got[0], Disposition::done(Vec::new())), (&got[1], with(&got[1]))];
    match consumer.settle(settlements.into_iter()).await {
        Err(SourceError::Rejected { token, .. }) => assert_eq!(token, got[1].delivery.token),
        other => panic!("what cannot be written was not rejected: {other:?}"),
    }
    consumer.close().await;
    let plain = SubscriptionSpec { exactly_once: false, ..spec.clone() };
    assert_eq!(numbers(&bench.left(connection, &plain).await), [0, 1]);
}

pub async fn exactly_once(bench: &Bench) {
    let connection = bench.connect().await;
    let topic = bench.topic(&connection, "exactly-once").await;
    let spec = SubscriptionSpec { exactly_once: true, ..spec(&topic) };
    match connection.subscribe(spec.clone()).await {
        Err(SourceError::Fatal(reason)) => {
            assert!(!bench.guarantees().atomic_effects, "refused, though it is promised: {reason}");
        }
        Err(e) => panic!("refused, but not for good: {e}"),
        Ok(source) => {
            assert!(source.guarantees().atomic_effects, "accepted, but not promised");
            let mut consumer = Consumer::new(source);
            consumer.assigned(bench.partitions()).await;
            copies(bench, &connection, consumer, &spec).await;
        }
    }
}

pub async fn effects(bench: &Bench) {
    let connection = bench.connect().await;
    let topic = bench.topic(&connection, "effects").await;
    let spec = spec(&topic);
    let consumer = bench.open(&connection, &spec).await;
    match bench.guarantees().atomic_effects {
        true => copies(bench, &connection, consumer, &spec).await,
        false => rejects(bench, &connection, consumer, &spec, |got| copied(got, &topic)).await,
    }
}

pub async fn marks(bench: &Bench) {
    let connection = bench.connect().await;
    let topic = bench.topic(&connection, "marks").await;
    let spec = spec(&topic);
    let mut consumer = bench.open(&connection, &spec).await;
    bench.publish(&connection, &bench.numbered(&topic, 0, 1)).await;
    let got = consumer.take(1).await;
    let [handled, other] = ["handled", "other"].map(unique);
    let mark = Some(Mark { id: handled.clone(), expires_ms: u64::MAX });
    let done = Disposition::Done { effects: Vec::new(), mark, state: None };
    consumer.settle([(&got[0], done)].into_iter()).await.expect("settles");
    consumer.close().await;
    let marks = connection.marks().expect("marks, where they are promised");
    let seen = marks.seen(&spec.group, &[handled, other], NOW).await.expect("answers");
    assert_eq!(seen, [true, false]);
}

/// A settlement that adds one to `key` of the state, if `only_if` holds.
fn counted(key: &str, only_if: Option<Expected>) -> Disposition {
    let op = StateOp { key: key.to_owned(), only_if, change: StateChange::Add(1) };
    let changes = StateChanges { ops: vec![op], quota: StateQuota::UNLIMITED, at_ms: NOW };
    Disposition::Done { effects: Vec::new(), mark: None, state: Some(Box::new(changes)) }
}

/// An effect that can never be written, if there is one: any, or one that is too large.
fn unwritable(bench: &Bench, promised: Guarantees, topic: &str) -> Option<Outgoing> {
    let size = if promised.atomic_effects { bench.declared().too_large? } else { 0 };
    Some(Outgoing::new(topic, vec![0_u8; size]))
}

/// Settles one of three events with a change of state, and fails to settle the others: after
/// the connection is opened again, that one change is all that is remembered.
async fn remembers(
    bench: &Bench,
    connection: &Arc<dyn Connection>,
    mut consumer: Consumer,
    spec: &SubscriptionSpec,
) {
    bench.publish(connection, &together(bench, &spec.topics[0], 3)).await;
    let got = consumer.take(3).await;
    consumer.settle([(&got[0], counted("settled", None))].into_iter()).await.expect("settles");
    // of the next two, what the first one changes could be written by itself
    let [first, second] = [&got[1], &got[2]];
    let there = Some(Expected::Version(1));
    let stale = [(first, counted("rejected", None)), (second, counted("never", there))];
    match consumer.settle(stale.into_iter()).await {
        Err(SourceError::Stale { token, .. }) => assert_eq!(token, second.delivery.token),
        other => panic!("a condition that does not hold was passed over: {other:?}"),
    }
    if let Some(effect) = unwritable(bench, consumer.guarantees(), &spec.topics[0]) {
        let effect = Disposition::done(vec![effect]);
        let rejected = [(first, counted("rejected", None)), (second, effect)];
        match consumer.settle(rejected.into_iter()).await {
            Err(SourceError::Rejected { token, .. }) => assert_eq!(token, second.delivery.token),
            other => panic!("what cannot be written was not rejected: {other:?}"),
        }
    }
    consumer.close().await;

    let connection = bench.reopen().await;
    let state = connection.state().expect("a store of state, where it is promised");
    let all = bench.answered("state", || state.list(&spec.group, "", None, 10, NOW)).await;
    let all: Vec<_> = all.iter().map(|(key, entry)| (key.as_str(), &*entry.value)).collect();
    assert_eq!(all, [("settled", b"1".as_slice())], "what was settled, and nothing else");
    let plain = SubscriptionSpec { exactly_once: false, ..spec.clone() };
    assert_eq!(numbers(&bench.left(&connection, &plain).await), numbers(&got[1..]));
}

pub async fn state(bench: &Bench) {
    for exactly_once in [false, true] {
        let connection = bench.connect().await;
        let topic = bench.topic(&connection, "state").await;
        let spec = SubscriptionSpec { exactly_once, ..spec(&topic) };
        let source = match connection.subscribe(spec.clone()).await {
            Ok(source) => source,
            // whether it may is another statement
            Err(SourceError::Fatal(_)) if exactly_once => continue,
            Err(e) => panic!("not subscribed: {e}"),
        };
        let mut consumer = Consumer::new(source);
        consumer.assigned(bench.partitions()).await;
        match consumer.guarantees().atomic_state {
            true => remembers(bench, &connection, consumer, &spec).await,
            false => rejects(bench, &connection, consumer, &spec, |_| counted("n", None)).await,
        }
    }
}
