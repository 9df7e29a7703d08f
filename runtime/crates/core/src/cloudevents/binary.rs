//! Binary content mode: attribute `x` is a header, and each binding spells it its own way.

use std::{borrow::Cow, sync::Arc};

use super::{CONTENT_TYPE, content_type, is_content_type, is_structured};
use crate::{Header, Outgoing};

/// Every spelling that is understood, whatever broker a record came through.
const PREFIXES: [&str; 4] = ["ce_", "ce-", "cloudEvents_", "cloudEvents:"];

/// The attribute that most bindings keep in the header [`CONTENT_TYPE`].
const DATA_CONTENT_TYPE: &str = "datacontenttype";

/// Whose spelling of attributes is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Binding {
    /// Kafka binding 1.0.2: `ce_x`. Also where there is no binding of its own.
    Kafka,
    /// NATS binding 1.0.2: `ce-x`, its value percent-encoded.
    Nats,
    /// AMQP binding 1.0.2: `cloudEvents_x`.
    Amqp,
}

impl Binding {
    /// What stands before the name of an attribute.
    pub const fn prefix(self) -> &'static str {
        match self {
            Self::Kafka => "ce_",
            Self::Nats => "ce-",
            Self::Amqp => "cloudEvents_",
        }
    }

    fn header(self, name: &str, value: &str) -> Header {
        match self {
            Self::Kafka | Self::Amqp if name == DATA_CONTENT_TYPE => {
                Header::new(CONTENT_TYPE, value.to_owned())
            }
            Self::Kafka | Self::Amqp => {
                Header::new(format!("{}{name}", self.prefix()), value.to_owned())
            }
            Self::Nats => Header::new(format!("ce-{name}"), percent_encoded(value).into_owned()),
        }
    }
}

/// Attributes found in `headers`, by bare name, in any spelling. A header whose value is
/// no UTF-8 is left alone: the raw header still reaches the handler. `content-type` is
/// the attribute `datacontenttype` of a record that has other attributes.
pub fn attributes(headers: &[Header]) -> Arc<[(String, String)]> {
    // most events carry none: do not allocate for them
    if !headers.iter().any(is_attribute) {
        return Arc::default();
    }
    let mut found: Vec<(String, String)> = headers.iter().filter_map(attribute).collect();
    let is_known = found.is_empty() || found.iter().any(|(name, _)| name == DATA_CONTENT_TYPE);
    if !is_known && !is_structured(headers) {
        let value = content_type(headers).and_then(|value| std::str::from_utf8(value).ok());
        found.extend(value.map(|v| (DATA_CONTENT_TYPE.to_owned(), v.to_owned())));
    }
    found.into()
}

/// Whether `header` spells an attribute of its own; [`headers`] writes it anew.
pub fn is_attribute(header: &Header) -> bool {
    bare_name(&header.name).is_some()
}

/// The headers of `record` as they are written under `binding`: its attributes, in place
/// of headers that spell the same ones in whatever way, after its other headers.
pub fn headers(record: &Outgoing, binding: Binding) -> Cow<'_, [Header]> {
    if record.attributes.is_empty() {
        return Cow::Borrowed(&record.headers);
    }
    let written: Vec<Header> =
        record.attributes.iter().map(|(name, value)| binding.header(name, value)).collect();
    let is_stale = |header: &&Header| {
        let same = |name: &str| record.attributes.iter().any(|(n, _)| n.eq_ignore_ascii_case(name));
        bare_name(&header.name).is_some_and(same)
            || (is_content_type(header) && written.iter().any(is_content_type))
    };
    let kept = record.headers.iter().filter(|header| !is_stale(header)).cloned();
    let mut all = Vec::with_capacity(record.headers.len() + written.len());
    all.extend(kept);
    all.extend(written);
    Cow::Owned(all)
}

fn attribute(header: &Header) -> Option<(String, String)> {
    let name = bare_name(&header.name)?;
    let value = std::str::from_utf8(header.value.as_deref()?).ok()?;
    let value = match is_encoded(&header.name) {
        true => percent_decoded(value)?,
        false => value.to_owned(),
    };
    // HTTP and NATS do not tell cases apart, and an attribute's name has none
    Some((name.to_ascii_lowercase(), value))
}

/// What follows a prefix; names of HTTP's kind in any letter case.
pub(super) fn bare_name(header: &str) -> Option<&str> {
    let name = PREFIXES.iter().find_map(|prefix| header.strip_prefix(prefix)).or_else(|| {
        let (start, name) = header.split_at_checked(3)?;
        start.eq_ignore_ascii_case("ce-").then_some(name)
    })?;
    Some(name).filter(|name| !name.is_empty())
}

/// Whether values under this name are percent-encoded, as HTTP and NATS have it.
fn is_encoded(header: &str) -> bool {
    header.as_bytes().get(2) == Some(&b'-')
}

/// NATS binding 1.0.2, section 3.1.3.2.
fn percent_encoded(value: &str) -> Cow<'_, str> {
    let is_plain = |byte: u8| byte.is_ascii_graphic() && byte != b'"' && byte != b'%';
    if value.bytes().all(is_plain) {
        return Cow::Borrowed(value);
    }
    let mut encoded = String::with_capacity(value.len() + 16);
    for byte in value.bytes() {
        match is_plain(byte) {
            true => encoded.push(char::from(byte)),
            false => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    Cow::Owned(encoded)
}

/// The same section backwards, `None` where the bytes are no UTF-8. A value in double
/// quotes, which earlier versions of the binding wrote, is taken out of them first.
fn percent_decoded(value: &str) -> Option<String> {
    let unquoted = value.strip_prefix('"').and_then(|v| v.strip_suffix('"')).map(|quoted| {
        let mut bare = String::with_capacity(quoted.len());
        let mut characters = quoted.chars();
        while let Some(c) = characters.next() {
            bare.extend(if c == '\\' { characters.next() } else { Some(c) });
        }
        bare
    });
    let value = unquoted.as_deref().unwrap_or(value);
    if !value.contains('%') {
        return Some(value.to_owned());
    }
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.as_bytes();
    while let [first, after @ ..] = rest {
        let digit = |at: usize| after.get(at).and_then(|b| char::from(*b).to_digit(16));
        match (first, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => {
                bytes.extend(u8::try_from(high * 16 + low));
                rest = &after[2..];
            }
            _ => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: [(&str, &str); 5] = [
        ("specversion", "1.0"),
        ("type", "com.example.someevent"),
        ("time", "2018-04-05T03:56:24Z"),
        ("id", "1234-1234-1234"),
        ("source", "/mycontext/subcontext"),
    ];

    fn read<'a>(headers: impl IntoIterator<Item = (&'a str, &'a str)>) -> Vec<(String, String)> {
        let headers: Vec<_> =
            headers.into_iter().map(|(n, v)| Header::new(n, v.to_owned())).collect();
        attributes(&headers).to_vec()
    }

    fn owned(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect()
    }

    fn written(record: &Outgoing, binding: Binding) -> Vec<(String, String)> {
        let text = |h: &Header| String::from_utf8(h.value.as_deref().unwrap().to_vec()).unwrap();
        headers(record, binding).iter().map(|h| (h.name.to_string(), text(h))).collect()
    }

    /// Reads what the specification shows, and writes it again.
    fn is_example(binding: Binding, content_type: (&str, &str), prefixes: &[&str]) {
        let attributes: Vec<_> =
            EXAMPLE.into_iter().chain([("datacontenttype", content_type.1)]).collect();
        for prefix in prefixes {
            let names: Vec<_> = EXAMPLE.iter().map(|(n, _)| format!("{prefix}{n}")).collect();
            let headers = names.iter().map(String::as_str).zip(EXAMPLE.map(|(_, v)| v));
            assert_eq!(read(headers.chain([content_type])), owned(&attributes), "{prefix}");
        }
        let mut record = Outgoing::new("mytopic", "{}");
        record.attributes = owned(&attributes);
        let prefix = binding.prefix();
        let expected = EXAMPLE.iter().map(|(n, v)| (format!("{prefix}{n}"), v.to_string()));
        let content_type = (content_type.0.to_owned(), content_type.1.to_owned());
        assert_eq!(written(&record, binding), expected.chain([content_type]).collect::<Vec<_>>());
    }

    #[test]
    fn kafka_example_of_the_specification() {
        is_example(Binding::Kafka, ("content-type", "application/avro"), &["ce_"]);
    }

    #[test]
    fn nats_example_of_the_specification() {
        is_example(Binding::Nats, ("ce-datacontenttype", "application/json"), &["ce-", "Ce-"]);
    }

    #[test]
    fn amqp_example_of_the_specification() {
        let content_type = ("content-type", "application/json; charset=utf-8");
        is_example(Binding::Amqp, content_type, &["cloudEvents:", "cloudEvents_"]);
    }

    #[test]
    fn nats_percent_encoding_example_of_the_specification() {
        let (plain, encoded) = ("Euro € 😀", "Euro%20%E2%82%AC%20%F0%9F%98%80");
        let mut record = Outgoing::new("t", "");
        record.attributes = owned(&[("subject", plain)]);
        assert_eq!(written(&record, Binding::Nats), owned(&[("ce-subject", encoded)]));
        for form in [encoded, &encoded.to_lowercase().replace("euro", "Euro"), "\"Euro € \\😀\""]
        {
            assert_eq!(read([("ce-subject", form)]), owned(&[("subject", plain)]), "{form}");
        }
        // overlong, and so no UTF-8: rejected
        assert!(read([("ce-subject", "%C0%A0")]).is_empty());
        assert_eq!(read([("ce-subject", "100%")]), owned(&[("subject", "100%")]));
        // the other bindings encode nothing
        assert_eq!(read([("ce_subject", "%41")]), owned(&[("subject", "%41")]));
    }

    #[test]
    fn what_is_no_attribute_is_left_alone() {
        let headers = [
            Header::new("ce_bad", vec![0xff]),
            Header { name: "ce_null".into(), value: None },
            Header::new("ce_", "nameless"),
            Header::new("content-type", "text/plain"),
            Header::new("CE_id", "1"),
        ];
        assert!(attributes(&headers).is_empty());
        let mut structured = Outgoing::new("t", "{}");
        structured.headers = vec![
            Header::new("content-type", "application/cloudevents+json"),
            Header::new("ce_id", "1"),
        ];
        assert_eq!(attributes(&structured.headers).to_vec(), owned(&[("id", "1")]));
    }

    #[test]
    fn attributes_replace_headers_that_spell_them_for_another_broker() {
        let mut record = Outgoing::new("t", "x")
            .with_header("cloudEvents:id", "old")
            .with_header("Ce-Id", "older")
            .with_header("ce_other", "kept")
            .with_header("Content-Type", "text/plain")
            .with_header("x", "1");
        record.attributes = owned(&[("id", "new"), ("datacontenttype", "application/json")]);
        let others = [("ce_other", "kept"), ("x", "1")];
        let kafka = [("ce_id", "new"), ("content-type", "application/json")];
        assert_eq!(written(&record, Binding::Kafka), owned(&[&others[..], &kafka].concat()));
        // `content-type` is a header like others there
        let others = [("ce_other", "kept"), ("Content-Type", "text/plain"), ("x", "1")];
        let nats = [("ce-id", "new"), ("ce-datacontenttype", "application/json")];
        assert_eq!(written(&record, Binding::Nats), owned(&[&others[..], &nats].concat()));
        record.attributes.clear();
        assert!(matches!(headers(&record, Binding::Nats), Cow::Borrowed(h) if h == record.headers));
    }
}
