//! Everything that is written is read again as it was, and no bytes make a reader do
//! anything but read or refuse. `PROPTEST_CASES=1000000` makes it a fuzzer.

use proptest::{
    collection::vec,
    option,
    prelude::{Just, Strategy, any},
    prop_assert, prop_assert_eq, prop_oneof, proptest,
    sample::Index,
};
use sandbar_frame::{
    Event, Events, EventsWriter, Failure, Malformed, Outcome, Outcomes, OutcomesWriter, Outgoing,
};

type Headers = Vec<(String, Vec<u8>)>;
type Attributes = Vec<(String, String)>;

#[derive(Debug, Clone, PartialEq)]
struct OwnedEvent {
    topic: String,
    numbers: (u32, u64, u64, u32),
    key: Option<Vec<u8>>,
    payload: Option<Vec<u8>>,
    headers: Headers,
    attributes: Attributes,
}

#[derive(Debug, Clone, PartialEq)]
struct OwnedOutgoing {
    connection: Option<String>,
    topic: String,
    key: Option<Vec<u8>>,
    payload: Option<Vec<u8>>,
    headers: Headers,
    attributes: Attributes,
}

#[derive(Debug, Clone, PartialEq)]
enum OwnedOutcome {
    Handled(Vec<OwnedOutgoing>),
    Retry(String, Option<u64>),
    Reject(String, String),
    Skip(String),
    Defer(u64),
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![Just(String::new()), "[a-z.]{1,12}", ".{0,6}"]
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![vec(any::<u8>(), 0..8), vec(any::<u8>(), 0..300)]
}

fn headers() -> impl Strategy<Value = Headers> {
    vec((text(), bytes()), 0..4)
}

fn attributes() -> impl Strategy<Value = Attributes> {
    vec((text(), text()), 0..4)
}

fn events() -> impl Strategy<Value = Vec<OwnedEvent>> {
    let one = (text(), any::<(u32, u64, u64, u32)>(), option::of(bytes()), option::of(bytes()));
    let one = (one, headers(), attributes()).prop_map(
        |((topic, numbers, key, payload), headers, attributes)| OwnedEvent {
            topic,
            numbers,
            key,
            payload,
            headers,
            attributes,
        },
    );
    vec(one, 0..6)
}

fn outcomes() -> impl Strategy<Value = Vec<OwnedOutcome>> {
    let output = (option::of(text()), text(), option::of(bytes()), option::of(bytes()));
    let output = (output, headers(), attributes()).prop_map(
        |((connection, topic, key, payload), headers, attributes)| OwnedOutgoing {
            connection,
            topic,
            key,
            payload,
            headers,
            attributes,
        },
    );
    let one = prop_oneof![
        vec(output, 0..4).prop_map(OwnedOutcome::Handled),
        (text(), any::<Option<u64>>()).prop_map(|(reason, ms)| OwnedOutcome::Retry(reason, ms)),
        (text(), text()).prop_map(|(code, message)| OwnedOutcome::Reject(code, message)),
        text().prop_map(OwnedOutcome::Skip),
        any::<u64>().prop_map(OwnedOutcome::Defer),
    ];
    vec(one, 0..6)
}

fn header_refs(headers: &Headers) -> Vec<(&str, &[u8])> {
    headers.iter().map(|(n, v)| (n.as_str(), v.as_slice())).collect()
}

fn attribute_refs(attributes: &Attributes) -> Vec<(&str, &str)> {
    attributes.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect()
}

fn pack_events(events: &[OwnedEvent]) -> Vec<u8> {
    let mut frame = EventsWriter::with_capacity(0);
    for event in events {
        let (partition, position, timestamp_ms, attempt) = event.numbers;
        frame.push(Event {
            topic: &event.topic,
            partition,
            position,
            key: event.key.as_deref(),
            payload: event.payload.as_deref(),
            headers: header_refs(&event.headers),
            timestamp_ms,
            attempt,
            attributes: attribute_refs(&event.attributes),
        });
    }
    frame.finish()
}

fn pack_outcomes(outcomes: &[OwnedOutcome]) -> Vec<u8> {
    let mut frame = OutcomesWriter::with_capacity(0);
    for outcome in outcomes {
        match outcome {
            OwnedOutcome::Handled(outputs) => frame.handled(outputs.iter().map(|o| Outgoing {
                connection: o.connection.as_deref(),
                topic: &o.topic,
                key: o.key.as_deref(),
                payload: o.payload.as_deref(),
                headers: header_refs(&o.headers),
                attributes: attribute_refs(&o.attributes),
            })),
            OwnedOutcome::Retry(reason, delay_ms) => {
                frame.failed(Failure::Retry { reason, delay_ms: *delay_ms });
            }
            OwnedOutcome::Reject(code, message) => frame.failed(Failure::Reject { code, message }),
            OwnedOutcome::Skip(reason) => frame.failed(Failure::Skip { reason }),
            OwnedOutcome::Defer(pause_ms) => frame.failed(Failure::Defer { pause_ms: *pause_ms }),
        }
    }
    frame.finish()
}

fn header(name: &str, value: &[u8]) -> (String, Vec<u8>) {
    (name.to_owned(), value.to_owned())
}

fn attribute(name: &str, value: &str) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

fn unpack_events(frame: &[u8]) -> Result<Vec<OwnedEvent>, Malformed> {
    let mut events = Events::open(frame)?;
    let mut read = Vec::new();
    while let Some(event) = events.next(header, attribute) {
        let event = event?;
        read.push(OwnedEvent {
            topic: event.topic.to_owned(),
            numbers: (event.partition, event.position, event.timestamp_ms, event.attempt),
            key: event.key.map(<[u8]>::to_vec),
            payload: event.payload.map(<[u8]>::to_vec),
            headers: event.headers,
            attributes: event.attributes,
        });
    }
    Ok(read)
}

fn unpack_outcomes(frame: &[u8]) -> Result<Vec<OwnedOutcome>, Malformed> {
    let mut outcomes = Outcomes::open(frame)?;
    let mut read = Vec::new();
    while let Some(outcome) = outcomes.next(header, attribute) {
        read.push(match outcome? {
            Outcome::Handled(outputs) => {
                let owned = |o: Outgoing<'_, Headers, Attributes>| OwnedOutgoing {
                    connection: o.connection.map(str::to_owned),
                    topic: o.topic.to_owned(),
                    key: o.key.map(<[u8]>::to_vec),
                    payload: o.payload.map(<[u8]>::to_vec),
                    headers: o.headers,
                    attributes: o.attributes,
                };
                OwnedOutcome::Handled(outputs.into_iter().map(owned).collect())
            }
            Outcome::Failed(Failure::Retry { reason, delay_ms }) => {
                OwnedOutcome::Retry(reason.to_owned(), delay_ms)
            }
            Outcome::Failed(Failure::Reject { code, message }) => {
                OwnedOutcome::Reject(code.to_owned(), message.to_owned())
            }
            Outcome::Failed(Failure::Skip { reason }) => OwnedOutcome::Skip(reason.to_owned()),
            Outcome::Failed(Failure::Defer { pause_ms }) => OwnedOutcome::Defer(pause_ms),
        });
    }
    Ok(read)
}

proptest! {
    #[test]
    fn events_come_back_as_they_went(events in events()) {
        let frame = pack_events(&events);
        prop_assert_eq!(unpack_events(&frame), Ok(events));
    }

    #[test]
    fn outcomes_come_back_as_they_went(outcomes in outcomes()) {
        let frame = pack_outcomes(&outcomes);
        prop_assert_eq!(unpack_outcomes(&frame), Ok(outcomes));
    }

    /// What is read was all there: a frame that is accepted is the one that its content
    /// makes, but for what stands behind the missing delay of a retry.
    #[test]
    fn arbitrary_bytes_are_read_or_refused(tail in vec(any::<u8>(), 0..200), count in 0..4u8) {
        for version in [1, count] {
            let frame = [&[version, count, 0, 0, 0][..], &tail].concat();
            if let Ok(events) = unpack_events(&frame) {
                prop_assert_eq!(pack_events(&events), &*frame);
            }
            if let Ok(outcomes) = unpack_outcomes(&frame) {
                prop_assert_eq!(pack_outcomes(&outcomes).len(), frame.len());
            }
            let _ = (unpack_events(&tail), unpack_outcomes(&tail));
        }
    }

    #[test]
    fn a_frame_with_a_changed_byte_is_read_or_refused(
        (events, outcomes) in (events(), outcomes()), at in any::<Index>(), byte in any::<u8>(),
    ) {
        let change = |mut frame: Vec<u8>| {
            let at = at.index(frame.len());
            frame[at] = byte;
            frame
        };
        let frame = change(pack_events(&events));
        if let Ok(read) = unpack_events(&frame) {
            prop_assert_eq!(pack_events(&read), frame);
        }
        let frame = change(pack_outcomes(&outcomes));
        if let Ok(read) = unpack_outcomes(&frame) {
            prop_assert_eq!(pack_outcomes(&read).len(), frame.len());
        }
    }

    #[test]
    fn every_shorter_and_longer_frame_is_refused(events in events(), outcomes in outcomes()) {
        let (events, outcomes) = (pack_events(&events), pack_outcomes(&outcomes));
        for end in 0..events.len() {
            prop_assert!(unpack_events(&events[..end]).is_err());
        }
        for end in 0..outcomes.len() {
            prop_assert!(unpack_outcomes(&outcomes[..end]).is_err());
        }
        prop_assert!(unpack_events(&[&events[..], &[0]].concat()).is_err());
        prop_assert!(unpack_outcomes(&[&outcomes[..], &[0]].concat()).is_err());
    }
}

#[test]
fn reading_borrows_from_the_frame() {
    let event = OwnedEvent {
        topic: "t".into(),
        numbers: (1, 2, 3, 4),
        key: Some(b"k".to_vec()),
        payload: Some(b"p".to_vec()),
        headers: vec![("h".into(), b"v".to_vec())],
        attributes: vec![("a".into(), "b".into())],
    };
    let frame = pack_events(&[event]);
    let event = Events::open(&frame).unwrap().next(|n, v| (n, v), |n, v| (n, v)).unwrap().unwrap();
    let within = frame.as_ptr_range();
    let (header, attribute) = (event.headers[0], event.attributes[0]);
    for part in [event.topic.as_bytes(), event.key.unwrap(), event.payload.unwrap()] {
        assert!(within.contains(&part.as_ptr()));
    }
    for part in [header.0.as_bytes(), header.1, attribute.0.as_bytes(), attribute.1.as_bytes()] {
        assert!(within.contains(&part.as_ptr()));
    }
}

#[test]
fn what_is_wrong_is_told_with_its_place() {
    let said = |frame: &[u8]| unpack_outcomes(frame).unwrap_err().to_string();
    assert_eq!(said(&[]), "an empty frame");
    assert_eq!(said(&[2, 0, 0, 0, 0]), "a frame of version 2, version 1 was expected");
    assert_eq!(said(&[1, 0]), "the frame ends within the number of items at byte 1");
    assert_eq!(said(&[1, 0, 0, 0, 0, 9, 9]), "2 bytes follow the last item");
    assert_eq!(said(&[1, 1, 0, 0, 0, 7]), "7 at byte 5 is no outcome");
    assert_eq!(said(&[1, 1, 0, 0, 0, 3, 1, 0, 0, 0, 0xff]), "the reason at byte 6 is no UTF-8");
    // four billion outputs in no bytes: nothing is reserved for them
    let flood = [1, 1, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff];
    assert_eq!(said(&flood), "the frame ends within the outputs at byte 6");
}

/// The bytes of docs/packed-frames.md.
#[test]
fn the_documented_example_is_what_is_written() {
    let mut frame = EventsWriter::with_capacity(0);
    frame.push(Event {
        topic: "t",
        partition: 3,
        position: 7,
        key: None,
        payload: Some(b"hi"),
        headers: [("h", &b""[..])],
        timestamp_ms: 9,
        attempt: 1,
        attributes: [],
    });
    #[rustfmt::skip]
    let expected = [
        1,  1, 0, 0, 0,
        7, 0, 0, 0, 0, 0, 0, 0,  9, 0, 0, 0, 0, 0, 0, 0,  3, 0, 0, 0,  1, 0, 0, 0,
        1, 0, 0, 0, b't',
        0xff, 0xff, 0xff, 0xff,
        2, 0, 0, 0, b'h', b'i',
        1, 0, 0, 0,  1, 0, 0, 0, b'h',  0, 0, 0, 0,
        0, 0, 0, 0,
    ];
    assert_eq!(frame.finish(), expected);

    let mut frame = OutcomesWriter::with_capacity(0);
    frame.handled([Outgoing {
        connection: None,
        topic: "o",
        key: None,
        payload: Some(b"hi"),
        headers: [],
        attributes: [],
    }]);
    frame.failed(Failure::Skip { reason: "no" });
    #[rustfmt::skip]
    let expected = [
        1,  2, 0, 0, 0,
        0,  1, 0, 0, 0,
        0xff, 0xff, 0xff, 0xff,  1, 0, 0, 0, b'o',  0xff, 0xff, 0xff, 0xff,
        2, 0, 0, 0, b'h', b'i',  0, 0, 0, 0,  0, 0, 0, 0,
        3,  2, 0, 0, 0, b'n', b'o',
    ];
    assert_eq!(frame.finish(), expected);
}
