//! CloudEvents 1.0 in broker messages: attributes in headers (binary content mode)
//! and whole events in JSON payloads (structured content mode).

mod binary;
mod lineage;
mod structured;

pub use binary::{Binding, attributes, headers, is_attribute};
pub use lineage::trace_back;
pub use structured::{DecodeError, decode_structured};

use crate::Header;

/// Content type of structured mode in JSON; parameters may follow.
const STRUCTURED_JSON: &str = "application/cloudevents+json";

/// The header that says what a payload is, in any letter case.
const CONTENT_TYPE: &str = "content-type";

/// Whether the payload under `headers` is a whole event in JSON.
fn is_structured(headers: &[Header]) -> bool {
    let Some(value) = content_type(headers) else { return false };
    let starts = value.get(..STRUCTURED_JSON.len());
    starts.is_some_and(|start| start.eq_ignore_ascii_case(STRUCTURED_JSON.as_bytes()))
}

fn content_type(headers: &[Header]) -> Option<&[u8]> {
    headers.iter().find(|h| is_content_type(h))?.value.as_deref()
}

fn is_content_type(header: &Header) -> bool {
    header.name.eq_ignore_ascii_case(CONTENT_TYPE)
}
