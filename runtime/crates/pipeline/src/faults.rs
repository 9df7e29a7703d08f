//! Faults that a test plants on purpose, to show that they would be noticed. Without the
//! feature `faults` none of this is in the program.

/// A fault in the pipeline itself. The names say what the pipeline then does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// An event of a busy lane starts beside the one before it.
    LanesShared,
    /// A lane goes on while its event waits for the next attempt.
    LaneLeftForRetry,
    /// A retry does not wait for its time.
    RetryEarly,
    /// An event that waits for its retry is settled.
    RetrySettled,
    /// An event is reported as done before its outputs are durable.
    OutputsNotAwaited,
    /// What a shutdown leaves unfinished becomes a dead letter.
    ShutdownBuries,
    /// What is given back at the end of a drain is settled as done.
    AbortedSettled,
    /// An event is marked as handled before it is.
    MarkedFirst,
    /// Two events of one id under way at once do not wait for each other.
    MarksNotHeld,
    /// Marks are kept for ever.
    MarksForever,
}

#[cfg(feature = "faults")]
mod planted {
    use std::cell::Cell;

    use super::Fault;

    thread_local! {
        static PLANTED: Cell<Option<Fault>> = const { Cell::new(None) };
    }

    /// Does `act` with `fault` planted in whatever of the pipeline runs on this thread.
    pub fn planted_during<T>(fault: Option<Fault>, act: impl FnOnce() -> T) -> T {
        let before = PLANTED.replace(fault);
        let result = act();
        PLANTED.set(before);
        result
    }

    pub(crate) fn planted(fault: Fault) -> bool {
        PLANTED.get() == Some(fault)
    }
}

#[cfg(feature = "faults")]
pub(crate) use planted::planted;
#[cfg(feature = "faults")]
pub use planted::planted_during;

/// Whether the pipeline is to behave wrongly in this way.
#[cfg(not(feature = "faults"))]
pub(crate) const fn planted(_: Fault) -> bool {
    false
}
