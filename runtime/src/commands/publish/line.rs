//! From a line to an event.

use sandbar::event_json::OutgoingJson;
use sandbar_core::{Header, Outgoing};
use serde_json::{Value, value::RawValue};

use super::PublishArgs;

/// Turns lines into events, as the flags say.
pub struct LineParser {
    topic: String,
    headers: Vec<Header>,
    form: Form,
}

pub enum Form {
    /// Any text.
    Raw,
    /// A JSON payload, with the key at a JSON pointer of it.
    Payload { key: Option<String>, optional: bool },
    /// A whole event.
    Envelope,
}

impl LineParser {
    pub fn new(args: &PublishArgs) -> Self {
        let form = if args.raw {
            Form::Raw
        } else if args.envelope {
            Form::Envelope
        } else {
            let field = |name: &String| format!("/{}", name.replace('~', "~0").replace('/', "~1"));
            let key = args.key.clone().or_else(|| args.key_field.as_ref().map(field));
            Form::Payload { key, optional: args.key_optional }
        };
        let header = |(name, value): &(String, String)| Header::new(name.as_str(), value.clone());
        Self { topic: args.topic.clone(), headers: args.headers.iter().map(header).collect(), form }
    }

    /// As the flags of another command say.
    pub fn of(topic: &str, form: Form) -> Self {
        Self { topic: topic.to_owned(), headers: Vec::new(), form }
    }

    /// The event on this line, `None` where the line is blank.
    ///
    /// # Errors
    /// What is wrong with the line.
    pub fn event(&self, line: &[u8]) -> Result<Option<Outgoing>, String> {
        if line.trim_ascii().is_empty() && !matches!(self.form, Form::Raw) {
            return Ok(None);
        }
        let mut event = match &self.form {
            Form::Raw => Outgoing::new(self.topic.as_str(), line.to_vec()),
            Form::Envelope => serde_json::from_slice::<OutgoingJson>(line)
                .map_err(|e| format!("no event: {e}"))?
                .into_outgoing(&self.topic),
            Form::Payload { key: None, .. } => {
                // checked, but not built: most payloads are only passed on
                serde_json::from_slice::<&RawValue>(line).map_err(no_json)?;
                Outgoing::new(self.topic.as_str(), line.to_vec())
            }
            Form::Payload { key: Some(pointer), optional } => {
                let payload: Value = serde_json::from_slice(line).map_err(no_json)?;
                let mut event = Outgoing::new(self.topic.as_str(), line.to_vec());
                event.key = key(&payload, pointer, *optional)?.map(Into::into);
                event
            }
        };
        event.headers.extend_from_slice(&self.headers);
        Ok(Some(event))
    }
}

fn no_json(error: serde_json::Error) -> String {
    format!("not JSON: {error}; --raw publishes any text")
}

/// Text of the value at `pointer`; `None` where it is null or may be missing.
fn key(payload: &Value, pointer: &str, optional: bool) -> Result<Option<String>, String> {
    match payload.pointer(pointer) {
        Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(value @ (Value::Bool(_) | Value::Number(_))) => Ok(Some(value.to_string())),
        Some(_) => Err(format!("the key at {pointer} is an object or an array")),
        None if optional => Ok(None),
        // an event without its key would lose its place in the order
        None => Err(format!("there is no key at {pointer}")),
    }
}

/// A JSON pointer as RFC 6901 has it.
pub fn pointer(text: &str) -> Result<String, String> {
    match text.starts_with('/') {
        true => Ok(text.to_owned()),
        false => Err(format!("a JSON pointer begins with `/`: did you mean `/{text}`?")),
    }
}

/// `NAME=VALUE`
pub fn header(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write NAME=VALUE".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parser(form: Form) -> LineParser {
        LineParser { topic: "t".into(), headers: vec![Header::new("h", "1")], form }
    }

    fn keyed(pointer: &str) -> LineParser {
        parser(Form::Payload { key: Some(pointer.into()), optional: false })
    }

    #[test]
    fn a_payload_is_passed_on_byte_for_byte() {
        let line = br#"{"b": 1.0, "a":  "x", "b": 2}"#;
        for parser in [parser(Form::Payload { key: None, optional: false }), keyed("/a")] {
            let event = parser.event(line).unwrap().unwrap();
            assert_eq!(event.payload.as_deref(), Some(&line[..]));
            assert_eq!(event.headers, [Header::new("h", "1")]);
        }
    }

    #[test]
    fn keys_are_text_and_never_forgotten() {
        let key = |line: &str, pointer: &str| {
            keyed(pointer).event(line.as_bytes()).map(|e| e.unwrap().key.map(|k| k.to_vec()))
        };
        assert_eq!(key(r#"{"a":{"b":"x"}}"#, "/a/b"), Ok(Some(b"x".to_vec())));
        assert_eq!(key(r#"{"a":7}"#, "/a"), Ok(Some(b"7".to_vec())));
        assert_eq!(key(r#"{"a":null}"#, "/a"), Ok(None));
        assert_eq!(key(r#"{"b":1}"#, "/a"), Err("there is no key at /a".into()));
        assert_eq!(key(r#"{"a":[]}"#, "/a"), Err("the key at /a is an object or an array".into()));
    }

    #[test]
    fn a_key_that_may_be_missing() {
        let parser = parser(Form::Payload { key: Some("/a".into()), optional: true });
        assert_eq!(parser.event(b"{}").unwrap().unwrap().key, None);
        assert!(parser.event(b"{\"a\":[]}").is_err());
    }

    #[test]
    fn what_is_no_event_is_refused() {
        let payload = parser(Form::Payload { key: None, optional: false });
        assert!(payload.event(b"{\"a\":").unwrap_err().starts_with("not JSON: "));
        assert!(payload.event(b"\xff").unwrap_err().starts_with("not JSON: "));
        assert_eq!(payload.event(b" \r"), Ok(None));
        let envelope = parser(Form::Envelope);
        assert!(envelope.event(br#"{"a":1}"#).unwrap_err().contains("unknown field `a`"));
        let event = envelope.event(br#"{"key":"k","payload":null,"headers":[["x","2"]]}"#);
        let event = event.unwrap().unwrap();
        assert_eq!((event.key.as_deref(), event.payload), (Some(&b"k"[..]), None));
        assert_eq!(event.headers, [Header::new("x", "2"), Header::new("h", "1")]);
    }

    #[test]
    fn raw_lines_may_be_anything() {
        let raw = parser(Form::Raw);
        for line in [&b""[..], b" ", b"\xff{"] {
            assert_eq!(raw.event(line).unwrap().unwrap().payload.as_deref(), Some(line));
        }
    }
}
