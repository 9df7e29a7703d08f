//! How records lie in the file: batches of records that were committed together.
//!
//! ```text
//! batch  = version u8 (1) | crc32 u32 | base offset u64 | timestamp u64 | count u32 | record*
//! record = rest length | key | payload | number of headers | header*
//! header = name length, name | value
//! key, payload, value = 0 for none, or length + 1 and the bytes
//! ```
//! Fixed numbers are little-endian, the others LEB128. The checksum covers everything
//! behind it; the base offset is inside, so a batch that lies under a wrong key is
//! noticed. All records of a batch share its timestamp: they were committed together.

use std::sync::Arc;

use bytes::{Buf, Bytes};
use sandbar_core::{
    Event, Header, Outgoing,
    cloudevents::{self, Binding},
};

const VERSION: u8 = 1;
const CRC_AT: usize = 1;
const BODY_AT: usize = 5;
/// Bytes of a batch before its first record.
pub(crate) const HEADER: usize = 25;

/// Why bytes are no batch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CodecError {
    #[error("a batch of records has unknown version {0}")]
    Version(u8),
    #[error("a batch of records has a wrong checksum")]
    Checksum,
    #[error("a batch of records is truncated or malformed")]
    Malformed,
    #[error("a batch of records lies at offset {found} instead of {expected}")]
    Misplaced { expected: u64, found: u64 },
}

/// Builds one batch.
pub(crate) struct BatchWriter {
    bytes: Vec<u8>,
    count: u32,
}

impl BatchWriter {
    pub(crate) fn new(base: u64, timestamp_ms: u64, capacity: usize) -> Self {
        let mut bytes = Vec::with_capacity(HEADER + capacity);
        bytes.push(VERSION);
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&base.to_le_bytes());
        bytes.extend_from_slice(&timestamp_ms.to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
        Self { bytes, count: 0 }
    }

    pub(crate) fn push(&mut self, record: &Outgoing) {
        let length = body_length(record);
        self.varint(length);
        let before = self.bytes.len();
        self.optional(record.key.as_deref());
        self.optional(record.payload.as_deref());
        self.varint(record.headers.len() + record.attributes.len());
        for (name, value) in &record.attributes {
            self.varint(ATTRIBUTE_PREFIX.len() + name.len());
            self.bytes.extend_from_slice(ATTRIBUTE_PREFIX.as_bytes());
            self.bytes.extend_from_slice(name.as_bytes());
            self.optional(Some(value.as_bytes()));
        }
        for header in &record.headers {
            self.varint(header.name.len());
            self.bytes.extend_from_slice(header.name.as_bytes());
            self.optional(header.value.as_deref());
        }
        debug_assert_eq!(self.bytes.len() - before, length);
        self.count += 1;
    }

    pub(crate) fn finish(mut self) -> Bytes {
        self.bytes[HEADER - 4..HEADER].copy_from_slice(&self.count.to_le_bytes());
        let crc = crc32fast::hash(&self.bytes[BODY_AT..]);
        self.bytes[CRC_AT..BODY_AT].copy_from_slice(&crc.to_le_bytes());
        self.bytes.into()
    }

    fn varint(&mut self, mut value: usize) {
        while value >= 0x80 {
            self.bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.bytes.push(value as u8);
    }

    fn optional(&mut self, value: Option<&[u8]>) {
        match value {
            None => self.varint(0),
            Some(bytes) => {
                self.varint(bytes.len() + 1);
                self.bytes.extend_from_slice(bytes);
            }
        }
    }
}

/// How the CloudEvents attribute `x` is spelled as a header, here as on Kafka.
const ATTRIBUTE_PREFIX: &str = Binding::Kafka.prefix();

/// Bytes that `record` takes inside a batch.
pub(crate) fn encoded_length(record: &Outgoing) -> usize {
    let body = body_length(record);
    varint_length(body) + body
}

fn body_length(record: &Outgoing) -> usize {
    let optional = |v: Option<usize>| v.map_or(1, |n| varint_length(n + 1) + n);
    let attributes = record.attributes.iter().map(|(name, value)| {
        let name = ATTRIBUTE_PREFIX.len() + name.len();
        varint_length(name) + name + optional(Some(value.len()))
    });
    let headers = record.headers.iter().map(|h| {
        varint_length(h.name.len()) + h.name.len() + optional(h.value.as_ref().map(Bytes::len))
    });
    optional(record.key.as_ref().map(Bytes::len))
        + optional(record.payload.as_ref().map(Bytes::len))
        + varint_length(record.headers.len() + record.attributes.len())
        + attributes.sum::<usize>()
        + headers.sum::<usize>()
}

fn varint_length(value: usize) -> usize {
    (usize::BITS - (value | 1).leading_zeros()).div_ceil(7) as usize
}

/// A checked batch. Cheap to clone; its records share one piece of memory.
#[derive(Debug, Clone)]
pub(crate) struct Batch {
    pub(crate) base: u64,
    pub(crate) timestamp_ms: u64,
    pub(crate) count: u32,
    records: Bytes,
}

impl Batch {
    /// Checks `bytes` as read from the file under the offset `base`.
    pub(crate) fn check(bytes: Bytes, base: u64) -> Result<Self, CodecError> {
        if bytes.len() < HEADER {
            return Err(CodecError::Malformed);
        }
        if bytes[0] != VERSION {
            return Err(CodecError::Version(bytes[0]));
        }
        if crc32fast::hash(&bytes[BODY_AT..]) != (&bytes[CRC_AT..BODY_AT]).get_u32_le() {
            return Err(CodecError::Checksum);
        }
        let batch = Self::trusted(bytes);
        if batch.base != base {
            return Err(CodecError::Misplaced { expected: base, found: batch.base });
        }
        Ok(batch)
    }

    /// A batch that this process has just written.
    pub(crate) fn trusted(bytes: Bytes) -> Self {
        let mut header = &bytes[BODY_AT..HEADER];
        Self {
            base: header.get_u64_le(),
            timestamp_ms: header.get_u64_le(),
            count: header.get_u32_le(),
            records: bytes.slice(HEADER..),
        }
    }

    /// The offset after the last record.
    pub(crate) fn end(&self) -> u64 {
        self.base + u64::from(self.count)
    }

    pub(crate) fn bytes(&self) -> usize {
        HEADER + self.records.len()
    }

    /// The records from offset `from` on.
    pub(crate) fn events(&self, topic: &Arc<str>, partition: u32, from: u64) -> Events {
        let mut events = Events {
            topic: Arc::clone(topic),
            partition,
            position: self.base,
            timestamp_ms: self.timestamp_ms,
            left: self.count,
            rest: self.records.clone(),
        };
        while events.position < from && events.left > 0 {
            if events.pass_over().is_err() {
                break;
            }
        }
        events
    }
}

/// Decodes the records of a batch one by one.
#[derive(Debug, Clone)]
pub(crate) struct Events {
    topic: Arc<str>,
    partition: u32,
    position: u64,
    timestamp_ms: u64,
    left: u32,
    rest: Bytes,
}

impl Events {
    fn body(&mut self) -> Result<Bytes, CodecError> {
        self.left -= 1;
        self.position += 1;
        let length = varint(&mut self.rest)?;
        take(&mut self.rest, length)
    }

    fn pass_over(&mut self) -> Result<(), CodecError> {
        self.body().map(drop)
    }

    fn decode(&mut self) -> Result<Event, CodecError> {
        let position = self.position;
        let mut body = self.body()?;
        let key = optional(&mut body)?;
        let payload = optional(&mut body)?;
        let count = varint(&mut body)?;
        // each header takes two bytes at least: a wrong count must not reserve memory
        if count > body.len() / 2 {
            return Err(CodecError::Malformed);
        }
        let mut headers = Vec::with_capacity(count);
        for _ in 0..count {
            let length = varint(&mut body)?;
            let name = take(&mut body, length)?;
            let name = std::str::from_utf8(&name).map_err(|_| CodecError::Malformed)?.into();
            headers.push(Header { name, value: optional(&mut body)? });
        }
        if !body.is_empty() {
            return Err(CodecError::Malformed);
        }
        Ok(Event {
            topic: Arc::clone(&self.topic),
            partition: self.partition,
            position,
            key,
            payload,
            attributes: cloudevents::attributes(&headers),
            headers: headers.into(),
            timestamp_ms: self.timestamp_ms,
        })
    }
}

impl Iterator for Events {
    type Item = Result<Event, CodecError>;

    fn next(&mut self) -> Option<Self::Item> {
        (self.left > 0).then(|| self.decode())
    }
}

fn varint(from: &mut Bytes) -> Result<usize, CodecError> {
    let mut value = 0u64;
    for shift in (0..63).step_by(7) {
        let byte = from.try_get_u8().map_err(|_| CodecError::Malformed)?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return usize::try_from(value).map_err(|_| CodecError::Malformed);
        }
    }
    Err(CodecError::Malformed)
}

fn take(from: &mut Bytes, length: usize) -> Result<Bytes, CodecError> {
    if length > from.len() {
        return Err(CodecError::Malformed);
    }
    Ok(from.split_to(length))
}

fn optional(from: &mut Bytes) -> Result<Option<Bytes>, CodecError> {
    match varint(from)? {
        0 => Ok(None),
        n => take(from, n - 1).map(Some),
    }
}

#[cfg(test)]
#[path = "codec_tests.rs"]
mod tests;
