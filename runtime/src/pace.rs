//! Events spread evenly over time.

use std::{num::NonZeroU32, time::Duration};

use tokio::time::Instant;

/// Lets so many events a second pass, at most. Time that was not used is lost: after a
/// stall nothing is caught up with in a rush.
#[derive(Debug)]
pub struct Pace {
    rate: NonZeroU32,
    due: Option<Instant>,
}

impl Pace {
    /// `rate` events a second.
    pub fn new(rate: NonZeroU32) -> Self {
        Self { rate, due: None }
    }

    /// Events to pass together: those of a twentieth of a second.
    pub fn step(&self) -> usize {
        usize::try_from(self.rate.get() / 20).unwrap_or(usize::MAX).max(1)
    }

    /// Waits until the next `count` events may pass. Cancel-safe: a cancelled call has
    /// let none pass.
    pub async fn wait(&mut self, count: usize) {
        let due = self.due.map_or_else(Instant::now, |due| due.max(Instant::now()));
        tokio::time::sleep_until(due).await;
        self.due = Some(due + Duration::from_secs_f64(count as f64 / f64::from(self.rate.get())));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace(rate: u32) -> Pace {
        Pace::new(NonZeroU32::new(rate).expect("not zero"))
    }

    #[tokio::test(start_paused = true)]
    async fn events_are_spread_evenly() {
        let mut pace = pace(100);
        assert_eq!(pace.step(), 5);
        let start = Instant::now();
        for _ in 0..21 {
            pace.wait(5).await;
        }
        assert_eq!(start.elapsed().as_millis(), 1000);
    }

    #[tokio::test(start_paused = true)]
    async fn d4_a_stall_is_not_made_up_for_in_a_rush() {
        let mut pace = pace(10);
        pace.wait(1).await;
        tokio::time::sleep(Duration::from_secs(60)).await;
        let start = Instant::now();
        for _ in 0..11 {
            pace.wait(1).await;
        }
        assert_eq!(start.elapsed().as_millis(), 1000);
    }
}
