//! Returns records that all point to the same bytes: a small guest that asks the
//! host for a large copy. Written against the canonical ABI by hand.

wit_bindgen::generate!({ world: "event-handler", path: "../../wit/0.1.0", generate_all });

/// `outgoing` as it lies in memory.
#[derive(Clone, Copy)]
#[repr(C)]
struct Record {
    connection: [u32; 3],
    topic: [u32; 2],
    key: [u32; 3],
    payload_is_some: u32,
    payload: *const u8,
    payload_len: usize,
    headers: [u32; 2],
    attributes: [u32; 2],
}

/// `result<list<outgoing>, failure>` as it lies in memory.
#[repr(C, align(8))]
struct Returned {
    is_err: u64,
    records: *const Record,
    len: usize,
}

#[unsafe(export_name = "sandbar:events/handler@0.1.0#handle")]
extern "C" fn handle(
    _topic: *mut u8,
    _topic_len: usize,
    _partition: u32,
    _position: u64,
    _key_is_some: u32,
    _key: *mut u8,
    _key_len: usize,
    _payload_is_some: u32,
    _payload: *mut u8,
    _payload_len: usize,
    _headers: *mut u8,
    _headers_len: usize,
    _timestamp_ms: u64,
    _attempt: u32,
    _attributes: *mut u8,
    _attributes_len: usize,
) -> *const Returned {
    // what an event is copied into
    wit_bindgen::rt::maybe_link_cabi_realloc();
    let bytes = Vec::leak(vec![1u8; 2 << 20]);
    let record = Record {
        connection: [0; 3],
        topic: [0; 2],
        key: [0; 3],
        payload_is_some: 1,
        payload: bytes.as_ptr(),
        payload_len: bytes.len(),
        headers: [0; 2],
        attributes: [0; 2],
    };
    let records = Vec::leak(vec![record; 60]);
    Box::leak(Box::new(Returned { is_err: 0, records: records.as_ptr(), len: records.len() }))
}
