//! Events whose handling is over, on their way through the settlement.

use bytes::Bytes;
use sandbar_core::{AckToken, Disposition, Guarantees, Settlement};
use tokio::time::Instant;

use crate::{
    SubscriptionStats,
    attempt::{End, Ending, Record},
    ledger::Ledger,
};

/// Finished events, in the order in which they finished.
#[derive(Default)]
pub(crate) struct Finished {
    settlements: Vec<Settlement>,
    /// In step with the settlements; the effects are there.
    rest: Vec<(Record, Ending)>,
}

impl Finished {
    pub(crate) fn push(&mut self, record: Record, mut ending: Ending, guarantees: Guarantees) {
        let mark = if guarantees.atomic_marks { ending.mark.take() } else { None };
        let effects = std::mem::take(&mut ending.effects);
        let disposition = Disposition::Done { effects, mark, state: ending.state.take() };
        self.settlements.push(Settlement { token: record.ticket.token, disposition });
        self.rest.push((record, ending));
    }

    pub(crate) fn settlements(&self) -> &[Settlement] {
        &self.settlements
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.settlements.is_empty()
    }

    /// Puts `later` behind these.
    pub(crate) fn append(&mut self, mut later: Self) {
        self.settlements.append(&mut later.settlements);
        self.rest.append(&mut later.rest);
    }

    /// Takes out the event of `token`.
    pub(crate) fn remove(&mut self, token: AckToken) -> Option<(Record, Ending)> {
        let at = self.settlements.iter().position(|s| s.token == token)?;
        let (record, mut ending) = self.rest.remove(at);
        if let Disposition::Done { effects, mark, state } = self.settlements.remove(at).disposition
        {
            (ending.effects, ending.mark, ending.state) = (effects, mark.or(ending.mark), state);
        }
        Some((record, ending))
    }

    /// Gives up the lanes that its events still hold.
    pub(crate) fn lanes(&mut self) -> impl Iterator<Item = Bytes> {
        self.rest.iter_mut().filter_map(|(record, _)| record.ticket.lane.take())
    }

    /// Strikes everything out of `ledger` as settled, counts it, and returns what is still
    /// to be marked.
    pub(crate) fn settled(
        self,
        ledger: &mut Ledger,
        stats: &SubscriptionStats,
    ) -> Vec<(Record, Ending)> {
        let now = Instant::now();
        let (mut handled, mut skipped, mut published, mut duplicates) = (0, 0, 0, 0);
        for (record, ending) in &self.rest {
            if let Some(received) = ledger.close(record.ticket.token) {
                stats.latency.record(now - received);
            }
            match ending.end {
                End::Handled => {
                    handled += 1;
                    published += ending.outputs as u64;
                }
                End::Skipped => skipped += 1,
                End::Duplicate => duplicates += 1,
                End::Delayed { class, .. } => {
                    stats.retried.of(class).inc();
                    stats.delayed.inc();
                }
                End::DeadLettered(class) => drop(stats.dead_lettered.of(class).inc()),
                End::Dropped(class) => drop(stats.dropped.of(class).inc()),
            }
        }
        // once per batch: these lines are shared by all workers
        stats.handled.inc_by(handled);
        stats.skipped.inc_by(skipped);
        stats.published.inc_by(published);
        stats.dedup_hits.inc_by(duplicates);
        stats.in_flight.dec_by(self.rest.len() as i64);
        self.rest.into_iter().filter(|(_, ending)| ending.mark.is_some()).collect()
    }
}
