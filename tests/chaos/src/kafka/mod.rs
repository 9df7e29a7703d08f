//! Apache Kafka under test.

mod acl;
mod broker;
mod reader;
mod sender;

pub use broker::Kafka;
