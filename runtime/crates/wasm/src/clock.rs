//! Time that a test sets.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// A clock that stands still until it is moved. A host that has one lets plugins read it
/// instead of the system's clocks; a plugin that waits moves it on and goes on at once.
/// Clones show the same time.
#[derive(Debug, Clone)]
pub struct ManualClock(Arc<AtomicU64>);

impl ManualClock {
    /// A clock that shows `since_epoch`, the time since 1970 began (UTC), up to the year 2554.
    pub fn new(since_epoch: Duration) -> Self {
        Self(Arc::new(AtomicU64::new(nanoseconds(since_epoch))))
    }

    /// Time since 1970 began (UTC).
    pub fn now(&self) -> Duration {
        Duration::from_nanos(self.0.load(Ordering::SeqCst))
    }

    /// Sets it, back as well: for the next test, where no plugin of the last one runs any more.
    pub fn set(&self, since_epoch: Duration) {
        self.0.store(nanoseconds(since_epoch), Ordering::SeqCst);
    }

    /// Moves it on to `since_epoch`, unless it is later there already.
    pub fn move_to(&self, since_epoch: Duration) {
        self.0.fetch_max(nanoseconds(since_epoch), Ordering::SeqCst);
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_clones_move_together_and_go_back_only_when_set() {
        let clock = ManualClock::new(Duration::from_secs(7));
        let other = clock.clone();
        other.move_to(Duration::from_secs(9));
        other.move_to(Duration::from_secs(8));
        assert_eq!(clock.now(), Duration::from_secs(9));
        clock.move_to(Duration::MAX);
        assert_eq!(clock.now(), Duration::from_nanos(u64::MAX));
        other.set(Duration::ZERO);
        assert_eq!(clock.now(), Duration::ZERO);
    }
}
