//! From a delivered event to its settlement: order, retries, dead letters, drain.
//!
//! The crate knows neither a broker nor Wasm: it joins the seams of
//! [`sandbar_core`]. An event's way reads top to bottom in two files: `partition.rs`
//! (taken in, put on its lane, handed out, settled) and `subscription.rs` (one attempt:
//! decoded, handled, judged). Between them stands `screening.rs` where an event must not
//! be handled twice; behind them `failing.rs` decides what follows a failure, and
//! `leaving.rs` makes durable what has to be.
//!
//! What it promises is the delivery contract; the tests are named after its ids.
#![warn(missing_docs)]

mod agenda;
mod attempt;
mod attempts;
mod backoff;
mod clock;
mod condition;
mod config;
mod dead_letter;
mod dedup;
mod dialect;
mod failing;
#[cfg(feature = "faults")]
pub mod faults;
#[cfg(not(feature = "faults"))]
mod faults;
mod finished;
mod gate;
mod halted;
mod health;
mod lane;
mod latency;
mod leaving;
mod ledger;
mod metrics;
mod outbox;
mod parcel;
mod partition;
mod port;
mod publisher;
mod retry;
mod run;
mod screening;
mod services;
mod stats;
mod stop;
mod subscription;
mod topics;

pub use clock::Environment;
pub use condition::{BreakerState, PartitionSnapshot, State, StatsSnapshot};
pub use config::{
    Breaker, DeadLetterConfig, Dialect, OnDeadLetter, OnExhausted, Ordering, RetryTier,
    SubscriptionConfig,
};
pub use dead_letter::DeadLetter;
pub use halted::{HaltedKey, halted_keys};
pub use latency::Latency;
pub use metrics::PipelineMetrics;
pub use outbox::{Output, Outputs};
pub use parcel::{Parcel, ParcelError, Reason};
pub use publisher::DirectPublisher;
pub use retry::{RetryDecision, RetryPolicy};
pub use run::{RunEnd, run};
pub use services::Services;
pub use stats::{ByClass, SubscriptionStats};
pub use stop::{Stop, StopHandle};
pub use subscription::{Subscription, check_topic};
pub use topics::matches as topic_matches;
