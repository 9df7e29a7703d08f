use bytes::Bytes;
use sandbar_core::{ErrorClass, Verdict};

use super::*;
use crate::Dialect;

fn event() -> Event {
    Event {
        topic: "orders".into(),
        partition: 3,
        position: 42,
        key: Some(Bytes::from_static(b"\xff\x00key")),
        payload: Some("body".into()),
        headers: [Header::new("ce_id", "7"), Header::new("traceparent", "00-aa-bb-01")].into(),
        timestamp_ms: 1_700_000_000_123,
        attributes: [("id".to_owned(), "7".to_owned())].into(),
    }
}

fn error() -> HandlerError {
    HandlerError {
        code: "bad-order".into(),
        backtrace: Some("0: handle\n1: main".into()),
        ..HandlerError::new(ErrorClass::Trap, Verdict::Reject, "unreachable executed")
    }
}

fn by() -> HandledBy {
    HandledBy { plugin: "router".into(), version: "1.2.0".into(), digest: "9f86d081".into() }
}

fn bury(event: &Event, error: &HandlerError, dialect: Dialect, now_ms: u64) -> Outgoing {
    let by = by();
    let failure = Failure {
        error,
        plugin: "router",
        by: Some(&by),
        group: "sandbar.router",
        attempts: 5,
        redeliveries: 2,
        redrives: 0,
        blocked_by: None,
        first_failed_ms: now_ms - 60_000,
        now_ms,
    };
    envelope(event, &failure, &DeadLetterConfig { dialect, ..DeadLetterConfig::new("router.dlq") })
}

const NOW: u64 = 1_795_257_000_000;

/// What a reader of the dead-letter topic gets.
fn stored(letter: Outgoing) -> Event {
    Event {
        topic: letter.topic,
        partition: 0,
        position: 8,
        key: letter.key,
        payload: letter.payload,
        headers: letter.headers.into(),
        timestamp_ms: NOW,
        attributes: [].into(),
    }
}

fn listing(headers: &[Header]) -> String {
    let line = |h: &Header| {
        format!(
            "{}: {}",
            h.name,
            h.value.as_ref().map_or("null".into(), |v| v.escape_ascii().to_string())
        )
    };
    headers.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[test]
fn d2_the_envelope_in_full() {
    let letter = bury(&event(), &error(), Dialect::None, NOW);
    assert_eq!((&letter.key, &letter.payload), (&event().key, &event().payload));
    assert!(letter.attributes.is_empty(), "they are headers already");
    insta::assert_snapshot!(listing(&letter.headers), @r"
    ce_id: 7
    traceparent: 00-aa-bb-01
    __dlq.errors.topic: orders
    __dlq.errors.partition: 3
    __dlq.errors.offset: 42
    __dlq.errors.group: sandbar.router
    __dlq.errors.delivery.count: 7
    __dlq.errors.message: unreachable executed
    sandbar-dlq-plugin: router
    sandbar-dlq-plugin-version: 1.2.0
    sandbar-dlq-digest: 9f86d081
    sandbar-dlq-error-class: trap
    sandbar-dlq-error-code: bad-order
    sandbar-dlq-backtrace: 0: handle\n1: main
    sandbar-dlq-timestamp-ms: 1700000000123
    sandbar-dlq-first-failed-at: 2026-11-21T10:29:00.000Z
    sandbar-dlq-last-failed-at: 2026-11-21T10:30:00.000Z
    sandbar-dlq-attempts: 5
    sandbar-dlq-redrives: 0
    sandbar-dlq-event-id: 7
    ");
}

#[test]
fn d2_dialects_in_full() {
    let ours = bury(&event(), &error(), Dialect::None, NOW).headers.len();
    let added = |dialect| listing(&bury(&event(), &error(), dialect, NOW).headers[ours..]);
    insta::assert_snapshot!(added(Dialect::Spring), @r"
    kafka_dlt-original-topic: orders
    kafka_dlt-original-partition: \x00\x00\x00\x03
    kafka_dlt-original-offset: \x00\x00\x00\x00\x00\x00\x00*
    kafka_dlt-original-timestamp: \x00\x00\x01\x8b\xcf\xe5h{
    kafka_dlt-original-timestamp-type: CREATE_TIME
    kafka_dlt-original-consumer-group: sandbar.router
    kafka_dlt-exception-fqcn: sandbar.trap
    kafka_dlt-exception-message: unreachable executed
    kafka_dlt-exception-stacktrace: 0: handle\n1: main
    ");
    insta::assert_snapshot!(added(Dialect::Connect), @r"
    __connect.errors.topic: orders
    __connect.errors.partition: 3
    __connect.errors.offset: 42
    __connect.errors.connector.name: router
    __connect.errors.task.id: 0
    __connect.errors.stage: TASK_PUT
    __connect.errors.class.name: sandbar.trap
    __connect.errors.exception.class.name: sandbar.trap
    __connect.errors.exception.message: unreachable executed
    __connect.errors.exception.stacktrace: 0: handle\n1: main
    ");
    insta::assert_snapshot!(added(Dialect::Streams), @r"
    __streams.errors.exception: sandbar.trap
    __streams.errors.message: unreachable executed
    __streams.errors.topic: orders
    __streams.errors.partition: 3
    __streams.errors.offset: 42
    __streams.errors.stacktrace: 0: handle\n1: main
    ");
}

#[test]
fn d2_what_is_written_is_what_is_read() {
    let letter =
        DeadLetter::parse(&stored(bury(&event(), &error(), Dialect::Spring, NOW))).unwrap();
    insta::assert_json_snapshot!(letter, @r#"
    {
      "topic": "orders",
      "partition": 3,
      "offset": 42,
      "timestamp_ms": 1700000000123,
      "group": "sandbar.router",
      "delivery_count": 7,
      "message": "unreachable executed",
      "plugin": "router",
      "plugin_version": "1.2.0",
      "digest": "9f86d081",
      "error_class": "trap",
      "error_code": "bad-order",
      "backtrace": "0: handle\n1: main",
      "first_failed_at": "2026-11-21T10:29:00.000Z",
      "last_failed_at": "2026-11-21T10:30:00.000Z",
      "attempts": 5,
      "redrives": 0,
      "event_id": "7",
      "blocked_by": null
    }
    "#);
    assert_eq!(DeadLetter::parse(&event()), None);
}

#[test]
fn d2_a_dead_letter_that_fails_again_keeps_its_origin_and_replaces_its_error() {
    for dialect in [Dialect::None, Dialect::Spring, Dialect::Connect, Dialect::Streams] {
        let first = stored(bury(&event(), &error(), dialect, NOW));
        let later = HandlerError::new(ErrorClass::Deadline, Verdict::Reject, "took too long");
        let second = bury(&first, &later, dialect, NOW + 3_600_000);
        let names =
            |headers: &[Header]| headers.iter().map(|h| h.name.to_string()).collect::<Vec<_>>();
        let mut unique = names(&second.headers);
        unique.sort();
        unique.dedup();
        assert_eq!(
            unique.len(),
            second.headers.len(),
            "nothing is appended twice: {:?}",
            names(&second.headers)
        );
        let timestamp = |headers: &[Header]| {
            headers.iter().find(|h| &*h.name == "kafka_dlt-original-timestamp").cloned()
        };
        assert_eq!(timestamp(&second.headers), timestamp(&first.headers));
        let (first, second) =
            (DeadLetter::parse(&first).unwrap(), DeadLetter::parse(&stored(second)).unwrap());
        let expected = DeadLetter {
            message: "took too long".into(),
            error_class: "deadline".into(),
            error_code: "deadline".into(),
            backtrace: None,
            last_failed_at: "2026-11-21T11:30:00.000Z".into(),
            ..first
        };
        assert_eq!(second, expected);
    }
}

#[test]
fn d2_the_location_given_by_another_dead_letter_queue_is_kept() {
    let mut event = event();
    let located = [("topic", "origin"), ("partition", "9"), ("offset", "77")];
    event.headers = located.map(|(n, v)| Header::new(format!("__dlq.errors.{n}"), v)).into();
    let letter = DeadLetter::parse(&stored(bury(&event, &error(), Dialect::None, NOW))).unwrap();
    assert_eq!((letter.topic.as_str(), letter.partition, letter.offset), ("origin", 9, 77));
}

#[test]
fn d2_our_headers_stay_below_8_kib_whatever_the_error_says() {
    let long = "ß".repeat(100_000);
    let mut event = event();
    event.attributes = [("id".to_owned(), long.clone())].into();
    event.topic = long.as_str().into();
    let error = HandlerError {
        code: long.clone(),
        backtrace: Some(long.clone()),
        ..HandlerError::new(ErrorClass::Handler, Verdict::Reject, long.clone())
    };
    let by = HandledBy { plugin: long.clone(), version: long.clone(), digest: long.clone() };
    for dialect in [Dialect::None, Dialect::Spring, Dialect::Connect, Dialect::Streams] {
        let failure = Failure {
            error: &error,
            plugin: &long,
            by: Some(&by),
            group: &long,
            attempts: u32::MAX,
            redeliveries: u32::MAX,
            redrives: u32::MAX,
            blocked_by: Some(&long),
            first_failed_ms: 0,
            now_ms: u64::MAX,
        };
        let letter = envelope(
            &event,
            &failure,
            &DeadLetterConfig { dialect, ..DeadLetterConfig::new("dlq") },
        );
        let ours = letter.size() - event.size();
        assert!(ours <= 8 * 1024, "{ours} bytes with {dialect:?}");
        assert!(DeadLetter::parse(&stored(letter)).unwrap().message.ends_with('…'));
    }
}

#[test]
fn a_damaged_dead_letter_is_still_listed() {
    let mut event = stored(bury(&event(), &error(), Dialect::None, NOW));
    let damage = |h: &Header| match &*h.name {
        "__dlq.errors.offset" => Header::new("__dlq.errors.offset", "x"),
        "sandbar-dlq-attempts" => Header { name: h.name.clone(), value: None },
        _ => h.clone(),
    };
    event.headers = event.headers.iter().map(damage).collect();
    let letter = DeadLetter::parse(&event).unwrap();
    assert_eq!((letter.offset, letter.attempts, letter.plugin.as_str()), (0, 0, "router"));
}
