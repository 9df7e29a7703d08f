//! Faults that are planted on purpose, to see that the checker notices them.

use sandbar_pipeline::{OnDeadLetter, OnExhausted, SubscriptionConfig};

use crate::plan::halts;

/// A fault of what surrounds the pipeline: the adapter, the carriers, the handler's slot.
/// Those of the pipeline itself are [`sandbar_pipeline::faults::Fault`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModelFault {
    /// The pipeline works with other settings than the plan says.
    Misled(Misled),
    /// An event without a key is delivered with an empty one.
    KeyMadeUp,
    /// A position does not go beyond a gap.
    GapsStall,
    /// A handler's rejection arrives as a failure to try again.
    RejectionLost,
    /// A failure arrives as one of another kind.
    ClassLost,
    /// Dead letters arrive without the event's headers.
    LetterStripped,
    /// What cannot be decoded arrives as something that can.
    BrokenRepaired,
    /// A dead letter is sent back to every group.
    RedrivenToAll,
    /// A dead letter is sent back however often that was done before.
    QuarantineIgnored,
    /// Effects are written, and the transaction fails.
    EffectsWithoutPosition,
    /// A group begins anew whenever a partition is assigned.
    CursorForgotten,
    /// The pipeline is told of a later deadline than the source keeps.
    DeadlineMisstated,
    /// A commit covers everything before the furthest event that is done.
    LaterPositionsCommitted,
    /// Dropping a partition settles what was delivered.
    DroppedIsAcknowledged,
    /// The last commit before a partition goes is said to be done, and is not.
    LastCommitSkipped,
    /// What was finished past the position is handled again.
    FinishedAheadForgotten,
    /// A fenced member's settlements count.
    ZombieAccepted,
    /// A consumer for each retry tier and plugin.
    CourierPerPlugin,
    /// A carrier's position goes on before the parcel is durable.
    CarriedBeforeDurable,
    /// A new version is loaded, and the old one goes on serving.
    ReloadIgnored,
}

/// A setting that the pipeline gets wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Misled {
    /// Attempts without number.
    Attempts,
    /// A window as large as can be.
    Window,
    /// No outage breaker.
    Breaker,
    /// A dead letter halts nothing.
    HaltedKeys,
    /// What is to halt is dropped.
    Halt,
    /// What is to be buried is dropped.
    Burial,
}

impl Misled {
    /// What becomes of the plan's settings.
    pub fn apply(self, config: &mut SubscriptionConfig) {
        match self {
            Self::Attempts => config.retry.max_attempts += 2,
            Self::Window => config.max_in_flight = 1000,
            Self::Breaker => config.breaker.failures = 0,
            Self::HaltedKeys => {
                let letters = config.dead_letter.iter_mut();
                letters.for_each(|to| to.on_dead_letter = OnDeadLetter::Continue);
            }
            Self::Halt if halts(config) => config.exhausted = OnExhausted::Drop,
            Self::Burial if !halts(config) => config.exhausted = OnExhausted::Drop,
            Self::Halt | Self::Burial => {}
        }
    }
}
