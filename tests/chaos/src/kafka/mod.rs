//! Apache Kafka under test: a broker of its own behind a proxy, a producer and a reader
//! that go past the proxy.

mod broker;
mod reader;
mod sender;

pub use broker::Broker;
pub use reader::read;
pub use sender::Sender;
