//! Settlements on their way into transactions (contract E1): the partitions' side.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use sandbar_core::{AckToken, Disposition, Outgoing, PublishError, Settlement, SourceError};
use tokio::sync::{mpsc, oneshot};

use crate::{known::KnownTopics, partition::Slot};

/// Orders that may wait. Each partition has one at a time; beyond this they wait to wait.
const WAITING: usize = 1024;

/// What the thread of the transactions is told.
pub(crate) enum Order {
    Settle(Job),
    /// Commit positions that moved although nothing was settled.
    Sweep,
    /// End.
    Stop,
}

/// One call of `settle`.
pub(crate) struct Job {
    pub slot: Arc<Slot>,
    pub done: Vec<(AckToken, Vec<Outgoing>)>,
    pub answer: oneshot::Sender<Result<(), SourceError>>,
}

impl Job {
    /// Bytes that it is about to write.
    pub fn bytes(&self) -> usize {
        let record = |r: &Outgoing| {
            r.payload.as_ref().map_or(0, |p| p.len()) + r.key.as_ref().map_or(0, |k| k.len())
        };
        self.done.iter().flat_map(|(_, effects)| effects).map(record).sum()
    }
}

/// The way to the thread on which a source's transactions run, one after the other,
/// each with everything that waits (see [`Transactor`](crate::transactor::Transactor)).
pub(crate) struct Transactions {
    orders: mpsc::Sender<Order>,
    /// The source ends: what is not committed yet is given up.
    stopping: AtomicBool,
    known: Arc<KnownTopics>,
}

impl Transactions {
    pub fn new(known: Arc<KnownTopics>) -> (Arc<Self>, mpsc::Receiver<Order>) {
        let (orders, waiting) = mpsc::channel(WAITING);
        (Arc::new(Self { orders, stopping: AtomicBool::new(false), known }), waiting)
    }

    /// Settles deliveries of `slot` in a transaction, together with their effects.
    ///
    /// Safe to be dropped and to be called again: a call that was dropped may still be
    /// carried out, and what is settled already is neither written nor settled twice.
    pub async fn settle(
        &self,
        slot: &Arc<Slot>,
        settlements: &[Settlement],
    ) -> Result<(), SourceError> {
        slot.check()?;
        Settlement::without_state(settlements, &slot.id)?;
        // a released record simply stays unfinished: whoever reads from the position gets it again
        let done = settlements.iter().filter_map(|s| match &s.disposition {
            Disposition::Done { effects, .. } => Some((s.token, effects.clone())),
            Disposition::Release { .. } => None,
        });
        let done: Vec<_> = done.collect();
        if done.is_empty() {
            return Ok(());
        }
        let topics = done.iter().flat_map(|(_, effects)| effects).map(|e| &e.topic);
        let refused = self.known.refused(topics).await;
        for (token, effects) in &done {
            match effects.iter().find_map(|e| refused.get(&e.topic)) {
                None => {}
                Some(PublishError::Unavailable(reason)) => {
                    return Err(SourceError::Unavailable(reason.clone()));
                }
                Some(PublishError::Rejected(reason)) => {
                    return Err(SourceError::Rejected { token: *token, reason: reason.clone() });
                }
            }
        }
        let ended = || SourceError::Fatal(format!("{}: the subscription has ended", slot.id));
        let (answer, answered) = oneshot::channel();
        let job = Job { slot: slot.clone(), done, answer };
        self.orders.send(Order::Settle(job)).await.map_err(|_| ended())?;
        answered.await.unwrap_or_else(|_| Err(ended()))
    }

    /// `topic` is gone since it was seen.
    pub fn forget(&self, topic: &str) {
        self.known.forget(topic);
    }

    /// Has positions committed that moved by themselves.
    pub fn sweep(&self) {
        // with so many orders waiting, some of them will do it
        let _ = self.orders.try_send(Order::Sweep);
    }

    /// Lets the thread end after what it is at.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        // where there is no room, the thread has an order to wake it
        let _ = self.orders.try_send(Order::Stop);
    }

    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }
}
