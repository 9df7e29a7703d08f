//! Waiting, on a thread of its own, until partitions are drained.

use std::{
    future::Future,
    pin::pin,
    sync::Arc,
    task::{Context, Wake, Waker},
    thread::{self, Thread},
    time::Instant,
};

use tokio::sync::oneshot;

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Waits until every guard is dropped or `deadline` has passed. Returns how many
/// were not dropped. Needs no runtime: the caller is librdkafka's polling thread,
/// which must not depend on a runtime that may be shutting down.
pub(crate) fn wait(guards: Vec<oneshot::Receiver<()>>, deadline: Instant) -> usize {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut open = guards;
    loop {
        // a guard is done when its receiver resolves, whatever it resolves to
        open.retain_mut(|guard| pin!(guard).poll(&mut context).is_pending());
        let left = deadline.saturating_duration_since(Instant::now());
        if open.is_empty() || left.is_zero() {
            return open.len();
        }
        thread::park_timeout(left);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use sandbar_core::DrainGuard;

    use super::*;

    #[test]
    fn h4_waits_for_every_guard() {
        let (guards, receivers): (Vec<_>, Vec<_>) =
            (0..3).map(|_| DrainGuard::new(Duration::ZERO)).unzip();
        let dropper = thread::spawn(move || drop(guards));
        assert_eq!(wait(receivers, Instant::now() + Duration::from_secs(60)), 0);
        dropper.join().unwrap();
    }

    #[test]
    fn h4_gives_up_at_the_deadline() {
        let (kept, receiver) = DrainGuard::new(Duration::ZERO);
        let (dropped, other) = DrainGuard::new(Duration::ZERO);
        drop(dropped);
        assert_eq!(wait(vec![receiver, other], Instant::now() + Duration::from_millis(20)), 1);
        drop(kept);
    }
}
