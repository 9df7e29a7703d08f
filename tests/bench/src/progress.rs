//! Throughput as an observer sees it: a count that is asked for again and again.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

/// Time between two questions.
const EVERY: Duration = Duration::from_millis(50);
/// A count that stands still for so long will not move any more.
const PATIENCE: Duration = Duration::from_secs(60);

/// Watches a count grow to `total` and returns its growth a second between the first tenth,
/// where everything starts up, and the end.
///
/// Only the moments at which it moved count, so neither the start nor what comes in steps, as
/// transactions do, is measured for longer than it took.
///
/// # Errors
/// When it stands still, or `count` fails.
pub fn rate(total: u64, mut count: impl FnMut() -> Result<u64>) -> Result<f64> {
    let mut first: Option<(Instant, u64)> = None;
    let mut last = (Instant::now(), 0);
    // when there was still nothing
    let mut before = last;
    loop {
        let now = count()?;
        if now == 0 {
            before.0 = Instant::now();
        }
        if now > last.1 {
            last = (Instant::now(), now);
            if first.is_none() && now >= total / 10 {
                first = Some(last);
            }
        }
        if now >= total {
            break;
        }
        ensure!(
            last.0.elapsed() < PATIENCE,
            "{now} of {total} events, and no more for {PATIENCE:?}"
        );
        pause(EVERY);
    }
    // what came all at once, as few events do, has only its start to be measured from
    let (began, had) = first.filter(|first| first.1 < last.1).unwrap_or(before);
    Ok((last.1 - had) as f64 / (last.0 - began).as_secs_f64())
}

/// Asks every millisecond until there is an answer, and returns it.
///
/// # Errors
/// After a minute, or when `ask` fails.
pub fn wait<T>(what: &str, mut ask: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let began = Instant::now();
    loop {
        if let Some(answer) = ask()? {
            return Ok(answer);
        }
        ensure!(began.elapsed() < PATIENCE * 3, "waited {:?} in vain: {what}", PATIENCE * 3);
        pause(Duration::from_millis(1));
    }
}

/// Blocks this thread.
#[allow(clippy::disallowed_methods, reason = "measures other processes: there is no executor")]
pub fn pause(time: Duration) {
    std::thread::sleep(time);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_does_not_count() {
        let began = Instant::now();
        let count = || {
            // nothing for 200 ms, then 1,000 a second
            let ms = began.elapsed().as_millis() as u64;
            Ok(ms.saturating_sub(200))
        };
        let rate = rate(400, count).unwrap();
        assert!((900.0..1100.0).contains(&rate), "{rate}");
    }
}
