//! The end of a call's time, also while it waits in the host.

use std::{future::poll_fn, pin::pin, task::Poll};

use tokio::{
    task::unconstrained,
    time::{Instant, sleep_until},
};

/// The call was not over in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Late;

/// Runs `call` for no longer than until `deadline`. Most calls never wait: a timer is made
/// only for those that do.
///
/// # Errors
/// [`Late`]; the call is dropped where it was.
pub(crate) async fn until<T>(deadline: Instant, call: impl Future<Output = T>) -> Result<T, Late> {
    let mut call = pin!(call);
    let mut alarm = None;
    poll_fn(|cx| {
        if let Poll::Ready(done) = call.as_mut().poll(cx) {
            return Poll::Ready(Ok(done));
        }
        // a call that has used up the task's budget must not keep its deadline from passing
        let alarm = alarm.get_or_insert_with(|| Box::pin(unconstrained(sleep_until(deadline))));
        alarm.as_mut().poll(cx).map(|()| Err(Late))
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::{future::pending, time::Duration};

    use tokio::{
        sync::mpsc,
        task::yield_now,
        time::{advance, sleep},
    };

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_done_in_time_is_returned_and_what_is_not_is_dropped() {
        let deadline = Instant::now() + Duration::from_secs(1);
        assert_eq!(until(deadline, async { 1 }).await, Ok(1));
        assert_eq!(until(deadline, async { yield_now().await }).await, Ok(()));
        assert_eq!(until(deadline, sleep(Duration::from_millis(999))).await, Ok(()));
        assert_eq!(until(deadline, pending::<()>()).await, Err(Late));
        assert_eq!(Instant::now(), deadline);
        advance(Duration::from_secs(1)).await;
        assert_eq!(until(deadline, async { 1 }).await, Ok(1), "it did not have to wait");
    }

    /// A call that waits for others all the time, and never long enough to go to sleep.
    #[tokio::test]
    async fn a_busy_call_meets_its_deadline() {
        let (to, mut from) = mpsc::channel(1);
        let busy = async {
            loop {
                to.send(()).await.unwrap();
                from.recv().await;
            }
        };
        let deadline = Instant::now() + Duration::from_millis(20);
        assert_eq!(until::<()>(deadline, busy).await, Err(Late));
    }
}
