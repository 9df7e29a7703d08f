//! How many events to pass at once: as many as are quickly done.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

/// How long a call may take: the first outcome of a batch is known with its last, so
/// more would only delay it.
const CALL: Duration = Duration::from_millis(2);

/// The pace of one plugin. It begins with one event, for nothing is known of the handler,
/// and doubles as long as calls are short.
#[derive(Debug)]
pub(crate) struct Pace {
    now: AtomicUsize,
    most: usize,
}

impl Pace {
    /// At most `most` events at once.
    pub(crate) fn new(most: usize) -> Self {
        Self { now: AtomicUsize::new(1), most }
    }

    /// Most events that are ever passed at once.
    pub(crate) fn most(&self) -> usize {
        self.most
    }

    /// Number of events to pass at once now.
    pub(crate) fn at_once(&self) -> usize {
        self.now.load(Ordering::Relaxed)
    }

    /// A call with `events` events took `took`.
    pub(crate) fn note(&self, events: usize, took: Duration) {
        let now = self.at_once();
        let fits = CALL.as_nanos() * events as u128 / took.as_nanos().max(1);
        let fits = usize::try_from(fits).unwrap_or(usize::MAX);
        // few events say little of many, but for that one alone is slow
        let next = fits.min(now.max(events.saturating_mul(2))).clamp(1, self.most);
        // mostly the same: reading keeps the line shared between workers
        if next != now {
            self.now.store(next, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_handlers_get_one_event_at_a_time_and_quick_ones_many() {
        let pace = Pace::new(100);
        let mut seen = Vec::new();
        let mut run = |per_event: Duration, calls: usize| {
            for _ in 0..calls {
                seen.push(pace.at_once());
                pace.note(pace.at_once(), per_event * u32::try_from(pace.at_once()).unwrap());
            }
        };
        run(Duration::from_micros(1), 9);
        run(Duration::from_millis(5), 2);
        run(Duration::from_micros(100), 7);
        let quick = [1, 2, 4, 8, 16, 32, 64, 100, 100];
        assert_eq!(seen[..9], quick);
        assert_eq!(seen[9..11], [100, 1], "one slow batch is enough");
        assert_eq!(seen[11..], [1, 2, 4, 8, 16, 20, 20], "what is done in two milliseconds");
    }

    #[test]
    fn calls_with_few_events_do_not_lower_a_pace_that_is_fast_enough() {
        let pace = Pace::new(100);
        (0..8).for_each(|_| pace.note(pace.at_once(), Duration::from_micros(1)));
        pace.note(1, Duration::from_micros(4));
        assert_eq!(pace.at_once(), 100);
        pace.note(1, Duration::ZERO);
        assert_eq!(pace.at_once(), 100);
        pace.note(1, Duration::from_secs(1));
        assert_eq!(pace.at_once(), 1);
    }
}
