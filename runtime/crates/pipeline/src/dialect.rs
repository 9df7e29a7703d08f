//! Dead-letter headers of other families, for tools that know only those.
//!
//! Names and types are those of Spring Kafka 3 (`KafkaHeaders.DLT_*`), Kafka Connect's
//! `DeadLetterQueueReporter` and Kafka Streams' KIP-1034. Spring writes numbers as
//! big-endian integers, the other two as text.

use bytes::Bytes;
use sandbar_core::{Event, Header};

use crate::{DeadLetter, Dialect};

const SPRING_TIMESTAMP: &str = "kafka_dlt-original-timestamp";
/// Families that name a Java class for the error get this one's error class appended.
const EXCEPTION: &str = "sandbar.";

/// Whether the header `name` is one that `dialect` writes.
pub(crate) fn owns(dialect: Dialect, name: &str) -> bool {
    match dialect {
        Dialect::None => false,
        Dialect::Spring => name.starts_with("kafka_dlt-"),
        Dialect::Connect => name.starts_with("__connect.errors."),
        Dialect::Streams => name.starts_with("__streams.errors."),
    }
}

/// Whether the header `name` is one that any dialect writes.
pub(crate) fn is_owned(name: &str) -> bool {
    [Dialect::Spring, Dialect::Connect, Dialect::Streams].iter().any(|d| owns(*d, name))
}

/// The headers that `dialect` adds to `letter`, the dead letter of `event`.
pub(crate) fn headers(dialect: Dialect, letter: &DeadLetter, event: &Event) -> Vec<Header> {
    let text =
        |name: &str, value: &str| Header::new(name, Bytes::copy_from_slice(value.as_bytes()));
    let bytes = |name: &str, value: &[u8]| Header::new(name, Bytes::copy_from_slice(value));
    let class = format!("{EXCEPTION}{}", letter.error_class);
    let stack = letter.backtrace.as_deref();
    let (partition, offset) = (letter.partition.to_string(), letter.offset.to_string());
    let mut headers = match dialect {
        Dialect::None => return Vec::new(),
        Dialect::Spring => vec![
            text("kafka_dlt-original-topic", &letter.topic),
            // both fit: Kafka's own partitions and offsets are signed
            bytes("kafka_dlt-original-partition", &(letter.partition as i32).to_be_bytes()),
            bytes("kafka_dlt-original-offset", &(letter.offset as i64).to_be_bytes()),
            bytes(SPRING_TIMESTAMP, &original_timestamp(event)),
            text("kafka_dlt-original-timestamp-type", "CREATE_TIME"),
            text("kafka_dlt-original-consumer-group", &letter.group),
            text("kafka_dlt-exception-fqcn", &class),
            text("kafka_dlt-exception-message", &letter.message),
        ],
        Dialect::Connect => vec![
            text("__connect.errors.topic", &letter.topic),
            text("__connect.errors.partition", &partition),
            text("__connect.errors.offset", &offset),
            text("__connect.errors.connector.name", &letter.plugin),
            text("__connect.errors.task.id", "0"),
            text("__connect.errors.stage", "TASK_PUT"),
            text("__connect.errors.class.name", &class),
            text("__connect.errors.exception.class.name", &class),
            text("__connect.errors.exception.message", &letter.message),
        ],
        Dialect::Streams => vec![
            text("__streams.errors.exception", &class),
            text("__streams.errors.message", &letter.message),
            text("__streams.errors.topic", &letter.topic),
            text("__streams.errors.partition", &partition),
            text("__streams.errors.offset", &offset),
        ],
    };
    let trace = match dialect {
        Dialect::None => None,
        Dialect::Spring => Some("kafka_dlt-exception-stacktrace"),
        Dialect::Connect => Some("__connect.errors.exception.stacktrace"),
        Dialect::Streams => Some("__streams.errors.stacktrace"),
    };
    headers.extend(trace.zip(stack).map(|(name, stack)| text(name, stack)));
    headers
}

/// That of the first failure where the event already is a dead letter.
fn original_timestamp(event: &Event) -> [u8; 8] {
    let before = event.header(SPRING_TIMESTAMP).and_then(|h| h.value.as_deref()?.try_into().ok());
    before.unwrap_or_else(|| (event.timestamp_ms as i64).to_be_bytes())
}
