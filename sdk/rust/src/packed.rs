//! Packed frames: many events in one list of bytes, and their outcomes in another. Texts and
//! bytes of the events are parts of their frame.

use std::sync::Arc;

use sandbar_frame as frame;

use crate::{Bytes, Event, Failure, Header, Outcome, Outgoing, Text, failure::millis};

/// Handles the events of a frame one after another.
///
/// # Panics
/// Where the host has written no frame.
pub(crate) fn each(events: Vec<u8>, mut handle: impl FnMut(Event) -> Outcome) -> Vec<u8> {
    let mut outcomes = outcomes_of(&events);
    let whole = Arc::new(events);
    let mut events = open(&whole);
    while let Some(event) = next(&mut events, &whole) {
        write(&mut outcomes, handle(event));
    }
    outcomes.finish()
}

/// Handles the events of a frame together.
///
/// # Panics
/// Where the host has written no frame.
pub(crate) fn whole(events: Vec<u8>, handle: impl FnOnce(Vec<Event>) -> Vec<Outcome>) -> Vec<u8> {
    let mut outcomes = outcomes_of(&events);
    let whole = Arc::new(events);
    let mut events = open(&whole);
    let batch = std::iter::from_fn(|| next(&mut events, &whole)).collect();
    handle(batch).into_iter().for_each(|outcome| write(&mut outcomes, outcome));
    outcomes.finish()
}

/// Room for about as much as came: most handlers pass on what they get.
fn outcomes_of(events: &[u8]) -> frame::OutcomesWriter {
    frame::OutcomesWriter::with_capacity(events.len())
}

fn open(events: &[u8]) -> frame::Events<'_> {
    frame::Events::open(events).unwrap_or_else(|error| not_a_frame(&error))
}

fn next(events: &mut frame::Events<'_>, whole: &Arc<Vec<u8>>) -> Option<Event> {
    let text = |text: &str| Text::part(whole, text);
    let bytes = |bytes: &[u8]| Bytes::part(whole, bytes);
    let header = |name: &str, value: &[u8]| Header { name: text(name), value: bytes(value) };
    let attribute = |name: &str, value: &str| (text(name), text(value));
    let event = events.next(header, attribute)?.unwrap_or_else(|error| not_a_frame(&error));
    Some(Event {
        topic: text(event.topic),
        partition: event.partition,
        position: event.position,
        key: event.key.map(bytes),
        payload: event.payload.map(bytes),
        headers: event.headers,
        timestamp_ms: event.timestamp_ms,
        attempt: event.attempt,
        attributes: event.attributes,
    })
}

#[cold]
fn not_a_frame(error: &frame::Malformed) -> ! {
    panic!("the host's frame of events cannot be read: {error}")
}

fn write(outcomes: &mut frame::OutcomesWriter, outcome: Outcome) {
    match outcome {
        Ok(outputs) => outcomes.handled(outputs.iter().map(outgoing)),
        Err(Failure::Retry { reason, after }) => {
            let delay_ms = after.map(millis);
            outcomes.failed(frame::Failure::Retry { reason: &reason, delay_ms });
        }
        Err(Failure::Reject { code, message }) => {
            outcomes.failed(frame::Failure::Reject { code: &code, message: &message });
        }
        Err(Failure::Skip { reason }) => {
            outcomes.failed(frame::Failure::Skip { reason: &reason });
        }
        Err(Failure::Defer { pause }) => {
            outcomes.failed(frame::Failure::Defer { pause_ms: millis(pause) });
        }
    }
}

fn outgoing(
    event: &Outgoing,
) -> frame::Outgoing<
    '_,
    impl ExactSizeIterator<Item = (&str, &[u8])>,
    impl ExactSizeIterator<Item = (&str, &str)>,
> {
    frame::Outgoing {
        connection: event.connection.as_deref(),
        topic: &event.topic,
        key: event.key.as_deref(),
        payload: event.payload.as_deref(),
        headers: event.headers.iter().map(|h| (&*h.name, &*h.value)),
        attributes: event.attributes.iter().map(|(n, v)| (&**n, &**v)),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// As the host does it.
    fn pack(events: &[Event]) -> Vec<u8> {
        let mut frame = frame::EventsWriter::with_capacity(0);
        for event in events {
            frame.push(frame::Event {
                topic: &event.topic,
                partition: event.partition,
                position: event.position,
                key: event.key.as_deref(),
                payload: event.payload.as_deref(),
                headers: event.headers.iter().map(|h| (&*h.name, &*h.value)),
                timestamp_ms: event.timestamp_ms,
                attempt: event.attempt,
                attributes: event.attributes.iter().map(|(n, v)| (&**n, &**v)),
            });
        }
        frame.finish()
    }

    fn events() -> [Event; 2] {
        let full = Event::new("t")
            .at(3, 7)
            .on_attempt(2)
            .with_key("k")
            .with_text("p")
            .with_header("h", [0xff])
            .with_attribute("id", "1");
        [full, Event::new("tombstone")]
    }

    #[test]
    fn events_reach_the_handler_as_they_were_and_without_a_copy() {
        let frame = pack(&events());
        let within = frame.as_ptr_range();
        let mut seen = Vec::new();
        each(frame, |event| {
            let payload = event.payload.as_deref().map(<[u8]>::as_ptr);
            assert!(payload.is_none_or(|at| within.contains(&at)));
            seen.push(event);
            Ok(Vec::new())
        });
        assert_eq!(seen, events(), "also when the call is over");
        whole(pack(&events()), |batch| {
            assert_eq!(batch, events());
            Vec::new()
        });
    }

    #[test]
    fn every_outcome_reaches_the_host() {
        let output = Outgoing::new("o")
            .connection("c")
            .key("k")
            .text("p")
            .header("h", "v")
            .attribute("type", "t");
        let outcomes = [
            Ok(vec![output, Outgoing::new("tombstone")]),
            Ok(Vec::new()),
            Err(Failure::retry("later")),
            Err(Failure::retry("later").after(Duration::from_secs(1))),
            Err(Failure::reject("code", "message")),
            Err(Failure::skip("not mine")),
            Err(Failure::defer(Duration::from_secs(2))),
        ];
        let events = vec![Event::new("t"); outcomes.len()];
        let mut next = outcomes.clone().into_iter();
        let frame = each(pack(&events), |_| next.next().unwrap());
        assert_eq!(frame, whole(pack(&events), |_| outcomes.to_vec()));

        let mut read = frame::Outcomes::open(&frame).unwrap();
        let mut said = Vec::new();
        while let Some(outcome) = read.next(|n, v| (n, v), |n, v| (n, v)) {
            said.push(outcome.unwrap());
        }
        let full = frame::Outgoing {
            connection: Some("c"),
            topic: "o",
            key: Some(&b"k"[..]),
            payload: Some(&b"p"[..]),
            headers: vec![("h", &b"v"[..])],
            attributes: vec![("type", "t")],
        };
        let empty = frame::Outgoing {
            connection: None,
            topic: "tombstone",
            key: None,
            payload: None,
            headers: Vec::new(),
            attributes: Vec::new(),
        };
        use frame::{Failure as F, Outcome::*};
        let expected = [
            Handled(vec![full, empty]),
            Handled(Vec::new()),
            Failed(F::Retry { reason: "later", delay_ms: None }),
            Failed(F::Retry { reason: "later", delay_ms: Some(1000) }),
            Failed(F::Reject { code: "code", message: "message" }),
            Failed(F::Skip { reason: "not mine" }),
            Failed(F::Defer { pause_ms: 2000 }),
        ];
        assert_eq!(said, expected);
    }

    #[test]
    #[should_panic(expected = "the host's frame of events cannot be read: an empty frame")]
    fn what_is_no_frame_is_told() {
        each(Vec::new(), |_| Ok(Vec::new()));
    }
}
