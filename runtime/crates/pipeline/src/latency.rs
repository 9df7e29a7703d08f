//! Quantiles of durations without a lock, to within an eighth.

use std::{
    array,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// Buckets per doubling.
const STEPS: usize = 8;
/// Doublings from a microsecond to days.
const DOUBLINGS: usize = 40;

/// Counts durations in buckets of a microsecond up to days, each an eighth wider
/// than its doubling's first.
#[derive(Debug)]
pub struct Latency([AtomicU64; STEPS * DOUBLINGS]);

impl Default for Latency {
    fn default() -> Self {
        Self(array::from_fn(|_| AtomicU64::new(0)))
    }
}

impl Latency {
    pub(crate) fn record(&self, duration: Duration) {
        self.0[bucket(duration)].fetch_add(1, Ordering::Relaxed);
    }

    /// The duration that a share `q` (0.0 to 1.0) of all stays within; `None` as
    /// long as nothing was recorded.
    pub fn quantile(&self, q: f64) -> Option<Duration> {
        let counts: Vec<u64> = self.0.iter().map(|n| n.load(Ordering::Relaxed)).collect();
        let total: u64 = counts.iter().sum();
        let rank = ((total as f64 * q).ceil() as u64).max(1);
        let mut seen = 0;
        let at = counts.iter().position(|n| {
            seen += n;
            seen >= rank
        });
        at.map(upper)
    }
}

fn bucket(duration: Duration) -> usize {
    let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX).max(1);
    let doubling = micros.ilog2() as usize;
    // the three bits below the leading one
    let step = if doubling >= 3 { micros >> (doubling - 3) } else { micros << (3 - doubling) };
    (doubling * STEPS + (step as usize - STEPS)).min(STEPS * DOUBLINGS - 1)
}

/// The end of a bucket.
fn upper(bucket: usize) -> Duration {
    let (doubling, step) = (bucket / STEPS, bucket % STEPS);
    Duration::from_micros(((1u64 << doubling) * (STEPS + step + 1) as u64).div_ceil(STEPS as u64))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn quantiles_of_a_known_spread() {
        let latency = Latency::default();
        assert_eq!(latency.quantile(0.5), None);
        (1..=1000).for_each(|ms| latency.record(Duration::from_millis(ms)));
        let ms = |q| latency.quantile(q).unwrap().as_millis();
        assert!((500..=563).contains(&ms(0.5)), "{}", ms(0.5));
        assert!((990..=1115).contains(&ms(0.99)), "{}", ms(0.99));
    }

    proptest! {
        #[test]
        fn a_bucket_ends_at_most_an_eighth_past_what_is_in_it(micros in 0..1u64 << 39) {
            let end = upper(bucket(Duration::from_micros(micros))).as_micros() as u64;
            prop_assert!(end >= micros && end <= micros + micros / 8 + 2, "{micros} in {end}");
        }
    }
}
