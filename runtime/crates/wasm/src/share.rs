//! Long calls share all cores but one, and step back while others wait for a worker.
//!
//! Giving way at each tick is not enough: eight looping guests and a quick neighbour
//! would take turns on the workers, a whole tick each for the guests and a few
//! microseconds for the neighbour. Where nobody waits a long call runs on at full speed.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::yield_now,
    time::{Instant, sleep},
};

/// Ticks of CPU time after which a call counts as long.
const SHORT: u32 = 5;
/// Ticks for which a long call steps back where others wait.
const STEP_BACK: u32 = 4;

/// The cores that long calls may use at once, one for all plugins of a host.
#[derive(Debug, Clone)]
pub(crate) struct Cores(Arc<Semaphore>);

impl Default for Cores {
    fn default() -> Self {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        Self(Arc::new(Semaphore::new(cores.saturating_sub(1).max(1))))
    }
}

/// One call's part of them, or that of an instance with many. Clones are of the same part.
#[derive(Debug, Clone)]
pub(crate) struct Share {
    cores: Cores,
    tick: Duration,
    part: Arc<Part>,
}

#[derive(Debug, Default)]
struct Part {
    ticks: AtomicU32,
    /// The core that the call may use until the next tick.
    core: Mutex<Option<OwnedSemaphorePermit>>,
}

impl Share {
    pub(crate) fn new(cores: Cores, tick: Duration) -> Self {
        Self { cores, tick, part: Arc::default() }
    }

    /// A call begins or is over, or none of the instance has anything to do.
    pub(crate) fn reset(&self) {
        if self.part.ticks.load(Relaxed) >= SHORT {
            self.part.core.lock().take();
        }
        self.part.ticks.store(0, Relaxed);
    }

    /// Resolves when guest code that was found running at a tick may go on. Tokio's own
    /// yield lets the worker look after sockets and timers too.
    pub(crate) fn give_way(&self) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        if self.part.ticks.fetch_add(1, Relaxed) + 1 < SHORT {
            return Box::pin(yield_now());
        }
        self.part.core.lock().take();
        let (cores, part) = (Arc::clone(&self.cores.0), Arc::clone(&self.part));
        let tick = self.tick;
        Box::pin(async move {
            let asked = Instant::now();
            yield_now().await;
            let crowded = asked.elapsed() > tick / 8;
            // never closed; were it, the call would merely run without waiting
            let core = cores.acquire_owned().await.ok();
            if crowded {
                // with the core in hand: other long calls step back too
                sleep(tick * STEP_BACK).await;
            }
            *part.core.lock() = core;
        })
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    const TICK: Duration = Duration::from_millis(2);

    #[tokio::test(start_paused = true)]
    async fn s1_long_calls_wait_for_a_core_and_short_ones_do_not() {
        let cores = Cores(Arc::new(Semaphore::new(1)));
        let (long, other) = (Share::new(cores.clone(), TICK), Share::new(cores, TICK));
        for _ in 0..SHORT {
            long.give_way().await;
        }
        for _ in 1..SHORT {
            other.give_way().await;
        }
        let mut waits = Box::pin(other.give_way());
        yield_now().await;
        assert_eq!((&mut waits).now_or_never(), None);
        yield_now().await;
        assert_eq!((&mut waits).now_or_never(), None, "the other long call holds the core");
        long.reset();
        waits.await;
        other.reset();
        long.give_way().await;
    }
}
