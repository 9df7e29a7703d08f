//! What every part of Sandbar agrees on: the event, the seams between broker,
//! pipeline and handler, and the rule by which a position may advance.
//!
//! The crate holds no policy and starts no task. Brokers implement [`Connection`],
//! [`Source`], [`Partition`], [`Sink`] and [`Reader`]; the Wasm host implements
//! [`Handler`]; the pipeline knows only these traits. Siblings never import each
//! other, so each can be replaced by a fake written by hand.
#![warn(missing_docs)]

mod broker;
pub mod cloudevents;
mod event;
mod handler;
mod marks;
mod publisher;
pub mod reserved;
mod settlement;
mod source_stats;
mod state;
mod watermark;

pub use broker::{
    Connection, DrainGuard, Extent, Guarantees, Partition, PartitionId, PublishError, ReadFrom,
    Reader, Sink, Source, SourceError, SourceEvent, StartAt, SubscriptionSpec, TopicInfo,
};
pub use event::{Event, Header, Outgoing};
pub use handler::{
    Call, ErrorClass, Handled, HandledBy, Handler, HandlerError, Outcome, Outcomes, Verdict,
};
pub use marks::{Mark, Marks};
pub use publisher::{PublishRefusal, Publisher};
pub use settlement::{AckToken, Delivery, Disposition, Settlement};
pub use source_stats::SourceStats;
pub use state::{
    Expected, StateChange, StateChanges, StateEntry, StateOp, StateQuota, StateSize, StateStore,
    StateWrite,
};
pub use watermark::{ResumeFrom, Watermark};
