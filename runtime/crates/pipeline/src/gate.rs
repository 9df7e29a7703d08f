//! Whether a subscription may start attempts at all (contract R8): a handler that
//! defers and a run of failures both close it, one answered probe opens it again.

use std::{
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
    sync::{Arc, Weak},
    time::Duration,
};

use parking_lot::{Mutex, RwLock};
use tokio::{sync::Notify, time::Instant};

use crate::{Breaker, BreakerState, SubscriptionStats};

/// One gate per subscription, passed by all of its partitions.
pub(crate) struct Gate {
    state: RwLock<GateState>,
    /// Who is told of a change, in this order: a `watch` would wake in a random one, and
    /// no simulation could be repeated.
    watches: Mutex<Vec<Weak<Notify>>>,
    /// Retryable failures since the last answer.
    failures: AtomicU32,
    /// Probes that were asked for.
    probes: AtomicU64,
    breaker: Breaker,
    stats: Arc<SubscriptionStats>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum GateState {
    Open,
    /// Shut until then; `pause` is what the next failed probe doubles.
    Paused {
        until: Instant,
        pause: Duration,
    },
    /// One attempt is on its way to find out.
    Probing {
        probe: u64,
        pause: Duration,
    },
}

impl From<GateState> for BreakerState {
    fn from(state: GateState) -> Self {
        match state {
            GateState::Open => Self::Closed,
            GateState::Paused { .. } => Self::Open,
            GateState::Probing { .. } => Self::HalfOpen,
        }
    }
}

/// What a partition may do now.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outlook {
    /// Start attempts.
    Open,
    /// Ask for a [`Probe`] and start one attempt of one event.
    Probe,
    /// Start nothing, until then or until the gate changes.
    Shut(Option<Instant>),
}

/// The right to probe. Dropped without an answer (the attempt was aborted), it
/// lets the next one try.
pub(crate) struct Probe {
    gate: Arc<Gate>,
    number: u64,
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.gate.step(|state| match state {
            // another one may have taken its place since
            GateState::Probing { probe, pause } if probe == self.number => {
                GateState::Paused { until: Instant::now(), pause }
            }
            other => other,
        });
    }
}

impl Gate {
    pub(crate) fn new(breaker: Breaker, stats: Arc<SubscriptionStats>) -> Arc<Self> {
        let state = RwLock::new(GateState::Open);
        let (failures, probes) = (AtomicU32::new(0), AtomicU64::new(0));
        Arc::new(Self { state, watches: Mutex::default(), failures, probes, breaker, stats })
    }

    /// A listener that wakes a partition when the gate changes.
    pub(crate) fn watch(&self) -> GateWatch {
        let watch = Arc::default();
        let mut watches = self.watches.lock();
        watches.retain(|watch| watch.strong_count() > 0);
        watches.push(Arc::downgrade(&watch));
        GateWatch(watch)
    }

    pub(crate) fn outlook(&self) -> Outlook {
        match *self.state.read() {
            GateState::Open => Outlook::Open,
            GateState::Probing { .. } => Outlook::Shut(None),
            GateState::Paused { until, .. } if Instant::now() < until => Outlook::Shut(Some(until)),
            GateState::Paused { .. } => Outlook::Probe,
        }
    }

    /// The right to probe, if it is time for one and no other partition was quicker.
    pub(crate) fn probe(self: &Arc<Self>) -> Option<Probe> {
        let (now, number) = (Instant::now(), self.probes.fetch_add(1, Ordering::Relaxed));
        let won = self.step(|state| match state {
            GateState::Paused { until, pause } if until <= now => {
                GateState::Probing { probe: number, pause }
            }
            other => other,
        });
        won.then(|| Probe { gate: self.clone(), number })
    }

    /// An attempt got an answer, whatever it says about the event.
    pub(crate) fn answered(&self) {
        // mostly zero already: reading keeps the line shared between workers
        if self.failures.load(Ordering::Relaxed) != 0 {
            self.failures.store(0, Ordering::Relaxed);
        }
        // only a probe opens: an attempt begun before the pause proves nothing
        if matches!(*self.state.read(), GateState::Probing { .. }) {
            self.step(|state| match state {
                GateState::Probing { .. } => GateState::Open,
                other => other,
            });
        }
    }

    /// An attempt failed in a way that trying again may mend.
    pub(crate) fn failed(&self) {
        let failures = self.failures.fetch_add(1, Ordering::Relaxed) + 1;
        let Breaker { failures: limit, pause: first, max_pause } = self.breaker;
        let on = limit > 0;
        self.step(|state| match state {
            GateState::Open if on && failures >= limit => paused(first),
            GateState::Probing { pause, .. } if on => paused((pause * 2).clamp(first, max_pause)),
            // closed by `defer` alone, and the handler no longer defers
            GateState::Probing { .. } => GateState::Open,
            other => other,
        });
    }

    /// The handler asked for a pause.
    pub(crate) fn deferred(&self, pause: Duration) {
        self.step(|state| match state {
            GateState::Paused { until, .. } if until >= Instant::now() + pause => state,
            _ => GateState::Paused { until: Instant::now() + pause, pause: self.breaker.pause },
        });
    }

    /// Applies `next` in one step; whether it changed anything.
    fn step(&self, next: impl FnOnce(GateState) -> GateState) -> bool {
        {
            let mut state = self.state.write();
            let old = *state;
            *state = next(old);
            if *state == old {
                return false;
            }
            // within the lock, or an older state could be the last one that is told
            self.stats.set_breaker((*state).into());
        }
        let watches = self.watches.lock();
        watches.iter().filter_map(Weak::upgrade).for_each(|watch| watch.notify_one());
        true
    }
}

fn paused(pause: Duration) -> GateState {
    GateState::Paused { until: Instant::now() + pause, pause }
}

/// Wakes a partition when the gate changes.
pub(crate) struct GateWatch(Arc<Notify>);

impl GateWatch {
    /// Waits for a change since the last one seen here. Cancel-safe.
    pub(crate) async fn changed(&self) {
        self.0.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(failures: u32) -> Arc<Gate> {
        let breaker = Breaker { failures, ..Breaker::default() };
        Gate::new(breaker, Arc::new(SubscriptionStats::unregistered("p")))
    }

    fn wait(gate: &Arc<Gate>) -> Option<Duration> {
        match gate.outlook() {
            Outlook::Shut(until) => until.map(|at| at - Instant::now()),
            other => panic!("the gate is not shut but {other:?}"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn r8_failures_in_a_row_pause_and_one_probe_at_a_time_finds_out() {
        let gate = gate(3);
        gate.failed();
        gate.failed();
        gate.answered();
        gate.failed();
        gate.failed();
        assert_eq!(gate.outlook(), Outlook::Open, "an answer starts the count anew");
        gate.failed();
        assert_eq!(wait(&gate), Some(Duration::from_secs(1)));
        gate.answered();
        assert!(wait(&gate).is_some(), "an attempt begun before the pause does not open it");
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(gate.outlook(), Outlook::Probe);
        let probe = gate.probe().unwrap();
        assert_eq!(wait(&gate), None);
        gate.failed();
        drop(probe);
        assert_eq!(wait(&gate), Some(Duration::from_secs(2)), "a failed probe doubles the pause");
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(gate.outlook(), Outlook::Probe);
        let aborted = gate.probe().unwrap();
        drop(aborted);
        assert_eq!(gate.outlook(), Outlook::Probe, "an aborted probe is repeated");
        let probe = gate.probe().unwrap();
        gate.answered();
        drop(probe);
        assert_eq!(gate.outlook(), Outlook::Open);
    }

    #[tokio::test(start_paused = true)]
    async fn r8_a_probe_that_is_aborted_late_does_not_let_another_one_in_beside_the_next() {
        let gate = gate(1);
        gate.failed();
        tokio::time::advance(Duration::from_secs(1)).await;
        let first = gate.probe().unwrap();
        // an attempt begun before the pause fails, too
        gate.failed();
        tokio::time::advance(Duration::from_secs(2)).await;
        let _second = gate.probe().unwrap();
        drop(first);
        assert_eq!(wait(&gate), None);
        assert!(gate.probe().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn r8_defer_pauses_for_the_longest_time_asked_for_even_without_a_breaker() {
        let gate = gate(0);
        gate.deferred(Duration::from_secs(9));
        gate.deferred(Duration::from_secs(4));
        assert_eq!(wait(&gate), Some(Duration::from_secs(9)));
        tokio::time::advance(Duration::from_secs(9)).await;
        assert_eq!(gate.outlook(), Outlook::Probe);
        let _probe = gate.probe().unwrap();
        gate.failed();
        assert_eq!(gate.outlook(), Outlook::Open, "an error that defers no more opens it");
    }
}
