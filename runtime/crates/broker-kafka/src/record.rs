//! Records as librdkafka holds them, and as the rest of Sandbar sees them.

use std::{ffi::CStr, ptr, slice, sync::Arc};

use bytes::Bytes;
use rdkafka::{
    Message, bindings,
    message::{BorrowedMessage, Header as NativeHeader, OwnedHeaders},
};
use sandbar_core::{
    Event, Header, Outgoing,
    cloudevents::{self, Binding},
};

/// Copies a received record; `topic` is its topic's name, shared.
pub(crate) fn event(message: &BorrowedMessage<'_>, topic: &Arc<str>) -> Event {
    let headers: Arc<[Header]> = headers(message).into();
    Event {
        topic: topic.clone(),
        // librdkafka's -1 means "no partition" and is never received
        partition: u32::try_from(message.partition()).unwrap_or_default(),
        position: position(message),
        key: message.key().map(Bytes::copy_from_slice),
        payload: message.payload().map(Bytes::copy_from_slice),
        attributes: cloudevents::attributes(&headers),
        headers,
        timestamp_ms: message
            .timestamp()
            .to_millis()
            .and_then(|ms| u64::try_from(ms).ok())
            .unwrap_or_default(),
    }
}

/// The offset of a received record, which is never negative.
pub(crate) fn position(message: &BorrowedMessage<'_>) -> u64 {
    u64::try_from(message.offset()).unwrap_or_default()
}

/// The headers of a record. rdkafka's own access panics on a name that is no
/// UTF-8, and any producer may write one; here invalid bytes are replaced.
#[allow(unsafe_code)] // reads librdkafka's header list; see SAFETY
fn headers(message: &BorrowedMessage<'_>) -> Vec<Header> {
    let mut found = Vec::new();
    // SAFETY: `message.ptr()` is a live record for as long as `message` is borrowed, and
    // librdkafka parses and owns its header list, which lives as long as the record does.
    // For each index below the count, `header_get_all` sets `name` to a NUL-terminated string
    // and `value` to null or to `size` readable bytes, all owned by that list; they are
    // copied before the borrow ends.
    unsafe {
        let mut list = ptr::null_mut();
        let none = bindings::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR;
        if bindings::rd_kafka_message_headers(message.ptr(), &mut list) != none {
            return found;
        }
        for index in 0..bindings::rd_kafka_header_cnt(list) {
            let (mut name, mut value, mut size) = (ptr::null(), ptr::null(), 0);
            let status =
                bindings::rd_kafka_header_get_all(list, index, &mut name, &mut value, &mut size);
            if status != none {
                break;
            }
            let bytes = || Bytes::copy_from_slice(slice::from_raw_parts(value.cast(), size));
            found.push(Header {
                name: CStr::from_ptr(name).to_string_lossy().into(),
                value: (!value.is_null()).then(bytes),
            });
        }
    }
    found
}

/// The headers to write: as given, with the attributes in place of headers of their names.
pub(crate) fn outgoing_headers(record: &Outgoing) -> Option<OwnedHeaders> {
    let headers = cloudevents::headers(record, Binding::Kafka);
    let native = |headers: OwnedHeaders, header: &Header| {
        headers.insert(NativeHeader { key: &header.name, value: header.value.as_deref() })
    };
    let empty = || OwnedHeaders::new_with_capacity(headers.len());
    (!headers.is_empty()).then(|| headers.iter().fold(empty(), native))
}

#[cfg(test)]
mod tests {
    use rdkafka::message::Headers;

    use super::*;

    #[test]
    fn attributes_become_headers_and_replace_stale_ones() {
        let mut record = Outgoing::new("t", "x").with_header("ce_id", "old").with_header("x", "1");
        record.attributes = vec![
            ("id".into(), "new".into()),
            ("datacontenttype".into(), "application/json".into()),
        ];
        let headers = outgoing_headers(&record).unwrap();
        let all: Vec<_> = headers.iter().map(|h| (h.key, h.value.unwrap())).collect();
        assert_eq!(
            all,
            [("x", &b"1"[..]), ("ce_id", b"new"), ("content-type", b"application/json")]
        );
    }

    #[test]
    fn repeated_null_and_empty_headers_stay_apart() {
        let mut record = Outgoing::new("t", "x").with_header("a", "").with_header("a", "2");
        record.headers.push(Header { name: "a".into(), value: None });
        let headers = outgoing_headers(&record).unwrap();
        let values: Vec<_> = headers.iter().map(|h| h.value).collect();
        assert_eq!(values, [Some(&b""[..]), Some(b"2"), None]);
        assert!(outgoing_headers(&Outgoing::new("t", "x")).is_none());
    }
}
