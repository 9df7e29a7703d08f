//! From a delivered event to its settlement: order, retries, dead letters, drain.
//!
//! The crate knows neither a broker nor Wasm: it joins the seams of
//! [`sandbar_core`]. An event's way reads top to bottom in two files:
//! `partition.rs` (taken in, put on its lane, handed out, settled) and
//! `subscription.rs` (one attempt: decoded, handled, published, or buried).
//!
//! What it promises is the delivery contract; the tests are named after its ids.
#![warn(missing_docs)]

mod attempt;
mod attempts;
mod backoff;
mod clock;
mod condition;
mod config;
mod dead_letter;
mod dialect;
mod gate;
mod lane;
mod latency;
mod ledger;
mod outbox;
mod partition;
mod port;
mod retry;
mod run;
mod stats;
mod stop;
mod subscription;
mod topics;

pub use clock::Environment;
pub use condition::{PartitionSnapshot, State, StatsSnapshot};
pub use config::{Breaker, DeadLetterConfig, Dialect, OnExhausted, Ordering, SubscriptionConfig};
pub use dead_letter::DeadLetter;
pub use latency::Latency;
pub use outbox::{Output, Outputs};
pub use retry::{RetryDecision, RetryPolicy};
pub use run::{RunEnd, run};
pub use stats::{ByClass, PipelineMetrics, SubscriptionStats};
pub use stop::{Stop, StopHandle};
pub use subscription::Subscription;
pub use topics::matches as topic_matches;
