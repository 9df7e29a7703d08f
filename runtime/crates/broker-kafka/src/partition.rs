//! One partition for as long as it is assigned: intake, settlement, fence.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use parking_lot::Mutex;
use rdkafka::{
    consumer::base_consumer::PartitionQueue,
    error::{KafkaError, KafkaResult},
};
use sandbar_core::{
    AckToken, Delivery, Disposition, Partition, PartitionId, Settlement, SourceError,
};
use tokio::sync::Notify;

use crate::{
    assignment::Group,
    committed::Committed,
    ledger::{Cursor, Ledger},
    record,
    transactions::Transactions,
};

/// The same is said no more often than this.
const WARN_EVERY: Duration = Duration::from_secs(60);

/// One assignment of one partition, shared by the pipeline's handle and the threads of
/// its source. Each assignment has its own, so what was handed out under an earlier
/// one can never settle under a later one (contract H4).
pub(crate) struct Slot {
    pub id: PartitionId,
    /// Counts the assignments of a source; for the log.
    pub epoch: u64,
    /// Permits a look at the queue: set when it is no longer empty, when intake begins or
    /// goes on, and by the fence.
    wake: Arc<Notify>,
    state: Mutex<State>,
}

struct State {
    /// librdkafka's own queue of this partition. It is not emptied unless `recv` is
    /// called, and when it is full only this partition's fetching stops.
    queue: Option<PartitionQueue<Group>>,
    phase: Phase,
    ledger: Ledger,
    /// Intake stopped because the commit metadata is nearly full.
    full: bool,
    /// When this was last said.
    warned: Option<Instant>,
    /// Everything that was there is delivered. Known only where the subscription comes to
    /// an end.
    at_end: bool,
}

enum Phase {
    Open,
    /// About to go: nothing new is taken in, settlements still count.
    Revoking,
    /// Gone, and why.
    Fenced(String),
}

impl Slot {
    pub fn new(id: PartitionId, epoch: u64, mut queue: PartitionQueue<Group>) -> Arc<Self> {
        let wake = Arc::new(Notify::new());
        let on_records = wake.clone();
        // called on librdkafka's threads with its lock held: do no more than this
        queue.set_nonempty_callback(move || on_records.notify_one());
        let state = State {
            queue: Some(queue),
            phase: Phase::Open,
            ledger: Ledger::default(),
            full: false,
            warned: None,
            at_end: false,
        };
        Arc::new(Self { id, epoch, wake, state: Mutex::new(state) })
    }

    /// Lets the intake begin, now that it is known what the group had committed, once `seek`
    /// has had the client read from there.
    pub fn begin(
        &self,
        committed: Option<Committed>,
        seek: impl FnOnce(Option<u64>) -> KafkaResult<()>,
    ) -> KafkaResult<()> {
        // held meanwhile: after the fence the partition may be assigned to this client again,
        // which must not be sent to where this assignment would have begun
        let mut state = self.state.lock();
        if matches!(state.phase, Phase::Fenced(_)) {
            return Ok(());
        }
        seek(committed.as_ref().map(|c| c.position))?;
        state.ledger.inherit(&self.id, committed);
        drop(state);
        self.wake.notify_one();
        Ok(())
    }

    /// Up to `max` records that are ready; `None` where none is and more may come.
    fn take(&self, max: usize) -> Result<Option<Vec<Delivery>>, SourceError> {
        let State { queue, phase, ledger, full, warned, at_end } = &mut *self.state.lock();
        match phase {
            Phase::Open if ledger.is_ready() => {}
            Phase::Open | Phase::Revoking => return Ok(None),
            Phase::Fenced(reason) => return Err(self.fenced(reason)),
        }
        let mut ready = Vec::new();
        if let Some(held) = ledger.take_held() {
            ready.extend(ledger.admit(held));
        }
        *full = ledger.is_full();
        if *full && warned.is_none_or(|at| at.elapsed() > WARN_EVERY) {
            *warned = Some(Instant::now());
            tracing::warn!(
                partition = %self.id, open = ledger.open(),
                "too many events are finished beyond unfinished ones to be noted with the \
                 committed position: nothing new is taken in until some of those are finished"
            );
        }
        while let Some(queue) = queue.as_ref().filter(|_| !*full)
            && ready.len() < max
            && !ledger.is_holding()
        {
            match queue.poll(Duration::ZERO) {
                Some(Ok(message)) => {
                    *at_end = false;
                    ready.extend(ledger.admit(record::event(&message, &self.id.topic)));
                }
                Some(Err(KafkaError::PartitionEOF(_))) => *at_end = true,
                // has been reported through the client's error callback
                Some(Err(_)) => {}
                None => break,
            }
        }
        Ok((!ready.is_empty() || (*at_end && !*full)).then_some(ready))
    }

    /// Settles what has no effects: its position is committed later.
    fn settle(&self, settlements: &[Settlement]) -> Result<(), SourceError> {
        self.check()?;
        // all or nothing: look before the first one counts
        Settlement::without_effects(settlements, &self.id)?;
        Settlement::without_state(settlements, &self.id)?;
        // a released record simply stays unfinished: whoever reads from the position gets it again
        let done = settlements.iter().filter(|s| matches!(s.disposition, Disposition::Done { .. }));
        self.finish(done.map(|s| s.token))
    }

    /// Whether settlements still count.
    pub fn check(&self) -> Result<(), SourceError> {
        match &self.state.lock().phase {
            Phase::Fenced(reason) => Err(self.fenced(reason)),
            _ => Ok(()),
        }
    }

    fn finish(&self, tokens: impl Iterator<Item = AckToken>) -> Result<(), SourceError> {
        let mut state = self.state.lock();
        if let Phase::Fenced(reason) = &state.phase {
            return Err(self.fenced(reason));
        }
        for token in tokens {
            if !state.ledger.finish(token) {
                tracing::warn!(
                    partition = %self.id, position = token.0, "settled twice, or never delivered"
                );
            }
        }
        let held = state.ledger.is_holding() && state.ledger.open() == 0;
        if held || (state.full && !state.ledger.is_full()) {
            self.wake.notify_one();
        }
        Ok(())
    }

    /// What a transaction that finishes `tokens` has to commit, and which of them are
    /// still open. Nothing is finished by this.
    ///
    /// # Errors
    /// [`SourceError::Fenced`] once the partition is gone.
    pub fn preview(
        &self,
        tokens: impl Iterator<Item = AckToken>,
    ) -> Result<(Option<Cursor>, Vec<bool>), SourceError> {
        let state = self.state.lock();
        match &state.phase {
            Phase::Fenced(reason) => Err(self.fenced(reason)),
            _ => Ok(state.ledger.preview(tokens)),
        }
    }

    /// A transaction that finished `tokens` and committed `cursor` went through. What it
    /// did stands, whatever became of the partition since.
    pub fn committed(&self, cursor: Option<Cursor>, tokens: impl Iterator<Item = AckToken>) {
        self.state.lock().ledger.tell(cursor);
        // a partition that is gone keeps no books
        let _ = self.finish(tokens);
    }

    fn fenced(&self, reason: &str) -> SourceError {
        SourceError::Fenced(format!("{}: {reason}; nothing of it can be settled any more", self.id))
    }

    pub fn is_fenced(&self) -> bool {
        matches!(self.state.lock().phase, Phase::Fenced(_))
    }

    /// Stops intake; settlements go on to count.
    pub fn revoke(&self) {
        self.state.lock().phase = Phase::Revoking;
    }

    /// Ends the assignment: from now on nothing counts. Returns what is still to be
    /// committed, which therefore covers every settlement that was accepted.
    pub fn fence(&self, reason: &str) -> Option<Cursor> {
        let mut state = self.state.lock();
        let cursor = state.ledger.cursor();
        state.phase = Phase::Fenced(reason.to_owned());
        // also lets go of the consumer, which ends on the poll thread and nowhere else
        state.queue = None;
        drop(state);
        self.wake.notify_one();
        cursor
    }

    /// What is to be committed, where that is not what was told last.
    pub fn moved(&self) -> Option<Cursor> {
        self.state.lock().ledger.moved()
    }

    /// As [`Ledger::next`].
    pub fn next(&self, again: bool) -> Option<(Cursor, bool)> {
        self.state.lock().ledger.next(again)
    }

    /// What [`next`](Self::next) gave was not handed over: it is given again.
    pub fn not_told(&self) {
        self.state.lock().ledger.tell(None);
    }

    /// How full the commit metadata is, 1 being the most that a broker takes.
    pub fn fill(&self) -> f64 {
        self.state.lock().ledger.fill()
    }
}

/// The pipeline's handle of a [`Slot`].
pub(crate) struct KafkaPartition {
    pub slot: Arc<Slot>,
    /// Set where effects and positions are written in transactions.
    pub transactions: Option<Arc<Transactions>>,
}

#[async_trait]
impl Partition for KafkaPartition {
    fn id(&self) -> &PartitionId {
        &self.slot.id
    }

    async fn recv(&mut self, max: usize) -> Result<Vec<Delivery>, SourceError> {
        loop {
            // nothing is awaited between taking records and returning them: no loss by cancelling
            if let Some(ready) = self.slot.take(max.max(1))? {
                return Ok(ready);
            }
            self.slot.wake.notified().await;
        }
    }

    async fn settle(&mut self, settlements: &[Settlement]) -> Result<(), SourceError> {
        match &self.transactions {
            Some(transactions) => transactions.settle(&self.slot, settlements).await,
            None => self.slot.settle(settlements),
        }
    }
}

#[cfg(test)]
#[path = "partition_tests.rs"]
mod tests;
