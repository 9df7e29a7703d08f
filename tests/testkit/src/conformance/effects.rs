//! What becomes durable together with an acknowledgement.

use sandbar_core::{
    Connection, Disposition, Mark, Outgoing, ReadFrom, SourceError, SubscriptionSpec,
};

use super::{
    Bench, Consumer,
    bench::{spec, unique},
    consumer::{Got, numbers},
};

/// A settlement whose effect is a copy of the event in `out`.
fn copied(got: &Got, out: &str) -> Disposition {
    let effect = Outgoing { payload: got.event().payload.clone(), ..Outgoing::new(out, "") };
    Disposition::done(vec![effect])
}

/// Settles all that `consumer` gets with copies to `out`, and checks both.
async fn copies(
    bench: &Bench,
    connection: &std::sync::Arc<dyn Connection>,
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
    let mut consumer = bench.open(&connection, &spec).await;
    if bench.guarantees().atomic_effects {
        return copies(bench, &connection, consumer, &spec).await;
    }
    // of one partition, so that they are settled in one call
    let mut records = bench.numbered_to_hold(&topic, 0, 2, 2);
    if bench.partitions() > 1 {
        records.iter_mut().for_each(|record| record.key = Some("key".into()));
    }
    bench.publish(&connection, &records).await;
    let got = consumer.take(2).await;
    // all or nothing: neither is settled
    let none = || Disposition::done(Vec::new());
    let settlements = [(&got[0], none()), (&got[1], copied(&got[1], &topic))];
    match consumer.settle(settlements.into_iter()).await {
        Err(SourceError::Rejected { token, .. }) => assert_eq!(token, got[1].delivery.token),
        other => panic!("effects that cannot be written were not rejected: {other:?}"),
    }
    consumer.close().await;
    assert_eq!(numbers(&bench.left(&connection, &spec).await), [0, 1]);
}

pub async fn marks(bench: &Bench) {
    let connection = bench.connect().await;
    let topic = bench.topic(&connection, "marks").await;
    let spec = spec(&topic);
    let mut consumer = bench.open(&connection, &spec).await;
    bench.publish(&connection, &bench.numbered(&topic, 0, 1)).await;
    let got = consumer.take(1).await;
    let (now, [handled, other]) = (1_000, ["handled", "other"].map(unique));
    let mark = Some(Mark { id: handled.clone(), expires_ms: u64::MAX });
    let done = Disposition::Done { effects: Vec::new(), mark, state: None };
    consumer.settle([(&got[0], done)].into_iter()).await.expect("settles");
    consumer.close().await;
    let marks = connection.marks().expect("marks, where they are promised");
    let seen = marks.seen(&spec.group, &[handled, other], now).await.expect("answers");
    assert_eq!(seen, [true, false]);
}
