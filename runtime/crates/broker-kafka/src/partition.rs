//! One partition for as long as it is assigned: intake, settlement, fence.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use parking_lot::Mutex;
use rdkafka::error::KafkaResult;
use sandbar_core::{
    AckToken, Delivery, Disposition, Partition, PartitionId, Settlement, SourceError,
};
use tokio::sync::Notify;

use crate::{
    assignment::GroupConsumer,
    committed::Committed,
    intake::Intake,
    ledger::{Cursor, Ledger},
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
    intake: Intake,
    phase: Phase,
    ledger: Ledger,
    /// Intake stopped because the commit metadata is nearly full.
    full: bool,
    /// When this was last said.
    warned: Option<Instant>,
}

enum Phase {
    Open,
    /// About to go: nothing new is taken in, settlements still count.
    Revoking,
    /// Gone, and why.
    Fenced(String),
}

impl Slot {
    /// `intake` makes what tells its argument when there may be something to take.
    pub fn new(
        id: PartitionId,
        epoch: u64,
        intake: impl FnOnce(&Arc<Notify>) -> Intake,
    ) -> Arc<Self> {
        let wake = Arc::new(Notify::new());
        let (intake, phase, ledger) = (intake(&wake), Phase::Open, Ledger::default());
        let state = State { intake, phase, ledger, full: false, warned: None };
        Arc::new(Self { id, epoch, wake, state: Mutex::new(state) })
    }

    /// Lets the intake begin, now that it is known what the group had committed, once `begin`
    /// has had it start there.
    pub fn begin(
        &self,
        committed: Option<Committed>,
        begin: impl FnOnce(&mut Intake, Option<u64>) -> KafkaResult<()>,
    ) -> KafkaResult<()> {
        // held meanwhile: after the fence the partition may be assigned to this client again,
        // which must not be sent to where this assignment would have begun
        let mut state = self.state.lock();
        if matches!(state.phase, Phase::Fenced(_)) {
            return Ok(());
        }
        begin(&mut state.intake, committed.as_ref().map(|c| c.position))?;
        state.ledger.inherit(&self.id, committed);
        drop(state);
        self.wake.notify_one();
        Ok(())
    }

    /// Has the records come from where that is best now. On the poll thread, now and then.
    pub fn arrange(&self, consumer: &GroupConsumer) -> KafkaResult<()> {
        let State { intake, phase, ledger, .. } = &mut *self.state.lock();
        // what is held came before what is next
        let may = matches!(phase, Phase::Open) && ledger.is_ready() && !ledger.is_holding();
        if may && intake.arrange(consumer, &self.id)? {
            self.wake.notify_one();
        }
        Ok(())
    }

    /// Up to `max` records that are ready; `None` where none is and more may come.
    fn take(&self, max: usize) -> Result<Option<Vec<Delivery>>, SourceError> {
        let State { intake, phase, ledger, full, warned } = &mut *self.state.lock();
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
        if !*full && ready.len() < max && !ledger.is_holding() {
            intake.read(&self.id, |event| {
                ready.extend(ledger.admit(event));
                ready.len() < max && !ledger.is_holding()
            });
        }
        Ok((!ready.is_empty() || (intake.at_end && !*full)).then_some(ready))
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
        state.intake = Intake::default();
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
