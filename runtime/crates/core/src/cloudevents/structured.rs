//! Structured content mode: the whole event as JSON in the payload.

use std::collections::BTreeMap;

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use serde_json::value::RawValue;

use super::is_structured;
use crate::Event;

/// Why a payload that claims to be a CloudEvent is none.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// The payload is no JSON object.
    #[error("payload is no CloudEvent in JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// A required attribute is missing or empty.
    #[error("CloudEvent lacks the required attribute `{0}`")]
    Missing(&'static str),
    /// Another major version of the specification.
    #[error("CloudEvent has specversion `{0}`, and only 1.x is known")]
    Version(String),
    /// An attribute that is no string, number or boolean.
    #[error("CloudEvent attribute `{0}` is no string, number or boolean")]
    Attribute(String),
    /// Both `data` and `data_base64`, or the latter is no base64.
    #[error("CloudEvent data: {0}")]
    Data(String),
}

/// The event inside of an envelope in structured JSON mode, with the envelope's
/// attributes and its data as payload; `None` where the content type says that the
/// event is no such envelope, and for a tombstone, which carries none.
///
/// JSON data is kept as the bytes that were sent; a JSON string under a content type
/// that is not JSON is that text. Missing and null data are no payload.
///
/// # Errors
/// Where the content type promises an envelope and the payload holds none (contract D6).
pub fn decode_structured(event: &Event) -> Result<Option<Event>, DecodeError> {
    let Some(payload) = event.payload.as_ref().filter(|_| is_structured(&event.headers)) else {
        return Ok(None);
    };
    let mut members: BTreeMap<String, &RawValue> = serde_json::from_slice(payload)?;
    let data = members.remove("data").filter(|raw| raw.get() != "null");
    let data_base64 = members.remove("data_base64").filter(|raw| raw.get() != "null");
    let mut attributes = Vec::with_capacity(members.len());
    for (name, raw) in members {
        match serde_json::from_str(raw.get())? {
            // a null attribute is one that is not set
            serde_json::Value::Null => {}
            serde_json::Value::String(text) => attributes.push((name, text)),
            value @ (serde_json::Value::Bool(_) | serde_json::Value::Number(_)) => {
                attributes.push((name, value.to_string()));
            }
            serde_json::Value::Array(_) | serde_json::Value::Object(_) => {
                return Err(DecodeError::Attribute(name));
            }
        }
    }
    let attribute =
        |wanted: &str| attributes.iter().find(|(n, _)| n == wanted).map(|(_, v)| v.as_str());
    for required in ["specversion", "id", "source", "type"] {
        if attribute(required).is_none_or(str::is_empty) {
            return Err(DecodeError::Missing(required));
        }
    }
    if let Some(other) = attribute("specversion").filter(|v| !v.starts_with("1.")) {
        return Err(DecodeError::Version(other.to_owned()));
    }
    let payload = match (data, data_base64) {
        (Some(_), Some(_)) => {
            return Err(DecodeError::Data("both `data` and `data_base64` are given".into()));
        }
        (Some(raw), None) if is_json(attribute("datacontenttype")) => {
            Some(slice_of(payload, raw.get()))
        }
        (Some(raw), None) => Some(match serde_json::from_str(raw.get())? {
            serde_json::Value::String(text) => Bytes::from(text),
            _ => slice_of(payload, raw.get()),
        }),
        (None, Some(raw)) => {
            let text: String = serde_json::from_str(raw.get())?;
            let bytes =
                BASE64_STANDARD.decode(text).map_err(|e| DecodeError::Data(e.to_string()))?;
            Some(Bytes::from(bytes))
        }
        (None, None) => None,
    };
    Ok(Some(Event { payload, attributes: attributes.into(), ..event.clone() }))
}

/// `type/json`, `type/anything+json`, or nothing, which means JSON here.
fn is_json(content_type: Option<&str>) -> bool {
    let Some(full) = content_type else { return true };
    let essence = full.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence.ends_with("/json") || essence.ends_with("+json")
}

/// `part`, which lies within `whole`, without copying it.
fn slice_of(whole: &Bytes, part: &str) -> Bytes {
    whole.slice_ref(part.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Header, cloudevents::STRUCTURED_JSON};

    fn structured(content_type: &str, payload: Option<&str>) -> Event {
        Event {
            topic: "t".into(),
            partition: 0,
            position: 1,
            key: Some("k".into()),
            payload: payload.map(|p| Bytes::copy_from_slice(p.as_bytes())),
            headers: [Header::new("Content-Type", content_type.to_owned())].into(),
            timestamp_ms: 5,
            attributes: [].into(),
        }
    }

    fn decoded(payload: &str) -> Result<Option<Event>, DecodeError> {
        decode_structured(&structured("application/CloudEvents+json; charset=UTF-8", Some(payload)))
    }

    /// Section 3.2 of the JSON event format 1.0.2.
    #[test]
    fn structured_mode_examples_of_the_specification() {
        let text = decoded(
            r#"{"specversion":"1.0","type":"com.example.someevent","source":"/mycontext",
                "subject":null,"id":"C234-1234-1234","time":"2018-04-05T17:31:00Z",
                "comexampleextension1":"value","comexampleothervalue":5,
                "datacontenttype":"application/vnd.apache.thrift.binary","data_base64":"aGVsbG8="}"#,
        );
        let event = text.unwrap().unwrap();
        assert_eq!(event.payload.as_deref(), Some(&b"hello"[..]));
        assert_eq!(event.attribute("comexampleothervalue"), Some("5"));
        assert_eq!(event.attribute("subject"), None);
        assert_eq!((event.key.as_deref(), event.position), (Some(&b"k"[..]), 1));
        let base = r#""specversion":"1.0","type":"t","source":"/s","id":"1""#;
        let payload = |rest: &str| {
            let event = decoded(&format!("{{{base}{rest}}}")).unwrap().unwrap();
            event.payload.map(|p| String::from_utf8(p.to_vec()).unwrap())
        };
        assert_eq!(
            payload(r#","data": {"a": 1.50}"#).as_deref(),
            Some(r#"{"a": 1.50}"#),
            "as sent"
        );
        assert_eq!(payload(r#","data":"x""#).as_deref(), Some(r#""x""#));
        assert_eq!(
            payload(r#","datacontenttype":"text/xml","data":"<a/>""#).as_deref(),
            Some("<a/>")
        );
        assert_eq!(payload(r#","data":null"#), None);
        assert_eq!(payload(""), None);
    }

    #[test]
    fn other_content_types_and_tombstones_are_left_alone() {
        for content_type in [
            "application/json",
            "application/cloudevents",
            "application/cloudevents-batch+json",
            "",
        ] {
            let event = structured(content_type, Some("{"));
            assert!(decode_structured(&event).unwrap().is_none(), "{content_type}");
        }
        assert!(decode_structured(&structured(STRUCTURED_JSON, None)).unwrap().is_none());
    }

    #[test]
    fn d6_bad_envelopes_say_what_is_wrong() {
        for (payload, expected) in [
            ("", "payload is no CloudEvent in JSON: EOF while parsing a value at line 1 column 0"),
            (
                "[]",
                "payload is no CloudEvent in JSON: invalid type: sequence, expected a map at line 1 column 0",
            ),
            (
                r#"{"specversion":"1.0","id":"1","source":""}"#,
                "CloudEvent lacks the required attribute `source`",
            ),
            (
                r#"{"specversion":"0.3","id":"1","source":"s","type":"t"}"#,
                "CloudEvent has specversion `0.3`, and only 1.x is known",
            ),
            (
                r#"{"specversion":"1.0","id":"1","source":"s","type":"t","x":[]}"#,
                "CloudEvent attribute `x` is no string, number or boolean",
            ),
            (
                r#"{"specversion":"1.0","id":"1","source":"s","type":"t","data":1,"data_base64":""}"#,
                "CloudEvent data: both `data` and `data_base64` are given",
            ),
            (
                r#"{"specversion":"1.0","id":"1","source":"s","type":"t","data_base64":"?"}"#,
                "CloudEvent data: Invalid symbol 63, offset 0.",
            ),
        ] {
            assert_eq!(decoded(payload).unwrap_err().to_string(), expected, "{payload}");
        }
    }
}
