//! A partition does one thing at a time: it settles what is finished, or else it
//! receives. Both pause while its broker is away.

use std::time::Duration;

use futures::future::BoxFuture;
use sandbar_core::{Delivery, Partition, Settlement, SourceError};
use tokio::{
    select,
    time::{Instant, sleep_until},
};

use crate::{Stop, backoff::Backoff, finished::Finished};

/// How long a last release may take where no deadline says it.
const GRACE: Duration = Duration::from_secs(1);

/// A partition that settles in the background of its loop: while a group of
/// settlements is written, attempts are started and finished, and what finishes
/// makes up the next group.
pub(crate) struct Port {
    /// Away while it settles.
    partition: Option<Box<dyn Partition>>,
    settling: Option<BoxFuture<'static, Settled>>,
    backoff: Backoff,
    not_before: Option<Instant>,
}

type Settled = (Box<dyn Partition>, Finished, Result<(), SourceError>);

/// What came through the port.
pub(crate) enum Arrival {
    Received(Result<Vec<Delivery>, SourceError>),
    Settled(Finished, Result<(), SourceError>),
}

impl Port {
    pub(crate) fn new(partition: Box<dyn Partition>) -> Self {
        let partition = Some(partition);
        Self { partition, settling: None, backoff: Backoff::default(), not_before: None }
    }

    pub(crate) fn is_settling(&self) -> bool {
        self.settling.is_some()
    }

    /// Begins to settle all of `finished`, unless the partition is at it already.
    pub(crate) fn settle(&mut self, finished: &mut Finished) {
        if finished.is_empty() {
            return;
        }
        let Some(mut partition) = self.partition.take() else { return };
        let (finished, not_before) = (std::mem::take(finished), self.not_before);
        self.settling = Some(Box::pin(async move {
            pause(not_before).await;
            let result = partition.settle(finished.settlements()).await;
            (partition, finished, result)
        }));
    }

    /// Waits for the settlement under way, or else for up to `room` deliveries.
    /// Cancel-safe.
    pub(crate) async fn next(&mut self, room: usize) -> Arrival {
        if let Some(settling) = &mut self.settling {
            let (partition, finished, result) = settling.await;
            self.settling = None;
            self.partition = Some(partition);
            return Arrival::Settled(finished, result);
        }
        match &mut self.partition {
            // not asking for more is all the back-pressure there is (contract C4)
            Some(partition) if room > 0 => {
                pause(self.not_before).await;
                Arrival::Received(partition.recv(room).await)
            }
            _ => std::future::pending().await,
        }
    }

    /// The broker answered.
    pub(crate) fn alive(&mut self) {
        self.backoff.reset();
        self.not_before = None;
    }

    /// The broker is away: wait before the next call, whatever it is.
    pub(crate) fn back_off(&mut self) {
        self.not_before = Some(Instant::now() + self.backoff.next());
    }

    /// Gives events back for as long as `stop` leaves time to, unless a settlement hangs.
    pub(crate) async fn release(
        &mut self,
        releases: &[Settlement],
        stop: &mut Stop,
    ) -> Result<(), SourceError> {
        let Some(partition) = &mut self.partition else { return Ok(()) };
        let (mut said, grace) = (partition.settle(releases), Instant::now() + GRACE);
        loop {
            let end = stop.phase().deadline().map_or(grace, |d| d.end);
            select! {
                biased;
                said = &mut said => return said,
                // there may be less time now
                _ = stop.changed() => {}
                () = sleep_until(end) => return Ok(()),
            }
        }
    }
}

async fn pause(until: Option<Instant>) {
    if let Some(at) = until {
        sleep_until(at).await;
    }
}
