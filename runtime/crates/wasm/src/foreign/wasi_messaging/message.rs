//! A message, and its way from an event and to an output.

use std::sync::Arc;

use bytes::Bytes;
use sandbar_core::{Call, Header, Outgoing};

/// What stands before the name of a CloudEvents attribute.
const ATTRIBUTE: &str = "ce-";
/// What stands before the name of a fact of the host.
const FACT: &str = "sandbar-";
const KEY: &str = "sandbar-key";
/// In hexadecimal digits, where a key is no text.
const KEY_BYTES: &str = "sandbar-key-hex";
/// There where the payload is not, rather than empty.
const TOMBSTONE: &str = "sandbar-tombstone";
/// The header or attribute that says what the data is.
const CONTENT_TYPE: (&str, &str) = ("content-type", "datacontenttype");

/// A message that the component has a handle to.
pub struct Message {
    pub(super) topic: Option<Arc<str>>,
    pub(super) content_type: Option<String>,
    pub(super) data: Bytes,
    pub(super) metadata: Vec<(String, String)>,
}

impl Message {
    pub(super) fn new(data: Vec<u8>) -> Self {
        Self { topic: None, content_type: None, data: data.into(), metadata: Vec::new() }
    }

    /// The event, with all that is known of it as metadata: its headers by their names, its
    /// CloudEvents attributes as `ce-NAME`, and facts of the host as `sandbar-NAME`.
    pub(super) fn of(call: &Call) -> Self {
        let event = &call.event;
        let header = |h: &Header| {
            let value = h.value.as_deref().unwrap_or_default();
            (h.name.to_string(), String::from_utf8_lossy(value).into_owned())
        };
        let mut metadata: Vec<_> = event.headers.iter().map(header).collect();
        let attributes = event.attributes.iter();
        metadata.extend(attributes.map(|(n, v)| (format!("{ATTRIBUTE}{n}"), v.clone())));
        let mut fact = |name: &str, value: String| metadata.push((name.to_owned(), value));
        match event.key.as_deref().map(|key| (key, str::from_utf8(key))) {
            Some((_, Ok(text))) => fact(KEY, text.to_owned()),
            Some((key, Err(_))) => fact(KEY_BYTES, to_hex(key)),
            None => {}
        }
        if event.payload.is_none() {
            fact(TOMBSTONE, "true".into());
        }
        fact("sandbar-partition", event.partition.to_string());
        fact("sandbar-offset", event.position.to_string());
        fact("sandbar-timestamp-ms", event.timestamp_ms.to_string());
        fact("sandbar-attempt", call.attempt.to_string());
        fact("sandbar-id", event.id());

        let (header, attribute) = CONTENT_TYPE;
        let said = event.attribute(attribute).map(str::to_owned);
        let content_type = said.or_else(|| {
            let value = event.header(header)?.value.as_deref()?;
            Some(String::from_utf8_lossy(value).into_owned())
        });
        Self {
            topic: Some(Arc::clone(&event.topic)),
            content_type,
            data: event.payload.clone().unwrap_or_default(),
            metadata,
        }
    }

    /// The way back: a message that came in and is passed on keeps its key, its headers and
    /// its attributes; of the other facts of the host none is true of the new event.
    pub(super) fn into_output(self, topic: String) -> Outgoing {
        let mut output = Outgoing::new(topic, self.data);
        for (name, value) in self.metadata {
            if let Some(attribute) = name.strip_prefix(ATTRIBUTE) {
                output.attributes.push((attribute.to_owned(), value));
            } else if name == KEY {
                output.key = Some(value.into());
            } else if name == KEY_BYTES {
                output.key = from_hex(&value);
            } else if name == TOMBSTONE {
                output.payload = output.payload.filter(|payload| !payload.is_empty());
            } else if !name.starts_with(FACT) {
                output.headers.push(Header::new(name, value));
            }
        }
        if let Some(content_type) = self.content_type {
            let (header, attribute) = CONTENT_TYPE;
            if output.attributes.is_empty() {
                output.headers.retain(|h| !h.name.eq_ignore_ascii_case(header));
                output.headers.push(Header::new(header, content_type));
            } else {
                output.attributes.retain(|(name, _)| name != attribute);
                output.attributes.push((attribute.to_owned(), content_type));
            }
        }
        output
    }

    /// Bytes that it takes of the host's memory, about.
    pub(super) fn size(&self) -> usize {
        const ENTRY: usize = size_of::<(String, String)>();
        let entries = self.metadata.iter().map(|(name, value)| name.len() + value.len() + ENTRY);
        size_of::<Self>()
            + self.content_type.as_ref().map_or(0, String::len)
            + self.data.len()
            + entries.sum::<usize>()
    }
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(text: &str) -> Option<Bytes> {
    let digits = text.as_bytes().chunks(2);
    digits.map(|pair| u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use sandbar_core::Event;

    use super::*;

    fn call(key: &[u8], payload: Option<&str>) -> Call {
        let event = Event {
            topic: "in".into(),
            partition: 3,
            position: 7,
            key: Some(Bytes::copy_from_slice(key)),
            payload: payload.map(|text| Bytes::copy_from_slice(text.as_bytes())),
            headers: [Header::new("h", "1"), Header { name: "null".into(), value: None }].into(),
            timestamp_ms: 5,
            attributes: [("type".into(), "t".into())].into(),
        };
        Call { event, attempt: 2 }
    }

    #[test]
    fn an_event_becomes_a_message_with_all_that_is_known() {
        let message = Message::of(&call(b"k", Some("data")));
        let metadata: Vec<_> = message.metadata.iter().map(|(n, v)| format!("{n} = {v}")).collect();
        insta::assert_snapshot!(metadata.join("\n"), @"
        h = 1
        null = 
        ce-type = t
        sandbar-key = k
        sandbar-partition = 3
        sandbar-offset = 7
        sandbar-timestamp-ms = 5
        sandbar-attempt = 2
        sandbar-id = in/3/7
        ");
        assert_eq!((message.topic.as_deref(), &message.data[..]), (Some("in"), &b"data"[..]));
    }

    #[test]
    fn a_message_that_is_passed_on_keeps_key_headers_and_attributes() {
        for (key, payload) in [(&b"k"[..], Some("data")), (&[0xff, 0], None)] {
            let mut message = Message::of(&call(key, payload));
            message.content_type = Some("text/plain".into());
            let output = message.into_output("out".into());
            assert_eq!(output.key.as_deref(), Some(key));
            assert_eq!(output.payload.as_deref(), payload.map(str::as_bytes));
            assert_eq!(output.headers, [Header::new("h", "1"), Header::new("null", "")]);
            let attributes = [("type", "t"), ("datacontenttype", "text/plain")];
            assert_eq!(output.attributes, attributes.map(|(n, v)| (n.into(), v.into())));
        }
    }

    #[test]
    fn a_plain_message_says_what_it_is_in_a_header() {
        let mut message = Message::new(b"{}".to_vec());
        message.content_type = Some("application/json".into());
        let output = message.into_output("out".into());
        assert_eq!(output.headers, [Header::new("content-type", "application/json")]);
        assert_eq!((output.key, output.payload), (None, Some("{}".into())));
    }
}
