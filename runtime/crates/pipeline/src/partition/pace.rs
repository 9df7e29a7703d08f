//! What a partition may do now, and when it has to look again.

use tokio::{sync::Semaphore, time::Instant};

use super::Work;
use crate::{
    Subscription,
    stop::{Deadline, Phase},
};

/// Unfinished events that one partition may have (contract C4).
pub(super) fn window(subscription: &Subscription) -> usize {
    subscription.config.max_in_flight.clamp(1, Semaphore::MAX_PERMITS)
}

impl Work {
    pub(super) fn may_start(&self) -> bool {
        !self.health.is_halted() && !self.stop.phase().is_late()
    }

    /// There is something to start and only a worker is missing.
    pub(super) fn is_starved(&self) -> bool {
        self.may_start() && self.lanes.ready() > 0 && !self.shut
    }

    /// How many events may be taken in now (contract C4).
    pub(super) fn room(&self) -> usize {
        match self.stop.phase() {
            Phase::Run if !self.health.is_halted() => {
                window(&self.subscription).saturating_sub(self.ledger.len() + self.unmarked)
            }
            _ => 0,
        }
    }

    /// The next moment at which something is due.
    pub(super) fn alarm(&self) -> Instant {
        let aborted = self.attempts.is_aborted();
        let deadline = |d: Deadline| if aborted { d.end } else { d.abort };
        let deadline = self.stop.phase().deadline().map(deadline);
        let alarms = [self.later.next(), self.gate_opens, deadline];
        alarms.into_iter().flatten().fold(self.health.next_tick(), Instant::min)
    }

    pub(super) fn is_over(&self) -> bool {
        let quiet = self.attempts.is_idle() && self.finished.is_empty() && !self.port.is_settling();
        match self.stop.phase() {
            Phase::Run => false,
            Phase::Finish => quiet && (self.ledger.len() == 0 || self.health.is_halted()),
            Phase::Drain(deadline) => {
                let nothing_to_start = self.lanes.ready() == 0 || self.shut || !self.may_start();
                (quiet && nothing_to_start) || deadline.end <= Instant::now()
            }
        }
    }
}
