//! One partition for as long as it is assigned: intake, watermark, fence.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use parking_lot::Mutex;
use rdkafka::consumer::base_consumer::PartitionQueue;
use sandbar_core::{
    AckToken, Delivery, Disposition, Event, Partition, PartitionId, ResumeFrom, Settlement,
    SourceError, Watermark,
};
use tokio::sync::Notify;

use crate::{assignment::Group, record};

/// One assignment of one partition, shared by the pipeline's handle and the poll
/// thread. Each assignment has its own, so what was handed out under an earlier
/// one can never settle under a later one (contract H4).
pub(crate) struct Slot {
    pub id: PartitionId,
    /// Counts the assignments of a source; for the log.
    pub epoch: u64,
    /// Permits a look at the queue: set when it is no longer empty, and by the fence.
    wake: Arc<Notify>,
    state: Mutex<State>,
}

struct State {
    /// librdkafka's own queue of this partition. It is not emptied unless `recv` is
    /// called, and when it is full only this partition's fetching stops.
    queue: Option<PartitionQueue<Group>>,
    phase: Phase,
    ledger: Ledger,
}

enum Phase {
    Open,
    /// About to go: nothing new is taken in, settlements still count.
    Revoking,
    /// Gone, and why.
    Fenced(String),
}

/// What was delivered, what is finished, and how far that was stored for committing.
#[derive(Default)]
struct Ledger {
    /// Begins at the first record: only the broker knows where the group left off.
    watermark: Option<Watermark>,
    /// The first record after the offsets went back; see [`Ledger::admit`].
    held: Option<Event>,
    /// Handed to librdkafka, which commits it until the broker has it.
    stored: Option<ResumeFrom>,
}

impl Ledger {
    /// Takes in a record, or holds it back where that has to wait.
    ///
    /// Offsets go back within an assignment only when the log itself was cut or its
    /// topic made anew. These are other records under old numbers: they must not be
    /// passed over, nor mistaken for the unfinished ones of before.
    fn admit(&mut self, event: Event) -> Option<Delivery> {
        let start = ResumeFrom(event.position);
        let watermark = self.watermark.get_or_insert_with(|| {
            tracing::info!(
                topic = &*event.topic,
                partition = event.partition,
                position = event.position,
                "partition begins"
            );
            Watermark::new(start)
        });
        if !watermark.deliver(event.position) {
            if watermark.open() > 0 {
                self.held = Some(event);
                return None;
            }
            tracing::warn!(
                topic = &*event.topic,
                partition = event.partition,
                position = event.position,
                expected = watermark.resume_from().0,
                "positions went back: the log was cut or the topic made anew; going on from there"
            );
            *watermark = Watermark::new(start);
            watermark.deliver(event.position);
            self.stored = None;
        }
        Some(Delivery { token: AckToken(event.position), event, redeliveries: 0 })
    }

    fn finish(&mut self, token: AckToken) -> bool {
        self.watermark.as_mut().is_some_and(|w| w.finish(token.0))
    }

    fn open(&self) -> usize {
        self.watermark.as_ref().map_or(0, Watermark::open)
    }

    /// The position to store for committing, where it moved since the last time.
    fn next_store(&mut self) -> Option<ResumeFrom> {
        let position = self.last_commit()?;
        (self.stored.replace(position) != Some(position)).then_some(position)
    }

    /// The position to commit at the end. Whatever was stored before may not have
    /// reached the broker, and nobody would ask again.
    fn last_commit(&self) -> Option<ResumeFrom> {
        self.watermark.as_ref().map(Watermark::resume_from)
    }
}

impl Slot {
    pub fn new(id: PartitionId, epoch: u64, mut queue: PartitionQueue<Group>) -> Arc<Self> {
        let wake = Arc::new(Notify::new());
        let on_records = wake.clone();
        // called on librdkafka's threads with its lock held: do no more than this
        queue.set_nonempty_callback(move || on_records.notify_one());
        let state = State { queue: Some(queue), phase: Phase::Open, ledger: Ledger::default() };
        Arc::new(Self { id, epoch, wake, state: Mutex::new(state) })
    }

    /// Up to `max` records that are ready.
    fn take(&self, max: usize) -> Result<Vec<Delivery>, SourceError> {
        let State { queue, phase, ledger } = &mut *self.state.lock();
        match phase {
            Phase::Open => {}
            Phase::Revoking => return Ok(Vec::new()),
            Phase::Fenced(reason) => return Err(self.fenced(reason)),
        }
        let mut ready = Vec::new();
        if let Some(held) = ledger.held.take() {
            ready.extend(ledger.admit(held));
        }
        let Some(queue) = queue else { return Ok(ready) };
        while ready.len() < max && ledger.held.is_none() {
            match queue.poll(Duration::ZERO) {
                Some(Ok(message)) => {
                    ready.extend(ledger.admit(record::event(&message, &self.id.topic)));
                }
                // has been reported through the client's error callback
                Some(Err(_)) => {}
                None => break,
            }
        }
        Ok(ready)
    }

    fn settle(&self, settlements: &[Settlement]) -> Result<(), SourceError> {
        let mut state = self.state.lock();
        if let Phase::Fenced(reason) = &state.phase {
            return Err(self.fenced(reason));
        }
        // all or nothing: look before the first one counts
        for settlement in settlements {
            if let Disposition::Done { effects } = &settlement.disposition
                && !effects.is_empty()
            {
                return Err(SourceError::Rejected {
                    token: settlement.token,
                    reason: format!(
                        "{} cannot write outputs together with its position: publish them first",
                        self.id
                    ),
                });
            }
        }
        for settlement in settlements {
            let done = matches!(settlement.disposition, Disposition::Done { .. });
            // a released record simply stays unfinished: whoever reads from the position gets it again
            if done && !state.ledger.finish(settlement.token) {
                tracing::warn!(
                    partition = %self.id, position = settlement.token.0,
                    "settled twice, or never delivered"
                );
            }
        }
        if state.ledger.held.is_some() && state.ledger.open() == 0 {
            self.wake.notify_one();
        }
        Ok(())
    }

    fn fenced(&self, reason: &str) -> SourceError {
        SourceError::Fatal(format!("{}: {reason}; nothing of it can be settled any more", self.id))
    }

    /// Stops intake; settlements go on to count.
    pub fn revoke(&self) {
        self.state.lock().phase = Phase::Revoking;
    }

    /// Ends the assignment: from now on nothing counts. Returns the position still
    /// to be committed, which therefore covers every settlement that was accepted.
    pub fn fence(&self, reason: &str) -> Option<ResumeFrom> {
        let mut state = self.state.lock();
        let position = state.ledger.last_commit();
        state.phase = Phase::Fenced(reason.to_owned());
        // also lets go of the consumer, which ends on the poll thread and nowhere else
        state.queue = None;
        drop(state);
        self.wake.notify_one();
        position
    }

    /// The position to store for committing, where it moved since the last time.
    pub fn next_store(&self) -> Option<ResumeFrom> {
        self.state.lock().ledger.next_store()
    }

    /// What [`next_store`](Self::next_store) gave was not stored: it is given again.
    pub fn not_stored(&self) {
        self.state.lock().ledger.stored = None;
    }
}

/// The pipeline's handle of a [`Slot`].
pub(crate) struct KafkaPartition(pub Arc<Slot>);

#[async_trait]
impl Partition for KafkaPartition {
    fn id(&self) -> &PartitionId {
        &self.0.id
    }

    async fn recv(&mut self, max: usize) -> Result<Vec<Delivery>, SourceError> {
        loop {
            // nothing is awaited between taking records and returning them: no loss by cancelling
            let ready = self.0.take(max.max(1))?;
            if !ready.is_empty() {
                return Ok(ready);
            }
            self.0.wake.notified().await;
        }
    }

    async fn settle(&mut self, settlements: &[Settlement]) -> Result<(), SourceError> {
        self.0.settle(settlements)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(position: u64) -> Event {
        Event {
            topic: "t".into(),
            partition: 0,
            position,
            key: None,
            payload: None,
            headers: [].into(),
            timestamp_ms: 0,
            attributes: [].into(),
        }
    }

    #[test]
    fn c1_commits_follow_the_watermark_and_each_position_is_stored_once() {
        let mut ledger = Ledger::default();
        for position in [5, 6, 9] {
            assert_eq!(ledger.admit(event(position)).unwrap().token, AckToken(position));
        }
        assert!(ledger.finish(AckToken(6)));
        assert_eq!(ledger.next_store(), Some(ResumeFrom(5)));
        assert_eq!(ledger.next_store(), None);
        assert!(ledger.finish(AckToken(5)));
        assert_eq!(ledger.next_store(), Some(ResumeFrom(9)));
        assert!(ledger.finish(AckToken(9)));
        assert_eq!(ledger.next_store(), Some(ResumeFrom(10)));
    }

    #[test]
    fn c1_the_last_commit_trusts_nothing_that_was_only_stored() {
        let mut ledger = Ledger::default();
        assert_eq!(ledger.last_commit(), None);
        ledger.admit(event(0));
        ledger.finish(AckToken(0));
        assert_eq!(ledger.next_store(), Some(ResumeFrom(1)));
        assert_eq!(ledger.last_commit(), Some(ResumeFrom(1)));
    }

    #[test]
    fn c2_records_under_old_numbers_wait_for_the_unfinished_ones_and_are_not_lost() {
        let mut ledger = Ledger::default();
        ledger.admit(event(7));
        assert!(ledger.admit(event(0)).is_none());
        let held = ledger.held.take().unwrap();
        assert!(ledger.finish(AckToken(7)));
        assert_eq!(ledger.admit(held).unwrap().token, AckToken(0));
        assert_eq!(ledger.next_store(), Some(ResumeFrom(0)));
        assert_eq!(ledger.open(), 1);
    }

    fn slot(ledger: Ledger) -> Slot {
        let state = State { queue: None, phase: Phase::Open, ledger };
        Slot {
            id: PartitionId { topic: "t".into(), partition: 0 },
            epoch: 1,
            wake: Arc::default(),
            state: Mutex::new(state),
        }
    }

    fn done(position: u64, effects: Vec<sandbar_core::Outgoing>) -> Settlement {
        Settlement { token: AckToken(position), disposition: Disposition::Done { effects } }
    }

    #[test]
    fn h4_while_draining_settlements_count_and_nothing_is_handed_out() {
        let mut ledger = Ledger::default();
        ledger.admit(event(3));
        ledger.admit(event(0));
        let slot = slot(ledger);
        slot.revoke();
        slot.settle(&[done(3, vec![])]).unwrap();
        assert!(
            slot.take(10).unwrap().is_empty(),
            "the held record is ready, but not ours any more"
        );
        assert_eq!(slot.fence("gone"), Some(ResumeFrom(4)));
        assert!(matches!(slot.take(10), Err(SourceError::Fatal(_))));
        assert!(matches!(slot.settle(&[done(0, vec![])]), Err(SourceError::Fatal(_))));
    }

    #[test]
    fn effects_are_refused_and_nothing_of_that_call_is_settled() {
        let mut ledger = Ledger::default();
        ledger.admit(event(0));
        ledger.admit(event(1));
        let slot = slot(ledger);
        let effect = sandbar_core::Outgoing::new("out", "x");
        let refused = slot.settle(&[done(0, vec![]), done(1, vec![effect])]);
        assert!(
            matches!(refused, Err(SourceError::Rejected { token: AckToken(1), .. })),
            "{refused:?}"
        );
        assert_eq!(slot.next_store(), Some(ResumeFrom(0)));
    }
}
