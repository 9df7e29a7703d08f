use proptest::{collection::vec, option, prelude::*, sample::select};
use sandbar_core::{ErrorClass, HandlerError, Verdict, cloudevents};

use super::*;
use crate::{DeadLetterConfig, Dialect, dead_letter::Failure};

const NOW: u64 = 1_795_257_000_000;

/// What a reader of `record`'s topic gets.
fn stored(record: Outgoing) -> Event {
    Event {
        topic: record.topic,
        partition: 5,
        position: 77,
        key: record.key,
        payload: record.payload,
        attributes: cloudevents::attributes(&record.headers),
        headers: record.headers.into(),
        timestamp_ms: NOW,
    }
}

fn bytes() -> impl Strategy<Value = Option<Bytes>> {
    option::of(vec(any::<u8>(), 0..20).prop_map(Bytes::from))
}

/// Events whose header names repeat, among them those of other dead letters.
fn event() -> impl Strategy<Value = Event> {
    let names = vec!["ce_id", "ce_source", "", "h", "h", "kafka_dlt-original-topic", "x-ß"];
    let header =
        (select(names), bytes()).prop_map(|(name, value)| Header { name: name.into(), value });
    let place = ("[a-z./]{1,20}", any::<u32>(), any::<u64>(), any::<u64>());
    (place, bytes(), bytes(), vec(header, 0..8)).prop_map(
        |((topic, partition, position, timestamp_ms), key, payload, headers)| Event {
            topic: topic.into(),
            partition,
            position,
            key,
            payload,
            attributes: cloudevents::attributes(&headers),
            headers: headers.into(),
            timestamp_ms,
        },
    )
}

fn parcel() -> impl Strategy<Value = Parcel> {
    let numbers =
        (any::<u32>(), any::<u32>(), any::<u64>(), option::of(any::<u64>()), any::<u64>());
    (event(), "[a-z.]{1,20}", select(vec![Reason::Retry, Reason::Redrive]), numbers).prop_map(
        |(event, to, reason, (attempt, redrives, first_failed_ms, began_ms, due_ms))| Parcel {
            to,
            reason,
            attempt,
            redrives,
            first_failed_ms,
            began_ms,
            due_ms,
            event,
        },
    )
}

fn letter(event: &Event, dialect: Dialect, redrives: u32) -> Event {
    let error = HandlerError {
        backtrace: Some("0: handle".into()),
        ..HandlerError::new(ErrorClass::Trap, Verdict::Reject, "unreachable")
    };
    let failure = Failure {
        error: &error,
        plugin: "router",
        by: None,
        group: "sandbar.router",
        attempts: 3,
        redeliveries: 0,
        redrives,
        blocked_by: None,
        first_failed_ms: NOW - 60_000,
        now_ms: NOW,
    };
    let to = DeadLetterConfig { dialect, ..DeadLetterConfig::new("router.dlq") };
    stored(dead_letter::envelope(event, &failure, &to))
}

proptest! {
    #[test]
    fn r5_d3_what_is_put_into_a_parcel_comes_out_of_it_byte_for_byte(parcel in parcel()) {
        let carrier = stored(parcel.record("inbox"));
        prop_assert_eq!((&carrier.key, &carrier.payload), (&parcel.event.key, &parcel.event.payload));
        prop_assert_eq!(Parcel::open(&carrier), Ok(parcel));
    }

    #[test]
    fn d3_a_dead_letter_of_every_dialect_gives_back_the_event_that_failed(
        event in event(),
        dialect in select(vec![Dialect::None, Dialect::Spring, Dialect::Connect, Dialect::Streams]),
        redrives in 0..9u32,
    ) {
        // a dialect's own headers of another queue are replaced by the envelope
        let keeps = dialect != Dialect::Spring;
        let headers = event.headers.iter().filter(|h| keeps || !h.name.starts_with("kafka_dlt-"));
        let event = Event { headers: headers.cloned().collect(), ..event.clone() };
        prop_assert_eq!(
            Parcel::of_dead_letter(&letter(&event, dialect, redrives)),
            Some(Parcel {
                to: "sandbar.router".into(),
                reason: Reason::Redrive,
                attempt: 1,
                redrives: redrives + 1,
                first_failed_ms: NOW - 60_000,
                began_ms: None,
                due_ms: 0,
                event,
            })
        );
    }
}

fn plain(topic: &str) -> Event {
    let record = Outgoing::new(topic, "body").with_header("h", "v");
    Event { timestamp_ms: 9, ..stored(record) }
}

#[test]
fn d3_a_dead_letter_without_its_origin_is_no_parcel() {
    let whole = letter(&plain("orders"), Dialect::None, 0);
    assert!(Parcel::of_dead_letter(&whole).is_some());
    assert_eq!(Parcel::of_dead_letter(&plain("orders")), None, "no dead letter at all");
    for name in ["topic", "partition", "offset", "group"] {
        let name = format!("__dlq.errors.{name}");
        for value in [None, Some(Bytes::from("cut…"))] {
            let damage = |h: &Header| match *h.name == name {
                true => Header { name: h.name.clone(), value: value.clone() },
                false => h.clone(),
            };
            let damaged =
                Event { headers: whole.headers.iter().map(damage).collect(), ..whole.clone() };
            assert_eq!(Parcel::of_dead_letter(&damaged), None, "{name} is {value:?}");
        }
    }
}

#[test]
fn d6_a_parcel_that_lacks_something_says_what() {
    let parcel = Parcel::of_dead_letter(&letter(&plain("orders"), Dialect::None, 0)).unwrap();
    let whole = stored(parcel.record("inbox"));
    let names = ["to", "reason", "topic", "partition", "position", "timestamp", "attempt"];
    for name in names.into_iter().chain(["redrives", "first-failed-ms", "due-ms"]) {
        let ours = |h: &&Header| *h.name == *format!("sandbar-parcel-{name}");
        let without = whole.headers.iter().filter(|h| !ours(h)).cloned().collect();
        let opened = Parcel::open(&Event { headers: without, ..whole.clone() });
        assert_eq!(opened, Err(ParcelError::Missing(name)));
    }
    let headers =
        whole.headers.iter().cloned().chain([Header::new("sandbar-parcel-due-ms", "soon")]);
    let opened = Parcel::open(&Event { headers: headers.collect(), ..whole.clone() });
    assert_eq!(
        opened.unwrap_err().to_string(),
        "no parcel: its header `sandbar-parcel-due-ms` says `soon`"
    );
}
