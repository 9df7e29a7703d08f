//! The only place where this crate learns what time it is or rolls a die.
//!
//! Durations are measured with tokio's clock, so that tests run on paused time;
//! the time of day and chance are handed in.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// Where a subscription takes the time of day and randomness from.
#[derive(Clone)]
pub struct Environment {
    /// Milliseconds since the Unix epoch.
    pub wall_ms: Arc<dyn Fn() -> u64 + Send + Sync>,
    /// Evenly spread in `0.0..1.0`; jitter is drawn from it.
    pub random: Arc<dyn Fn() -> f64 + Send + Sync>,
}

impl Default for Environment {
    fn default() -> Self {
        Self { wall_ms: Arc::new(system_ms), random: Arc::new(rand::random::<f64>) }
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Environment").finish_non_exhaustive()
    }
}

fn system_ms() -> u64 {
    // a clock before 1970 is a machine without a clock; dead letters then say so
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64)
}

/// `ms` since the Unix epoch as RFC 3339 in UTC, e.g. `2026-11-21T10:30:00.000Z`.
pub(crate) fn rfc3339(ms: u64) -> String {
    // past the year 9999 there is no such text: stop there instead of failing
    const LAST: u64 = 253_402_300_799_999;
    humantime::format_rfc3339_millis(UNIX_EPOCH + Duration::from_millis(ms.min(LAST))).to_string()
}

/// Milliseconds since the Unix epoch of a time that [`rfc3339`] has written.
pub(crate) fn parse_rfc3339(text: &str) -> Option<u64> {
    let time = humantime::parse_rfc3339(text).ok()?;
    u64::try_from(time.duration_since(UNIX_EPOCH).ok()?.as_millis()).ok()
}

#[cfg(test)]
mod tests {
    use super::{parse_rfc3339, rfc3339};

    #[test]
    fn time_of_day_is_rfc_3339_and_never_fails() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(rfc3339(1_795_257_000_123), "2026-11-21T10:30:00.123Z");
        assert_eq!(rfc3339(u64::MAX), "9999-12-31T23:59:59.999Z");
        for ms in [0, 1_795_257_000_123, 253_402_300_799_999] {
            assert_eq!(parse_rfc3339(&rfc3339(ms)), Some(ms));
        }
        assert_eq!(parse_rfc3339("yesterday"), None);
    }
}
