//! A partition does one thing at a time: it settles what is finished, or else it
//! receives. Both pause while its broker is away.

use futures::future::BoxFuture;
use sandbar_core::{Delivery, Disposition, Outgoing, Partition, Settlement, SourceError};
use tokio::time::{Instant, sleep_until};

use crate::{
    attempt::{End, Record},
    backoff::Backoff,
};

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

/// Finished events, in the order in which they finished.
#[derive(Default)]
pub(crate) struct Finished {
    settlements: Vec<Settlement>,
    /// In step with the settlements.
    records: Vec<(Record, End)>,
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
            let result = partition.settle(&finished.settlements).await;
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

    /// The partition, for a last word; `None` while a settlement hangs.
    pub(crate) fn partition(&mut self) -> Option<&mut Box<dyn Partition>> {
        self.partition.as_mut()
    }
}

async fn pause(until: Option<Instant>) {
    if let Some(at) = until {
        sleep_until(at).await;
    }
}

impl Finished {
    pub(crate) fn push(&mut self, record: Record, end: End, effects: Vec<Outgoing>) {
        let token = record.ticket.token;
        self.settlements.push(Settlement { token, disposition: Disposition::Done { effects } });
        self.records.push((record, end));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.settlements.is_empty()
    }

    /// Puts `later` behind these.
    pub(crate) fn append(&mut self, mut later: Self) {
        self.settlements.append(&mut later.settlements);
        self.records.append(&mut later.records);
    }

    /// Takes out the event of `token` with its effects.
    pub(crate) fn remove(
        &mut self,
        token: sandbar_core::AckToken,
    ) -> Option<(Record, End, Vec<Outgoing>)> {
        let at = self.settlements.iter().position(|s| s.token == token)?;
        let (record, end) = self.records.remove(at);
        match self.settlements.remove(at).disposition {
            Disposition::Done { effects } => Some((record, end, effects)),
            Disposition::Release { .. } => Some((record, end, Vec::new())),
        }
    }

    /// Each event with its end and the number of its effects.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Record, End, usize)> {
        self.settlements.iter().zip(&self.records).map(|(settlement, (record, end))| {
            let effects = match &settlement.disposition {
                Disposition::Done { effects } => effects.len(),
                Disposition::Release { .. } => 0,
            };
            (record, *end, effects)
        })
    }
}
