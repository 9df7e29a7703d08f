//! Headers as message attributes, of which a message has at most ten.
//!
//! A header becomes an attribute of its own where SQS allows that: a legal name that
//! comes once, a value that is not empty. The others, and the order of all where it
//! is not that of their names, are listed in one more attribute, [`HEADERS`], in JSON.

use std::{borrow::Cow, collections::HashSet};

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use sandbar_core::{Header, cloudevents};
use serde::{Deserialize, Serialize};

/// Lists headers that have no attribute of their own, and the order of all.
pub(crate) const HEADERS: &str = "sandbar-headers";
/// Says what a body stands for that is not the payload itself.
pub(crate) const BODY: &str = "sandbar-body";
/// Attributes that SQS allows in a message.
const SLOTS: usize = 10;

/// An attribute's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    Text(String),
    Binary(Bytes),
}

impl Value {
    /// Text, where SQS takes it as such.
    pub fn of(bytes: &Bytes) -> Self {
        match text(bytes) {
            Some(text) => Self::Text(text.to_owned()),
            None => Self::Binary(bytes.clone()),
        }
    }

    pub fn into_bytes(self) -> Bytes {
        match self {
            Self::Text(text) => text.into(),
            Self::Binary(bytes) => bytes,
        }
    }

    pub fn data_type(&self) -> &'static str {
        match self {
            Self::Text(_) => "String",
            Self::Binary(_) => "Binary",
        }
    }

    pub fn len(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Binary(bytes) => bytes.len(),
        }
    }
}

pub(crate) type Attributes = Vec<(String, Value)>;

/// `bytes`, where they are text that SQS takes: its characters are those of XML 1.0.
pub(crate) fn text(bytes: &[u8]) -> Option<&str> {
    let is_legal = |c: char| {
        matches!(c, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}')
            || c >= '\u{10000}'
    };
    std::str::from_utf8(bytes).ok().filter(|text| !text.is_empty() && text.chars().all(is_legal))
}

/// Whether an attribute may have this name.
pub(crate) fn is_name(name: &str) -> bool {
    let is_legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    let lower = name.to_ascii_lowercase();
    (1..=256).contains(&name.len())
        && name.bytes().all(is_legal)
        && !(name.starts_with('.') || name.ends_with('.') || name.contains(".."))
        && !(lower.starts_with("aws.") || lower.starts_with("amazon."))
}

/// A header in [`HEADERS`].
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Listed<'a> {
    /// Its value is in the attribute of this name.
    Apart(Cow<'a, str>),
    Here(Cow<'a, str>, Option<Carried<'a>>),
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Carried<'a> {
    Text(Cow<'a, str>),
    Binary { base64: String },
}

/// The attributes that carry `headers`, beside `first`. The header called `key` is the
/// event's key: it has no place in the order of the others.
pub(crate) fn pack(headers: &[Header], key: &str, first: Attributes) -> Attributes {
    let mut seen = HashSet::new();
    let repeated: HashSet<&str> =
        headers.iter().filter(|h| !seen.insert(&*h.name)).map(|h| &*h.name).collect();
    let may_be_apart = |h: &Header| {
        is_name(&h.name)
            && ![HEADERS, BODY].contains(&&*h.name)
            && !repeated.contains(&*h.name)
            && h.value.as_ref().is_some_and(|value| !value.is_empty())
    };
    let mut slots = SLOTS - first.len();
    let ordered = headers.iter().filter(|h| *h.name != *key).is_sorted_by_key(|h| &h.name);
    let listing = !ordered || headers.len() > slots || !headers.iter().all(may_be_apart);
    if listing {
        slots -= 1;
    }
    // other consumers filter by the key and by what CloudEvents knows
    let rank = |h: &Header| {
        u8::from(*h.name != *key) + u8::from(*h.name != *key && !cloudevents::is_attribute(h))
    };
    let mut apart: Vec<usize> = (0..headers.len()).filter(|&i| may_be_apart(&headers[i])).collect();
    apart.sort_by_key(|&i| rank(&headers[i]));
    apart.truncate(slots);

    let mut attributes = first;
    for (index, header) in headers.iter().enumerate() {
        if let Some(value) = header.value.as_ref().filter(|_| apart.contains(&index)) {
            attributes.push((header.name.to_string(), Value::of(value)));
        }
    }
    if listing {
        let list: Vec<Listed<'_>> = headers
            .iter()
            .enumerate()
            .filter(|(index, h)| *h.name != *key || !apart.contains(index))
            .map(|(index, h)| match apart.contains(&index) {
                true => Listed::Apart(Cow::Borrowed(&h.name)),
                false => Listed::Here(Cow::Borrowed(&h.name), h.value.as_deref().map(carried)),
            })
            .collect();
        // a list of texts always has a JSON form
        let json = serde_json::to_vec(&list).unwrap_or_default();
        attributes.push((HEADERS.to_owned(), Value::of(&json.into())));
    }
    attributes
}

fn carried(value: &[u8]) -> Carried<'_> {
    match std::str::from_utf8(value) {
        Ok(text) => Carried::Text(Cow::Borrowed(text)),
        Err(_) => Carried::Binary { base64: BASE64_STANDARD.encode(value) },
    }
}

/// The headers that `attributes` carry. A listing that others wrote or changed may be
/// nonsense: then it is a header like any other.
pub(crate) fn unpack(mut attributes: Attributes) -> Vec<Header> {
    attributes.sort_by(|(a, _), (b, _)| a.cmp(b));
    let mut headers = Vec::with_capacity(attributes.len());
    let listing = attributes.iter().position(|(name, _)| name == HEADERS);
    if let Some(listing) = listing {
        let json = attributes[listing].1.clone().into_bytes();
        if let Ok(list) = serde_json::from_slice::<Vec<Listed<'_>>>(&json) {
            attributes.remove(listing);
            for listed in list {
                headers.extend(header(listed, &mut attributes));
            }
        }
    }
    let rest = attributes.into_iter();
    headers.extend(
        rest.map(|(name, value)| Header { name: name.into(), value: Some(value.into_bytes()) }),
    );
    headers
}

fn header(listed: Listed<'_>, attributes: &mut Attributes) -> Option<Header> {
    match listed {
        Listed::Apart(name) => {
            let at = attributes.iter().position(|(other, _)| *other == name)?;
            let (name, value) = attributes.remove(at);
            Some(Header { name: name.into(), value: Some(value.into_bytes()) })
        }
        Listed::Here(name, value) => {
            let value = match value {
                None => None,
                Some(Carried::Text(text)) => Some(text.into_owned().into()),
                Some(Carried::Binary { base64 }) => {
                    Some(BASE64_STANDARD.decode(base64).ok()?.into())
                }
            };
            Some(Header { name: name.as_ref().into(), value })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(headers: &[Header]) -> Attributes {
        let packed = pack(headers, "sandbar-key", Vec::new());
        assert!(packed.len() <= SLOTS);
        assert!(packed.iter().all(|(name, value)| is_name(name) && value.len() > 0));
        assert_eq!(unpack(packed.clone()), headers, "byte for byte, in order");
        packed
    }

    fn names(attributes: &Attributes) -> Vec<&str> {
        attributes.iter().map(|(name, _)| name.as_str()).collect()
    }

    #[test]
    fn plain_headers_are_plain_attributes() {
        let packed = round_trip(&[Header::new("a", "1"), Header::new("b", vec![0, 0xff])]);
        assert_eq!(packed[0], ("a".into(), Value::Text("1".into())));
        assert_eq!(packed[1], ("b".into(), Value::Binary(Bytes::from_static(&[0, 0xff]))));
    }

    #[test]
    fn what_has_no_attribute_of_its_own_is_listed() {
        let null = Header { name: "n".into(), value: None };
        let odd = [Header::new("z", "1"), Header::new("a", ""), null, Header::new("ü", vec![0xff])];
        assert_eq!(names(&round_trip(&odd)), ["z", HEADERS]);
        let twice = [Header::new("x", "1"), Header::new("x", "2"), Header::new("y", "\u{ffff}")];
        assert_eq!(names(&round_trip(&twice)), ["y", HEADERS]);
        assert_eq!(names(&round_trip(&[Header::new(BODY, "1")])), [HEADERS]);
        assert_eq!(names(&round_trip(&[Header::new(HEADERS, "1")])), [HEADERS]);
        let backwards = [Header::new("b", "1"), Header::new("a", "2")];
        assert_eq!(names(&round_trip(&backwards)), ["b", "a", HEADERS]);
    }

    #[test]
    fn beyond_ten_the_key_and_the_attributes_of_cloud_events_come_first() {
        let mut headers: Vec<_> = (0..12).map(|n| Header::new(format!("h{n:02}"), "x")).collect();
        headers.insert(5, Header::new("ce_id", "1"));
        let packed = round_trip(&headers);
        assert_eq!(packed.len(), SLOTS);
        assert!(names(&packed).contains(&"ce_id"));
        headers.push(Header::new("sandbar-key", "k"));
        let packed = pack(&headers, "sandbar-key", Vec::new());
        assert!(packed.len() == SLOTS && names(&packed).contains(&"sandbar-key"));
    }

    #[test]
    fn a_listing_that_is_none_is_a_header_like_any_other() {
        let foreign = vec![(HEADERS.to_owned(), Value::Text("[1".into()))];
        assert_eq!(unpack(foreign), [Header::new(HEADERS, "[1")]);
        // the attribute it names is gone, and one was added
        let changed = vec![
            ("new".to_owned(), Value::Text("1".into())),
            (HEADERS.to_owned(), Value::Text(r#"["old",["a","b"]]"#.into())),
        ];
        assert_eq!(unpack(changed), [Header::new("a", "b"), Header::new("new", "1")]);
    }

    #[test]
    fn only_names_and_texts_that_sqs_takes_pass() {
        assert!(is_name("ce_id") && is_name("a.b-c"));
        for name in ["", ".a", "a.", "a..b", "AWS.x", "amazon.x", "ü", "a:b", &"x".repeat(257)] {
            assert!(!is_name(name), "{name}");
        }
        assert_eq!(text("tab\tü\u{10ffff}".as_bytes()), Some("tab\tü\u{10ffff}"));
        for bad in [&b""[..], b"\0", b"\x1b", "\u{fffe}".as_bytes(), b"\xff"] {
            assert_eq!(text(bad), None);
        }
    }
}
