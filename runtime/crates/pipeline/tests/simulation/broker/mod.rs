//! The broker: logs with committed positions, one group per plugin, and everything that
//! can go wrong between it and those who use it.

mod connection;
mod group;
mod marks;
mod partition;
mod sink;
mod source;

pub use self::{
    connection::FakeConnection,
    group::Holding,
    marks::FakeMarks,
    partition::{ASSIGNMENT, FakePartition, RECORD},
    sink::FakeSink,
    source::FakeSource,
};
