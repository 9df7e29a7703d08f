//! Pacing towards a broker that is away, and of the log lines about it.

use std::time::Duration;

use tokio::time::Instant;

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(5);
const LOG_EVERY: Duration = Duration::from_secs(30);

/// Doubling delays between calls that find the broker away.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    last: Option<Duration>,
}

impl Backoff {
    pub(crate) fn next(&mut self) -> Duration {
        let delay = self.last.map_or(FIRST, |d| (d * 2).min(LONGEST));
        self.last = Some(delay);
        delay
    }

    pub(crate) fn reset(&mut self) {
        self.last = None;
    }
}

/// Lets one log line through at once and then one per half minute.
#[derive(Debug, Default)]
pub(crate) struct Throttle {
    next: Option<Instant>,
    held: u64,
}

impl Throttle {
    /// `Some(lines held back since the last one)` when a line is due.
    pub(crate) fn due(&mut self) -> Option<u64> {
        let now = Instant::now();
        if self.next.is_some_and(|at| now < at) {
            self.held += 1;
            return None;
        }
        self.next = Some(now + LOG_EVERY);
        Some(std::mem::take(&mut self.held))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_doubles_to_its_limit_and_starts_over() {
        let mut b = Backoff::default();
        let first: Vec<_> = (0..8).map(|_| b.next().as_millis()).collect();
        assert_eq!(first, [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        b.reset();
        assert_eq!(b.next(), FIRST);
    }

    #[tokio::test(start_paused = true)]
    async fn log_lines_are_throttled_and_counted() {
        let mut t = Throttle::default();
        assert_eq!(t.due(), Some(0));
        assert_eq!((t.due(), t.due()), (None, None));
        tokio::time::advance(LOG_EVERY).await;
        assert_eq!(t.due(), Some(2));
    }
}
