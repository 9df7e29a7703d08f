//! How an event's fate is said aloud. Nothing is ever settled by being dropped.

use std::time::Duration;

use crate::{Event, Mark, Outgoing, PartitionId, SourceError, StateChanges};

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

    /// For a source without [`Guarantees::atomic_effects`](crate::Guarantees), before the
    /// first of `settlements` counts.
    ///
    /// # Errors
    /// [`SourceError::Rejected`] where one of them has effects.
    pub fn without_effects(settlements: &[Self], of: &PartitionId) -> Result<(), SourceError> {
        let has_effects = |disposition: &Disposition| match disposition {
            Disposition::Done { effects, .. } => !effects.is_empty(),
            Disposition::Release { .. } => false,
        };
        let reason = || {
            format!(
                "{of} cannot write outputs together with an acknowledgement: publish them first"
            )
        };
        reject(settlements, has_effects, reason)
    }

    /// For a source without [`Guarantees::atomic_state`](crate::Guarantees), before the
    /// first of `settlements` counts.
    ///
    /// # Errors
    /// [`SourceError::Rejected`] where one of them changes the state.
    pub fn without_state(settlements: &[Self], of: &PartitionId) -> Result<(), SourceError> {
        let has_state = |disposition: &Disposition| match disposition {
            Disposition::Done { state, .. } => state.is_some(),
            Disposition::Release { .. } => false,
        };
        let reason =
            || format!("{of} cannot change state together with an acknowledgement: write it first");
        reject(settlements, has_state, reason)
    }
}

/// Rejects the first of `settlements` whose disposition is `refused`.
fn reject(
    settlements: &[Settlement],
    refused: impl Fn(&Disposition) -> bool,
    reason: impl FnOnce() -> String,
) -> Result<(), SourceError> {
    match settlements.iter().find(|settlement| refused(&settlement.disposition)) {
        Some(Settlement { token, .. }) => {
            Err(SourceError::Rejected { token: *token, reason: reason() })
        }
        None => Ok(()),
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
        /// [`Guarantees::atomic_state`](crate::Guarantees) is set, and rejected elsewhere:
        /// whoever drops them has the plugin forget.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::StateQuota;

    #[test]
    fn what_a_source_does_not_promise_is_rejected_by_its_token() {
        let of = PartitionId { topic: "t".into(), partition: 3 };
        let release = Disposition::Release { after: Duration::ZERO };
        let changes = StateChanges { ops: Vec::new(), quota: StateQuota::UNLIMITED, at_ms: 0 };
        let state = Some(Box::new(changes));
        let state = Disposition::Done { effects: Vec::new(), mark: None, state };
        let effects = Disposition::done(vec![Outgoing::new("out", "x")]);
        let plain = [Settlement::done(AckToken(0)), settled(1, release)];
        assert!(Settlement::without_effects(&plain, &of).is_ok());
        assert!(Settlement::without_state(&plain, &of).is_ok());
        let all = [Settlement::done(AckToken(0)), settled(1, effects), settled(2, state)];
        let (effects, state) =
            (Settlement::without_effects(&all, &of), Settlement::without_state(&all, &of));
        for (refused, expected, what) in [(effects, 1, "outputs"), (state, 2, "state")] {
            let Err(SourceError::Rejected { token, reason }) = refused else {
                panic!("{refused:?}")
            };
            assert_eq!(token, AckToken(expected));
            assert!(reason.starts_with("t/3 cannot ") && reason.contains(what), "{reason}");
        }
    }

    fn settled(token: u64, disposition: Disposition) -> Settlement {
        Settlement { token: AckToken(token), disposition }
    }
}
