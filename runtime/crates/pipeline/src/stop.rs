//! Stopping is a drain with a deadline (contract H4, H5), said by a handle and
//! obeyed by every loop that holds the other end.

use std::time::Duration;

use tokio::{sync::watch, time::Instant};

/// Asks a [`run`](crate::run) to stop. Dropping it lets the run go on.
#[derive(Debug)]
pub struct StopHandle(watch::Sender<Phase>);

/// The end of a [`StopHandle`] that a run listens to.
#[derive(Debug, Clone)]
pub struct Stop(watch::Receiver<Phase>);

/// How far stopping has come. It only ever moves down this list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Nothing to stop for.
    Run,
    /// Take in nothing more, but finish everything, retries included: the source
    /// is at its end.
    Finish,
    /// Take in nothing more and start nothing more.
    Drain(Deadline),
}

impl Phase {
    /// That of a drain.
    pub(crate) fn deadline(self) -> Option<Deadline> {
        match self {
            Self::Run | Self::Finish => None,
            Self::Drain(deadline) => Some(deadline),
        }
    }

    /// Whether attempts have to be over by now.
    pub(crate) fn is_late(self) -> bool {
        self.deadline().is_some_and(|d| d.abort <= Instant::now())
    }
}

/// When a drain stops waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Deadline {
    /// Attempts that still run are aborted.
    pub abort: Instant,
    /// What could not be settled stays unsettled.
    pub end: Instant,
}

impl Deadline {
    /// The last tenth of the time, at most a second, is kept for settling what
    /// the attempts have left.
    pub(crate) fn after(timeout: Duration) -> Self {
        Self::at(Instant::now() + timeout)
    }

    fn at(end: Instant) -> Self {
        let left = end.saturating_duration_since(Instant::now());
        Self { abort: end - (left / 10).min(Duration::from_secs(1)), end }
    }
}

impl StopHandle {
    /// A handle and what it stops.
    pub fn new() -> (Self, Stop) {
        let (tx, rx) = watch::channel(Phase::Run);
        (Self(tx), Stop(rx))
    }

    /// Stop taking in, start no further attempt, finish what runs within `timeout`,
    /// abort the rest and release it. A later call can only shorten the time.
    pub fn drain(&self, timeout: Duration) {
        self.enter(Phase::Drain(Deadline::after(timeout)));
    }

    /// The same, until a moment that somebody else has fixed.
    pub(crate) fn drain_until(&self, end: Instant) {
        self.enter(Phase::Drain(Deadline::at(end)));
    }

    pub(crate) fn enter(&self, phase: Phase) {
        self.0.send_if_modified(|now| {
            let forward = match (*now, phase) {
                (Phase::Run, Phase::Finish | Phase::Drain(_))
                | (Phase::Finish, Phase::Drain(_)) => true,
                (Phase::Drain(current), Phase::Drain(next)) => next.end < current.end,
                _ => false,
            };
            if forward {
                *now = phase;
            }
            forward
        });
    }
}

impl Stop {
    pub(crate) fn phase(&self) -> Phase {
        *self.0.borrow()
    }

    /// Waits until a drain is asked for.
    pub(crate) async fn draining(&self) {
        let mut phase = self.0.clone();
        if phase.wait_for(|phase| matches!(phase, Phase::Drain(_))).await.is_err() {
            // nobody is left who could ask for it
            std::future::pending::<()>().await;
        }
    }

    /// Waits until the phase is another one than was last seen here.
    pub(crate) async fn changed(&mut self) -> Phase {
        if self.0.changed().await.is_err() {
            // nobody is left who could ask for a stop
            std::future::pending::<()>().await;
        }
        *self.0.borrow_and_update()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn h5_a_drain_is_never_lengthened_or_taken_back() {
        let (handle, mut stop) = StopHandle::new();
        handle.enter(Phase::Finish);
        assert_eq!(stop.changed().await, Phase::Finish);
        handle.drain(Duration::from_secs(20));
        let Phase::Drain(long) = stop.changed().await else { panic!("not draining") };
        assert_eq!(long.end - Instant::now(), Duration::from_secs(20));
        assert_eq!(long.end - long.abort, Duration::from_secs(1));
        handle.drain(Duration::from_secs(60));
        handle.enter(Phase::Finish);
        assert_eq!(stop.phase(), Phase::Drain(long));
        handle.drain(Duration::from_secs(5));
        let Phase::Drain(short) = stop.changed().await else { panic!("not draining") };
        assert_eq!(short.end - Instant::now(), Duration::from_secs(5));
        assert_eq!(short.end - short.abort, Duration::from_millis(500));
    }
}
