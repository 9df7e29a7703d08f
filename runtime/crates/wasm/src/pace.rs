//! How many events to pass at once: as many as are quickly done.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

/// How long a call may take: the first outcome of a batch is known with its last, so
/// more would only delay it.
const CALL: Duration = Duration::from_millis(2);

/// Work of less than this is not worth to be spread over workers: to hand it over takes as long.
const NEXT_TO_NOTHING: Duration = Duration::from_micros(200);

/// The pace of one plugin. It begins with one event, for nothing is known of the handler,
/// and doubles as long as calls are short.
#[derive(Debug)]
pub(crate) struct Pace {
    now: AtomicUsize,
    together: AtomicUsize,
    most: usize,
}

impl Pace {
    /// At most `most` events at once.
    pub(crate) fn new(most: usize) -> Self {
        Self { now: AtomicUsize::new(1), together: AtomicUsize::new(1), most }
    }

    /// Most events that are ever passed at once.
    pub(crate) fn most(&self) -> usize {
        self.most
    }

    /// Number of events to pass at once now.
    pub(crate) fn at_once(&self) -> usize {
        self.now.load(Ordering::Relaxed)
    }

    /// Number of events that are next to nothing.
    pub(crate) fn together(&self) -> usize {
        self.together.load(Ordering::Relaxed)
    }

    /// A call with `events` events took `took`.
    pub(crate) fn note(&self, events: usize, took: Duration) {
        let within = |time: Duration| {
            let fits = time.as_nanos() * events as u128 / took.as_nanos().max(1);
            usize::try_from(fits).unwrap_or(usize::MAX)
        };
        // few events say little of many, but for that one alone is slow
        let likely = self.at_once().max(events.saturating_mul(2));
        let set = |to: &AtomicUsize, fits: usize| {
            let next = fits.min(likely).clamp(1, self.most);
            // mostly the same: reading keeps the line shared between workers
            if next != to.load(Ordering::Relaxed) {
                to.store(next, Ordering::Relaxed);
            }
        };
        set(&self.now, within(CALL));
        set(&self.together, within(NEXT_TO_NOTHING));
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

    #[test]
    fn what_is_quickly_done_stays_together() {
        let pace = Pace::new(100);
        assert_eq!(pace.together(), 1, "nothing is known yet");
        (0..8).for_each(|_| pace.note(pace.at_once(), Duration::from_micros(1)));
        assert_eq!(pace.together(), 100);
        pace.note(50, Duration::from_millis(1));
        assert_eq!(pace.together(), 10, "of 20 us each");
        pace.note(10, Duration::from_millis(10));
        assert_eq!(pace.together(), 1);
    }
}
