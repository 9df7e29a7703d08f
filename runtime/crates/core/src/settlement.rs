//! How an event's fate is said aloud. Nothing is ever settled by being dropped.

use std::time::Duration;

use crate::{Event, Mark, Outgoing, StateChanges};

/// Names one delivery to the partition that made it. The value belongs to the
/// adapter (an offset, a delivery tag, an index into its table of receipts).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct AckToken(pub u64);

/// One event handed to the pipeline, to be settled once by its token.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// The event.
    pub event: Event,
    /// What to settle it with.
    pub token: AckToken,
    /// How often the broker itself delivered it before (0 where it does not count).
    pub redeliveries: u32,
}

/// What became of a delivery.
#[derive(Debug, Clone)]
pub struct Settlement {
    /// The delivery.
    pub token: AckToken,
    /// Its fate.
    pub disposition: Disposition,
}

impl Settlement {
    /// `token` is terminal, and nothing is to be written with it.
    pub fn done(token: AckToken) -> Self {
        Self { token, disposition: Disposition::done(Vec::new()) }
    }
}

/// The fate of a delivery.
#[derive(Debug, Clone)]
pub enum Disposition {
    /// Terminal: the position may pass it. `effects` are outputs and dead letters
    /// that must become durable in one atomic step with the acknowledgement; they
    /// are non-empty only where the source's [`Guarantees::atomic_effects`](crate::Guarantees)
    /// is set, and have been published before otherwise.
    Done {
        /// Records to append together with the acknowledgement.
        effects: Vec<Outgoing>,
        /// Written in the same step, so that the event is known as handled (contract
        /// I2); given only where [`Guarantees::atomic_marks`](crate::Guarantees) is set.
        mark: Option<Mark>,
        /// Changes of the group's state, made in the same step; given only where
        /// [`Guarantees::atomic_state`](crate::Guarantees) is set.
        state: Option<Box<StateChanges>>,
    },
    /// Not processed: deliver it again, to anyone, no sooner than `after`.
    /// A log broker keeps its position before it and has nothing to do.
    Release {
        /// Least time until the next delivery, where the broker can delay.
        after: Duration,
    },
}

impl Disposition {
    /// Terminal, with `effects` and nothing else.
    pub fn done(effects: Vec<Outgoing>) -> Self {
        Self::Done { effects, mark: None, state: None }
    }
}
