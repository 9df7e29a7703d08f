//! Whether guest code ran all the time between two ticks, or came to it only now.
//!
//! The host's clock finds an instance running whenever a call in it goes on after a pause,
//! however short its turns are. Only what was running at a tick already is charged for the next.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering::Relaxed},
    },
    task::Poll,
};

use crate::share::Share;

const RESTS: u8 = 0;
const RUNS: u8 = 1;
/// Runs, as soon as it is its turn again.
const GIVES_WAY: u8 = 2;

/// The pulse of one instance. Clones are the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pulse(Arc<AtomicU8>);

impl Pulse {
    /// At a tick: whether guest code was running at the one before, too.
    pub(super) fn ran(&self) -> bool {
        self.0.swap(RUNS, Relaxed) != RESTS
    }

    /// Resolves when guest code that was found running may go on.
    pub(super) fn give_way(&self, share: &Share) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        self.0.store(GIVES_WAY, Relaxed);
        let (pulse, turn) = (self.clone(), share.give_way());
        Box::pin(async move {
            turn.await;
            pulse.0.store(RUNS, Relaxed);
        })
    }

    /// Runs all there is in an instance, and knows it at rest when that waits for others.
    pub(super) async fn follow<T>(&self, share: &Share, running: impl Future<Output = T>) -> T {
        let mut running = std::pin::pin!(running);
        std::future::poll_fn(|cx| {
            let polled = running.as_mut().poll(cx);
            if matches!(polled, Poll::Pending)
                && self.0.compare_exchange(RUNS, RESTS, Relaxed, Relaxed).is_ok()
            {
                share.reset();
            }
            polled
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::FutureExt;
    use tokio::task::yield_now;

    use super::*;
    use crate::share::Cores;

    #[tokio::test]
    async fn only_what_has_run_since_the_last_tick_counts() {
        let share = Share::new(Cores::default(), Duration::from_millis(2));
        let pulse = Pulse::default();
        assert!(!pulse.ran(), "it has only begun");
        assert!(pulse.ran());
        let mut waits = Box::pin(pulse.follow(&share, yield_now()));
        assert!((&mut waits).now_or_never().is_none());
        assert!(!pulse.ran(), "it had waited for others");
        let mut turn = pulse.give_way(&share);
        assert!((&mut turn).now_or_never().is_none());
        waits.await;
        turn.await;
        assert!(pulse.ran(), "giving way is no rest");
    }
}
