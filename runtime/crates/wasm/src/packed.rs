//! Packed frames on the host's side: calls in, outcomes out. What is read borrows from
//! the frame; what is published are slices of it.

use std::sync::Arc;

use bytes::Bytes;
use sandbar_core::{Call, HandlerError, Header, Outcome, Outgoing};
use sandbar_frame::{self as frame, Malformed};

use crate::{
    Limits,
    convert::{self, Used},
    failure,
};

/// Most bytes of events in one frame, but for a single event that is larger: what fits
/// into a core's own cache on its way.
const MOST_BYTES: usize = 256 << 10;
/// Bytes of an event beside its texts and bytes, roughly; for each header and attribute too.
const AROUND: usize = 48;
/// Names of topics and headers that are remembered while a frame is read.
const NAMES: usize = 8;

/// How many of `calls` go into one frame; at least one.
pub(crate) fn fit(calls: &[&Call]) -> usize {
    let mut bytes = 0;
    let more = calls.iter().take_while(|call| {
        bytes += size(call);
        bytes <= MOST_BYTES
    });
    more.count().max(1)
}

/// Bytes of a call in a frame, about.
fn size(call: &Call) -> usize {
    let event = &call.event;
    let attributes = event.attributes.iter().map(|(n, v)| n.len() + v.len() + AROUND);
    AROUND * (1 + event.headers.len())
        + event.topic.len()
        + event.size()
        + attributes.sum::<usize>()
}

/// The frame of `calls`.
pub(crate) fn events(calls: &[&Call]) -> Vec<u8> {
    let mut packed = frame::EventsWriter::with_capacity(calls.iter().copied().map(size).sum());
    for Call { event, attempt, .. } in calls {
        packed.push(frame::Event {
            topic: &event.topic,
            partition: event.partition,
            position: event.position,
            key: event.key.as_deref(),
            payload: event.payload.as_deref(),
            // the contract has no null header
            headers: event.headers.iter().map(|h| (&*h.name, h.value.as_deref().unwrap_or(&[]))),
            timestamp_ms: event.timestamp_ms,
            attempt: *attempt,
            attributes: event.attributes.iter().map(|(n, v)| (n.as_str(), v.as_str())),
        });
    }
    packed.finish()
}

/// A frame of outcomes as it came from a plugin: not trusted in anything.
pub(crate) struct Outcomes<'a> {
    whole: &'a Bytes,
    rest: frame::Outcomes<'a>,
    names: Vec<Arc<str>>,
}

impl<'a> Outcomes<'a> {
    pub(crate) fn open(whole: &'a Bytes) -> Result<Self, Malformed> {
        Ok(Self { whole, rest: frame::Outcomes::open(whole)?, names: Vec::new() })
    }

    /// Number of outcomes, by what the frame says.
    pub(crate) fn len(&self) -> usize {
        self.rest.remaining()
    }

    /// The next outcome, of whose limits so much was `used` before; the inner error is for what the plugin said against its limits.
    pub(crate) fn next(
        &mut self,
        limits: &Limits,
        used: Used,
    ) -> Option<Result<Result<Outcome, HandlerError>, Malformed>> {
        let Self { whole, rest, names } = self;
        let header =
            |name, value| Header { name: shared(names, name), value: Some(whole.slice_ref(value)) };
        let attribute = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let outputs = match rest.next(header, attribute)? {
            Ok(frame::Outcome::Handled(outputs)) => outputs,
            Ok(frame::Outcome::Failed(said)) => return Some(Ok(Ok(Err(convert::failed(said))))),
            Err(malformed) => return Some(Err(malformed)),
        };
        let returned = Used {
            records: used.records + outputs.len(),
            bytes: used.bytes + outputs.iter().map(output_size).sum::<usize>(),
        };
        let shapes = outputs.iter().map(|o| (o.topic, o.headers.len() + o.attributes.len()));
        if let Err(hit) = convert::within(limits, returned, shapes) {
            return Some(Ok(Err(failure::output(&hit))));
        }
        let outgoing = |output: frame::Outgoing<'_, _, _>| Outgoing {
            connection: output.connection.map(|name| shared(names, name)),
            topic: shared(names, output.topic),
            key: output.key.map(|key| whole.slice_ref(key)),
            payload: output.payload.map(|payload| whole.slice_ref(payload)),
            headers: output.headers,
            attributes: output.attributes,
        };
        let outputs: Vec<_> = outputs.into_iter().map(outgoing).collect();
        Some(Ok(Ok(Ok(outputs.into()))))
    }
}

type Output<'a> = frame::Outgoing<'a, Vec<Header>, Vec<(String, String)>>;

/// As `limits.output-bytes` counts it.
fn output_size(output: &Output<'_>) -> usize {
    let value = |h: &Header| h.value.as_ref().map_or(0, Bytes::len);
    output.topic.len()
        + output.connection.map_or(0, str::len)
        + output.key.map_or(0, <[u8]>::len)
        + output.payload.map_or(0, <[u8]>::len)
        + output.headers.iter().map(|h| h.name.len() + value(h)).sum::<usize>()
        + output.attributes.iter().map(|(n, v)| n.len() + v.len()).sum::<usize>()
}

/// `name` once for all outputs of a frame that use it.
fn shared(names: &mut Vec<Arc<str>>, name: &str) -> Arc<str> {
    if let Some(known) = names.iter().find(|known| &***known == name) {
        return Arc::clone(known);
    }
    let name: Arc<str> = name.into();
    if names.len() < NAMES {
        names.push(Arc::clone(&name));
    }
    name
}

#[cfg(test)]
mod tests {
    use sandbar_core::{ErrorClass, Event, Verdict};

    use super::*;

    fn call(payload: usize) -> Call {
        let event = Event {
            topic: "in".into(),
            partition: 3,
            position: 7,
            key: Some(Bytes::from_static(b"k")),
            payload: Some(vec![7; payload].into()),
            headers: [Header::new("h", vec![1]), Header { name: "null".into(), value: None }]
                .into(),
            timestamp_ms: 9,
            attributes: [("id".into(), "1".into())].into(),
        };
        Call { event, attempt: 2 }
    }

    #[test]
    fn frames_are_filled_up_to_their_cap_and_a_large_event_goes_alone() {
        let kib = call(1000);
        let kib = vec![&kib; 400];
        let fits = fit(&kib);
        assert!((200..260).contains(&fits), "{fits}");
        assert!(events(&kib[..fits]).len() <= MOST_BYTES);
        let (large, small) = (call(1 << 20), call(0));
        assert_eq!(fit(&[&large, &small]), 1);
        assert_eq!(fit(&[&small, &large]), 1);
        assert_eq!(fit(&[&small, &small]), 2);
    }

    #[test]
    fn a_null_header_arrives_as_an_empty_one_and_the_rest_as_it_is() {
        let packed = events(&[&call(2)]);
        let mut read = frame::Events::open(&packed).unwrap();
        let event = read.next(|n, v| (n, v), |n, v| (n, v)).unwrap().unwrap();
        let expected = frame::Event {
            topic: "in",
            partition: 3,
            position: 7,
            key: Some(&b"k"[..]),
            payload: Some(&[7, 7][..]),
            headers: vec![("h", &[1][..]), ("null", &[][..])],
            timestamp_ms: 9,
            attempt: 2,
            attributes: vec![("id", "1")],
        };
        assert_eq!(event, expected);
    }

    #[expect(clippy::type_complexity, reason = "a frame's outgoing event, spelled out once")]
    fn returned(payload: &[u8]) -> frame::Outgoing<'_, [(&str, &[u8]); 1], [(&str, &str); 1]> {
        frame::Outgoing {
            connection: None,
            topic: "out",
            key: None,
            payload: Some(payload),
            headers: [("h", &[1, 2])],
            attributes: [("type", "t")],
        }
    }

    #[test]
    fn outputs_are_slices_of_the_frame_and_share_their_names() {
        let mut packed = frame::OutcomesWriter::with_capacity(0);
        packed.handled([returned(b"one"), returned(b"two")]);
        let whole = Bytes::from(packed.finish());
        let mut outcomes = Outcomes::open(&whole).unwrap();
        let outputs = outcomes.next(&Limits::default(), Used::default());
        let outputs = outputs.unwrap().unwrap().unwrap().unwrap().outputs;
        let [one, two] = &outputs[..] else { panic!("two events were returned") };
        assert_eq!(
            (one.payload.as_deref(), two.payload.as_deref()),
            (Some(&b"one"[..]), Some(&b"two"[..]))
        );
        assert!(whole.as_ptr_range().contains(&one.payload.as_ref().unwrap().as_ptr()));
        assert!(Arc::ptr_eq(&one.topic, &two.topic));
        assert!(Arc::ptr_eq(&one.headers[0].name, &two.headers[0].name));
        assert_eq!(one.attributes, [("type".to_owned(), "t".to_owned())]);
        assert!(outcomes.next(&Limits::default(), Used::default()).is_none());
    }

    #[test]
    fn s2_limits_are_those_of_each_event() {
        let limits = Limits { output_bytes: 20, output_records: 2, ..Limits::default() };
        let mut packed = frame::OutcomesWriter::with_capacity(0);
        // topic 3, header 3, attribute 5
        packed.handled([returned(&[0; 9])]);
        packed.handled([returned(&[0; 10])]);
        packed.handled([returned(&[]), returned(&[]), returned(&[])]);
        packed.failed(frame::Failure::Reject { code: "c", message: "m" });
        let whole = Bytes::from(packed.finish());
        let mut outcomes = Outcomes::open(&whole).unwrap();
        assert_eq!(outcomes.len(), 4);
        let mut next = || outcomes.next(&limits, Used::default()).unwrap().unwrap();
        assert_eq!(next().unwrap().unwrap().outputs.len(), 1);
        let error = next().unwrap_err();
        assert_eq!(error.class, ErrorClass::Output);
        assert_eq!(error.message, "returned 21 bytes, more than 20 (limits.output-bytes)");
        let error = next().unwrap_err();
        assert_eq!(error.message, "returned 3 events, more than 2 (limits.output-records)");
        let rejected = next().unwrap().unwrap_err();
        assert_eq!((rejected.verdict, rejected.code.as_str()), (Verdict::Reject, "c"));
    }
}
