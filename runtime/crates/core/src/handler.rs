//! The seam to whatever runs a handler. The pipeline sees no Wasm.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;

use crate::{Event, Outgoing, StateChanges};

/// One attempt at one event.
#[derive(Debug, Clone)]
pub struct Call {
    /// The event.
    pub event: Event,
    /// 1 on first delivery, +1 on each retry.
    pub attempt: u32,
}

/// What ran a batch: goes into metrics and dead letters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HandledBy {
    /// Plugin name.
    pub plugin: String,
    /// Version the plugin states of itself, `0` when it states none.
    pub version: String,
    /// Content digest of the plugin file, lower-case hex.
    pub digest: String,
}

/// What an event that was handled leads to. All of it becomes true with the
/// acknowledgement, and none of it if the attempt fails after all.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Handled {
    /// Events to publish.
    pub outputs: Vec<Outgoing>,
    /// Changes of the subscription's state; boxed, because most handlers make none.
    pub state: Option<Box<StateChanges>>,
}

impl From<Vec<Outgoing>> for Handled {
    fn from(outputs: Vec<Outgoing>) -> Self {
        Self { outputs, state: None }
    }
}

/// The outcome of one attempt: what it leads to, or why it failed.
pub type Outcome = Result<Handled, HandlerError>;

/// Outcomes of a batch, one per call, in the order of the calls.
#[derive(Debug, Clone)]
pub struct Outcomes {
    /// The generation that handled the batch.
    pub by: Arc<HandledBy>,
    /// One per call.
    pub results: Vec<Outcome>,
}

/// Runs events. Dropping the future cancels the attempts; they then count for nothing.
#[async_trait]
pub trait Handler: Send + Sync {
    /// Handles a batch of events of which no two share an ordering key.
    /// Always returns exactly one outcome per call, in order.
    async fn handle(&self, calls: &[&Call]) -> Outcomes;

    /// Largest batch that is worth passing; 1 where batches gain nothing.
    fn max_batch(&self) -> usize {
        1
    }

    /// Events that are done sooner than it is worth to spread them over several workers; at least 1.
    fn min_batch(&self) -> usize {
        1
    }
}

/// Why an attempt failed, and what should follow.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{class}: {message}")]
pub struct HandlerError {
    /// What should follow.
    pub verdict: Verdict,
    /// The kind of failure, told apart in metrics and dead letters (contract R4).
    pub class: ErrorClass,
    /// Stable code by which dead letters are grouped; the class name where the
    /// handler gave none.
    pub code: String,
    /// For people.
    pub message: String,
    /// Guest backtrace, where there is one.
    pub backtrace: Option<String>,
}

impl HandlerError {
    /// A failure of `class` whose code is the class's name.
    pub fn new(class: ErrorClass, verdict: Verdict, message: impl Into<String>) -> Self {
        Self {
            verdict,
            class,
            code: class.as_str().into(),
            message: message.into(),
            backtrace: None,
        }
    }
}

/// What follows a failed attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Try again under the retry policy; `after` overrides its next delay.
    Retry {
        /// Delay asked for by the handler.
        after: Option<Duration>,
    },
    /// Exactly one attempt: straight to the dead-letter queue (contract R3).
    Reject,
    /// Not for this plugin: acknowledge and count as skipped.
    Skip,
    /// A dependency is down: pause the subscription and deliver again without
    /// using up an attempt (contract R8).
    Defer {
        /// How long to pause.
        pause: Duration,
    },
}

/// The kinds of failure that contract R4 and S2 keep apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ErrorClass {
    /// The handler returned an error.
    Handler,
    /// The guest trapped (panic, unreachable, out-of-bounds, stack overflow).
    Trap,
    /// Wall-clock limit, also while blocked in a host call.
    Deadline,
    /// CPU-time limit.
    CpuTime,
    /// Memory or table limit.
    Memory,
    /// Fuel, where a plugin runs with it.
    Fuel,
    /// Too many or too large outputs, or an output that the broker refuses.
    Output,
    /// An output to a topic or connection that was not granted.
    Denied,
    /// The event could not be decoded (bad CloudEvent, failed schema; contract D6).
    Decode,
    /// The host itself failed: no instance, no memory slot.
    Host,
    /// Not attempted: an earlier event of its key is dead-lettered and halts it (contract O4).
    Blocked,
}

impl ErrorClass {
    /// Every class, for metrics that list them all.
    pub const ALL: [Self; 11] = [
        Self::Handler,
        Self::Trap,
        Self::Deadline,
        Self::CpuTime,
        Self::Memory,
        Self::Fuel,
        Self::Output,
        Self::Denied,
        Self::Decode,
        Self::Host,
        Self::Blocked,
    ];

    /// The name used in metrics, headers and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Handler => "handler",
            Self::Trap => "trap",
            Self::Deadline => "deadline",
            Self::CpuTime => "cpu-time",
            Self::Memory => "memory",
            Self::Fuel => "fuel",
            Self::Output => "output",
            Self::Denied => "denied",
            Self::Decode => "decode",
            Self::Host => "host",
            Self::Blocked => "blocked",
        }
    }
}

impl fmt::Display for ErrorClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
