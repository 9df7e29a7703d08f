//! Between the pipeline's types and the plugin's.

use std::time::Duration;

use bytes::Bytes;
use sandbar_core::{Call, ErrorClass, HandlerError, Header, Outcome, Outgoing, Verdict};
use sandbar_frame::Failure;

use crate::{
    Limits,
    bindings::sandbar::events::types::{self, HeaderParam},
    failure,
    limits::LimitHit,
};

/// Longest text taken from a plugin for people, in bytes.
pub(crate) const LONGEST_MESSAGE: usize = 16 << 10;
/// Longest topic that a plugin may return, in bytes: no broker's names are longer.
const LONGEST_TOPIC: usize = 255;
/// Headers and attributes that one event may have. An empty one has no bytes to count.
const MOST_HEADERS: usize = 1000;
/// Longest code of a rejection, in bytes.
const LONGEST_CODE: usize = 128;

/// The lists of an event in the shape that the guest's memory is filled from.
pub(crate) struct Lists<'a> {
    headers: Vec<HeaderParam<'a>>,
    attributes: Vec<(&'a str, &'a str)>,
}

impl<'a> Lists<'a> {
    pub(crate) fn of(call: &'a Call) -> Self {
        let header = |h: &'a Header| HeaderParam {
            name: &h.name,
            // the contract has no null header
            value: h.value.as_deref().unwrap_or_default(),
        };
        Self {
            headers: call.event.headers.iter().map(header).collect(),
            attributes: call.event.attributes.iter().map(|(n, v)| (&**n, &**v)).collect(),
        }
    }

    pub(crate) fn event(&'a self, call: &'a Call) -> types::Event<'a> {
        types::Event {
            topic: &call.event.topic,
            partition: call.event.partition,
            position: call.event.position,
            key: call.event.key.as_deref(),
            payload: call.event.payload.as_deref(),
            headers: &self.headers,
            timestamp_ms: call.event.timestamp_ms,
            attempt: call.attempt,
            attributes: &self.attributes,
        }
    }
}

/// What counts towards the limits on outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Used {
    pub(crate) records: usize,
    pub(crate) bytes: usize,
}

impl Used {
    /// With `more` events.
    pub(crate) fn and(self, more: &[types::Outgoing]) -> Self {
        let bytes = more.iter().map(size).sum::<usize>();
        Self { records: self.records + more.len(), bytes: self.bytes + bytes }
    }
}

/// Takes over what a plugin said of one event, of whose limits so much was `used` before.
/// The outer error is for what it said against its limits.
pub(crate) fn outcome(
    said: Result<Vec<types::Outgoing>, types::Failure>,
    limits: &Limits,
    used: Used,
) -> Result<Outcome, HandlerError> {
    match said {
        Ok(returned) => outputs(returned, limits, used)
            .map(|outputs| Ok(outputs.into()))
            .map_err(|hit| failure::output(&hit)),
        Err(said) => Ok(Err(failed(borrowed(&said)))),
    }
}

fn outputs(
    returned: Vec<types::Outgoing>,
    limits: &Limits,
    used: Used,
) -> Result<Vec<Outgoing>, LimitHit> {
    let shapes = returned.iter().map(|o| (&*o.topic, o.headers.len() + o.attributes.len()));
    within(limits, used.and(&returned), shapes)?;
    Ok(returned.into_iter().map(outgoing).collect())
}

/// Whether one event may return so much, in events with these topics and so many headers and
/// attributes.
pub(crate) fn within<'a>(
    limits: &Limits,
    returned: Used,
    shapes: impl IntoIterator<Item = (&'a str, usize)>,
) -> Result<(), LimitHit> {
    let Used { records, bytes } = returned;
    if records > limits.output_records {
        let limit = limits.output_records;
        return Err(LimitHit::OutputRecords { returned: records, limit });
    }
    for (topic, headers) in shapes {
        check_shape(topic, headers)?;
    }
    if bytes > limits.output_bytes {
        return Err(LimitHit::OutputBytes { returned: bytes, limit: limits.output_bytes });
    }
    Ok(())
}

/// Whether the topic, and the number of headers and attributes, are what a broker takes.
pub(crate) fn check_shape(topic: &str, headers: usize) -> Result<(), LimitHit> {
    if topic.len() > LONGEST_TOPIC {
        return Err(LimitHit::Topic { bytes: topic.len(), limit: LONGEST_TOPIC });
    }
    if headers > MOST_HEADERS {
        return Err(LimitHit::Headers { returned: headers, limit: MOST_HEADERS });
    }
    Ok(())
}

fn size(returned: &types::Outgoing) -> usize {
    let bytes = |part: &Option<Vec<u8>>| part.as_ref().map_or(0, Vec::len);
    returned.topic.len()
        + returned.connection.as_ref().map_or(0, String::len)
        + bytes(&returned.key)
        + bytes(&returned.payload)
        + returned.headers.iter().map(|h| h.name.len() + h.value.len()).sum::<usize>()
        + returned.attributes.iter().map(|(n, v)| n.len() + v.len()).sum::<usize>()
}

pub(crate) fn outgoing(returned: types::Outgoing) -> Outgoing {
    Outgoing {
        connection: returned.connection.map(Into::into),
        topic: returned.topic.into(),
        key: returned.key.map(Bytes::from),
        payload: returned.payload.map(Bytes::from),
        headers: returned.headers.into_iter().map(|h| Header::new(h.name, h.value)).collect(),
        attributes: returned.attributes,
    }
}

fn borrowed(said: &types::Failure) -> Failure<'_> {
    match said {
        types::Failure::Retry(hint) => {
            Failure::Retry { reason: &hint.reason, delay_ms: hint.delay_ms }
        }
        types::Failure::Reject(reason) => {
            Failure::Reject { code: &reason.code, message: &reason.message }
        }
        types::Failure::Skip(reason) => Failure::Skip { reason },
        types::Failure::Defer(ms) => Failure::Defer { pause_ms: *ms },
    }
}

/// The plugin's own word on why it did not process an event.
pub(crate) fn failed(said: Failure<'_>) -> HandlerError {
    let error = |verdict, message: &str| {
        HandlerError::new(ErrorClass::Handler, verdict, truncated(message, LONGEST_MESSAGE))
    };
    match said {
        Failure::Retry { reason, delay_ms } => {
            let after = delay_ms.map(Duration::from_millis);
            error(Verdict::Retry { after }, reason)
        }
        Failure::Reject { code, message } => HandlerError {
            code: truncated(code, LONGEST_CODE).to_owned(),
            ..error(Verdict::Reject, message)
        },
        Failure::Skip { reason } => error(Verdict::Skip, reason),
        Failure::Defer { pause_ms } => {
            let pause = Duration::from_millis(pause_ms);
            error(Verdict::Defer { pause }, "a dependency of the plugin is down")
        }
    }
}

/// At most `max` bytes of `text`, whole characters.
pub(crate) fn truncated(text: &str, max: usize) -> &str {
    &text[..text.floor_char_boundary(max)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn returned(payload: usize) -> types::Outgoing {
        types::Outgoing {
            connection: None,
            topic: "out".into(),
            key: None,
            payload: Some(vec![0; payload]),
            headers: vec![types::HeaderResult { name: "h".into(), value: vec![1, 2] }],
            attributes: vec![("type".into(), "t".into())],
        }
    }

    #[test]
    fn s2_outputs_are_counted_with_all_their_parts() {
        let limits = Limits { output_bytes: 20, output_records: 2, ..Limits::default() };
        // topic 3, header 3, attribute 5
        let none = Used::default();
        assert_eq!(outputs(vec![returned(9)], &limits, none).unwrap().len(), 1);
        assert_eq!(
            outputs(vec![returned(10)], &limits, none),
            Err(LimitHit::OutputBytes { returned: 21, limit: 20 })
        );
        assert_eq!(
            outputs(vec![returned(0), returned(0), returned(0)], &limits, none),
            Err(LimitHit::OutputRecords { returned: 3, limit: 2 })
        );
        // together with what was published during the call
        let used = Used { records: 2, bytes: 0 };
        assert!(outputs(vec![returned(0)], &limits, used).is_err());
    }

    #[test]
    fn r3_a_rejection_keeps_its_code_within_bounds() {
        let code = "é".repeat(100);
        let error = failed(Failure::Reject { code: &code, message: "m" });
        assert_eq!(error.verdict, Verdict::Reject);
        assert_eq!(error.code, "é".repeat(64));
    }
}
