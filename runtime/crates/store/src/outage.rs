//! A time in which commits fail: how long to wait before the next attempt, and how often
//! to speak of it.

use std::time::{Duration, Instant};

use tracing::{error, info};

/// The first pause; each that follows is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
/// Longest pause, unless mending takes long.
const LONGEST_PAUSE: Duration = Duration::from_millis(100);
/// How much longer than mending took the pause is at least: readers, who have to wait
/// meanwhile, get most of the time.
const PER_MENDING: u32 = 4;
/// Time between two lines in the log.
const SAY_EVERY: Duration = Duration::from_secs(30);

/// Begins with a failed commit and ends with one that stored records.
#[derive(Debug)]
pub(crate) struct Outage {
    since: Instant,
    failures: u64,
    pause: Duration,
    said: Option<Instant>,
}

impl Outage {
    pub(crate) fn begin() -> Self {
        Self { since: Instant::now(), failures: 0, pause: Duration::ZERO, said: None }
    }

    /// Notes one more failure of `log` and how long the attempt to mend it took.
    pub(crate) fn note(&mut self, log: &str, reason: &str, mending: Duration) {
        self.failures += 1;
        let doubled = (self.pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE);
        self.pause = doubled.max(mending * PER_MENDING);
        if self.said.is_none_or(|at| at.elapsed() >= SAY_EVERY) {
            self.said = Some(Instant::now());
            let failures = self.failures;
            error!(
                log,
                reason,
                failures,
                "the log cannot store: nothing of it is acknowledged, trying again"
            );
        }
    }

    pub(crate) fn pause(&self) -> Duration {
        self.pause
    }

    pub(crate) fn end(self, log: &str) {
        let (failures, lasted) = (self.failures, self.since.elapsed());
        info!(log, failures, ?lasted, "the log stores again");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn d1_attempts_become_rarer_and_leave_readers_most_of_the_time() {
        let mut outage = Outage::begin();
        let pauses: Vec<_> = (0..9)
            .map(|_| {
                outage.note("log", "full", Duration::ZERO);
                outage.pause().as_millis()
            })
            .collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 64, 100, 100]);
        outage.note("log", "full", Duration::from_millis(500));
        assert_eq!(outage.pause(), Duration::from_secs(2));
    }
}
