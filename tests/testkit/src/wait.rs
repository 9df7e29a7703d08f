//! Waiting for a condition, never for a time.

use std::time::{Duration, Instant};

/// Polls until `condition` gives a value. The bound only ends a hopeless wait.
///
/// # Panics
/// When the bound of five minutes has passed.
pub fn eventually<T>(what: &str, condition: impl FnMut() -> Option<T>) -> T {
    eventually_within(Duration::from_secs(300), what, condition)
}

/// As [`eventually`] with a bound of its own.
///
/// # Panics
/// When the bound has passed.
pub fn eventually_within<T>(
    bound: Duration,
    what: &str,
    mut condition: impl FnMut() -> Option<T>,
) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(start.elapsed() < bound, "waited {bound:?} in vain: {what}");
        pause();
    }
}

// these tests drive other processes: there is no executor to yield to
#[allow(clippy::disallowed_methods)]
fn pause() {
    std::thread::sleep(Duration::from_millis(20));
}
