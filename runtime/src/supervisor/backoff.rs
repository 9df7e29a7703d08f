//! When to try again what may work later.

use std::time::Duration;

use tokio::time::Instant;

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(30);
/// What ran this long before it failed is a new failure, not the same again.
const SOUND: Duration = Duration::from_secs(60);

/// Doubling delays with jitter, so that the plugins of one broker do not all
/// come back at the same moment.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
    due: Option<Instant>,
}

impl Backoff {
    /// Something failed that had worked since `since`: when to try again.
    pub(super) fn failed(&mut self, since: Option<Instant>) {
        if since.is_some_and(|at| at.elapsed() >= SOUND) {
            self.failures = 0;
        }
        let delay = FIRST.saturating_mul(1 << self.failures.min(5)).min(LONGEST);
        self.failures += 1;
        self.due = Some(Instant::now() + delay.mul_f64(rand::random_range(0.5..1.0)));
    }

    /// Whether to try now.
    pub(super) fn is_due(&self) -> bool {
        self.due.is_none_or(|at| at <= Instant::now())
    }

    /// Nothing is left to be tried again.
    pub(super) fn settled(&mut self) {
        self.due = None;
    }

    /// Everything is new: try at once.
    pub(super) fn reset(&mut self) {
        *self = Self::default();
    }

    /// Until the next try is due; for ever when there is none.
    pub(super) async fn wait(&self) {
        match self.due {
            Some(at) => tokio::time::sleep_until(at).await,
            None => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn delays_double_to_their_limit_and_a_sound_run_starts_them_over() {
        let mut backoff = Backoff::default();
        assert!(backoff.is_due());
        for most in [1, 2, 4, 8, 16, 30, 30] {
            backoff.failed(None);
            assert!(!backoff.is_due());
            let begun = Instant::now();
            backoff.wait().await;
            let most = Duration::from_secs(most);
            let waited = begun.elapsed();
            assert!(waited <= most + Duration::from_millis(1) && waited >= most / 2, "{waited:?}");
        }
        let since = Instant::now();
        tokio::time::advance(SOUND).await;
        backoff.failed(Some(since));
        let begun = Instant::now();
        backoff.wait().await;
        assert!(begun.elapsed() <= FIRST + Duration::from_millis(1));
    }
}
