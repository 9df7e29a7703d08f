//! Retry as a value that decides. The loop that obeys it is in `partition.rs`.

use std::time::Duration;

/// When and how often an event is tried again. Time is handed in, never asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct RetryPolicy {
    /// Attempts in all, the first one included.
    pub max_attempts: u32,
    /// Delay before the second attempt.
    pub initial_delay: Duration,
    /// Longest delay, also of those that a handler asks for.
    pub max_delay: Duration,
    /// Growth of the delay per attempt.
    pub multiplier: f64,
    /// Share of the delay, 0.0 to 1.0, that chance may take off.
    pub jitter: f64,
    /// Longest time between the first attempt and the last.
    pub max_age: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            max_attempts: 5,
            initial_delay: Duration::from_millis(200),
            max_delay: Duration::from_secs(30),
            multiplier: 2.0,
            jitter: 0.2,
            max_age: Duration::from_secs(3600),
        }
    }
}

/// What the policy says after a failed attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryDecision {
    /// Try again, no sooner than `after` from now.
    Retry {
        /// Least delay.
        after: Duration,
    },
    /// One of the limits is reached.
    Exhausted,
}

impl RetryPolicy {
    /// Decides after attempt number `attempt` (1 is the first) failed.
    ///
    /// `age` is the time since the first attempt began, `hint` the delay that the
    /// handler asked for, `random` is in `0.0..1.0`. A retry that could begin only
    /// past `max_age` is not waited for: the event is exhausted at once (contract R2).
    pub fn next(
        &self,
        attempt: u32,
        age: Duration,
        hint: Option<Duration>,
        random: f64,
    ) -> RetryDecision {
        if attempt >= self.max_attempts {
            return RetryDecision::Exhausted;
        }
        let after = match hint {
            Some(asked) => asked.min(self.max_delay),
            None => self.delay(attempt, random),
        };
        if age.saturating_add(after) > self.max_age {
            return RetryDecision::Exhausted;
        }
        RetryDecision::Retry { after }
    }

    fn delay(&self, attempt: u32, random: f64) -> Duration {
        let steps = i32::try_from(attempt.saturating_sub(1)).unwrap_or(i32::MAX);
        let seconds = self.initial_delay.as_secs_f64() * self.multiplier.powi(steps);
        // overflow to infinity and a senseless multiplier both end at the longest delay
        let full =
            Duration::try_from_secs_f64(seconds).map_or(self.max_delay, |d| d.min(self.max_delay));
        let kept = 1.0 - self.jitter * random;
        if (0.0..=1.0).contains(&kept) { full.mul_f64(kept) } else { full }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn policy() -> RetryPolicy {
        RetryPolicy {
            max_attempts: 4,
            initial_delay: Duration::from_secs(1),
            max_delay: Duration::from_secs(3),
            multiplier: 2.0,
            jitter: 0.5,
            max_age: Duration::from_secs(60),
        }
    }

    fn after(seconds: f64) -> RetryDecision {
        RetryDecision::Retry { after: Duration::from_secs_f64(seconds) }
    }

    #[test]
    fn r1_delay_grows_up_to_its_limit_and_jitter_only_shortens_it() {
        let p = policy();
        assert_eq!(p.next(1, Duration::ZERO, None, 0.0), after(1.0));
        assert_eq!(p.next(2, Duration::ZERO, None, 0.0), after(2.0));
        assert_eq!(p.next(3, Duration::ZERO, None, 0.0), after(3.0));
        assert_eq!(p.next(3, Duration::ZERO, None, 0.5), after(2.25));
    }

    #[test]
    fn r2_the_first_limit_reached_ends_it() {
        let p = policy();
        assert_eq!(p.next(4, Duration::ZERO, None, 0.0), RetryDecision::Exhausted);
        assert_eq!(p.next(1, Duration::from_secs(59), None, 0.0), after(1.0));
        assert_eq!(p.next(1, Duration::from_millis(59_001), None, 0.0), RetryDecision::Exhausted);
    }

    #[test]
    fn r2_a_handler_cannot_ask_for_more_than_the_policy_gives() {
        let p = policy();
        let hint = |s| Some(Duration::from_secs(s));
        assert_eq!(p.next(1, Duration::ZERO, hint(0), 0.9), after(0.0));
        assert_eq!(p.next(1, Duration::ZERO, hint(600), 0.9), after(3.0));
        assert_eq!(p.next(4, Duration::ZERO, hint(0), 0.9), RetryDecision::Exhausted);
    }

    proptest! {
        #[test]
        fn r2_no_setting_gives_an_endless_or_an_overlong_retry(
            attempt in 1u32.., multiplier in any::<f64>(), jitter in any::<f64>(),
            random in 0.0..1.0f64, max_attempts in 1u32..,
        ) {
            let p = RetryPolicy { max_attempts, multiplier, jitter, ..policy() };
            match p.next(attempt, Duration::ZERO, None, random) {
                RetryDecision::Retry { after } => {
                    prop_assert!(attempt < max_attempts && after <= p.max_delay);
                }
                RetryDecision::Exhausted => prop_assert!(attempt >= max_attempts),
            }
        }
    }
}
