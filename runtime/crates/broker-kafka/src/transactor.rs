//! The thread on which a source's transactions run (contract E1, E2).
//!
//! One transaction takes in everything that waits, of all partitions: outputs, dead
//! letters and positions. While it is committed the next one gathers. A ledger learns of
//! it only when it is committed, so a transaction that failed can be made again as it was.

use std::{sync::Arc, thread, time::Duration};

use rdkafka::{ClientConfig, consumer::ConsumerGroupMetadata};
use sandbar_core::{AckToken, Outgoing, SourceError, SourceStats};
use tokio::sync::mpsc;

use crate::{
    assignment::Group,
    committed, error,
    ledger::Cursor,
    membership, metadata,
    partition::Slot,
    transaction::{Commit, Failed, Transactional},
    transactions::{Job, Order, Transactions},
};

/// What one transaction takes in before it begins; one call of `settle` is never split.
const BYTES: usize = 16 << 20;
/// Attempts before the pipeline is told that something is wrong.
const ATTEMPTS: u32 = 4;
/// Pause before the second attempt; it grows with each. While a group is between two
/// generations it takes no offsets, for a few milliseconds.
const PAUSE: Duration = Duration::from_millis(25);
/// Longest time to look up what the group has committed.
const LOOK_UP: Duration = Duration::from_secs(5);

/// Owns the producer and everything that is in a transaction.
pub(crate) struct Transactor {
    connection: Arc<str>,
    group: Arc<Group>,
    transactions: Arc<Transactions>,
    /// With the transactional id. Every producer of this source has the same one: the next
    /// ends at once what the last left open.
    client: ClientConfig,
    timeout: Duration,
    stats: Arc<SourceStats>,
    producer: Option<Transactional>,
    /// A commit that got no answer.
    undecided: Option<Vec<Part>>,
}

/// One delivery to be settled.
struct Unit<'a> {
    /// Index of the call that it came with.
    job: usize,
    slot: &'a Arc<Slot>,
    token: AckToken,
    effects: &'a [Outgoing],
}

/// What a transaction does for one partition.
struct Part {
    slot: Arc<Slot>,
    cursor: Cursor,
    tokens: Vec<AckToken>,
}

impl Transactor {
    pub fn new(
        connection: Arc<str>,
        group: Arc<Group>,
        transactions: Arc<Transactions>,
        client: ClientConfig,
        timeout: Duration,
        stats: Arc<SourceStats>,
    ) -> Self {
        Self {
            connection,
            group,
            transactions,
            client,
            timeout,
            stats,
            producer: None,
            undecided: None,
        }
    }

    /// Begins to work on `orders`, on a thread of its own, until it is told to stop.
    pub fn start(self, orders: mpsc::Receiver<Order>) -> std::io::Result<()> {
        thread::Builder::new().name("kafka-transactions".into()).spawn(|| self.run(orders))?;
        Ok(())
    }

    fn run(mut self, mut orders: mpsc::Receiver<Order>) {
        // the first settlement need not wait for this, and a refusal is known early
        if let Err(Failed::Fatal(reason)) = self.ready() {
            self.group.fail(reason);
        }
        while let Some(mut order) = orders.blocking_recv() {
            let (mut jobs, mut sweep, mut bytes) = (Vec::new(), false, 0);
            while bytes < BYTES {
                match order {
                    Order::Settle(job) => {
                        bytes += job.bytes();
                        jobs.push(job);
                    }
                    Order::Sweep => sweep = true,
                    Order::Stop => {}
                }
                match orders.try_recv() {
                    Ok(next) => order = next,
                    Err(_) => break,
                }
            }
            // who waits learns from the dropped answer that this has ended
            if self.transactions.is_stopping() {
                return;
            }
            if !jobs.is_empty() {
                let results = self.settle(&jobs);
                for (job, result) in jobs.into_iter().zip(results) {
                    // a call that was dropped waits for nothing
                    let _ = job.answer.send(result);
                }
            }
            if sweep && let Err(Failed::Fatal(reason)) = self.sweep() {
                self.group.fail(reason);
            }
        }
    }

    /// Settles all `jobs` and answers each.
    fn settle(&mut self, jobs: &[Job]) -> Vec<Result<(), SourceError>> {
        let mut results = vec![Ok(()); jobs.len()];
        let units = jobs.iter().enumerate().flat_map(|(job, Job { slot, done, .. })| {
            done.iter().map(move |(token, effects)| Unit { job, slot, token: *token, effects })
        });
        let mut batches: Vec<Vec<Unit<'_>>> = vec![units.collect()];
        let mut attempts = 0;
        while let Some(mut batch) = batches.pop() {
            let outcome = self.resolve().and_then(|()| {
                let parts = plan(&mut batch, &mut results);
                self.transact(&batch, parts)
            });
            let error = match outcome {
                Ok(()) => continue,
                Err(Failed::Refused(units, reason)) => {
                    if let Some(at) = refused(&batch, &units) {
                        let unit = batch.remove(at);
                        results[unit.job] =
                            Err(SourceError::Rejected { token: unit.token, reason });
                        batches.push(batch);
                        continue;
                    }
                    if batch.len() > 1 {
                        // which one it is comes out by halving
                        let second = batch.split_off(batch.len() / 2);
                        batches.extend([second, batch]);
                        continue;
                    }
                    SourceError::Unavailable(reason)
                }
                Err(Failed::Again(reason)) => {
                    attempts += 1;
                    if attempts < ATTEMPTS && !self.transactions.is_stopping() {
                        thread::park_timeout(PAUSE * attempts);
                        batches.push(batch);
                        continue;
                    }
                    SourceError::Unavailable(reason)
                }
                Err(Failed::Later(reason)) => SourceError::Unavailable(reason),
                Err(Failed::Fatal(reason)) => {
                    self.group.fail(reason.clone());
                    SourceError::Fatal(reason)
                }
            };
            let message = format!("connection {}: {error}", self.connection);
            let rest = batch.iter().chain(batches.iter().flatten());
            for unit in rest {
                results[unit.job] = Err(match &error {
                    SourceError::Fatal(_) => SourceError::Fatal(message.clone()),
                    _ => SourceError::Unavailable(message.clone()),
                });
            }
            break;
        }
        results
    }

    /// One transaction with all that `batch` writes.
    fn transact(&mut self, batch: &[Unit<'_>], parts: Vec<Part>) -> Result<(), Failed> {
        let records: Vec<(usize, &Outgoing)> = batch
            .iter()
            .enumerate()
            .flat_map(|(i, unit)| unit.effects.iter().map(move |effect| (i, effect)))
            .collect();
        let result = self.run_transaction(parts, records.iter().map(|(_, record)| *record));
        result.map_err(|failed| match failed {
            // the caller knows units, not records
            Failed::Refused(which, reason) => {
                let mut units: Vec<usize> = which.into_iter().map(|n| records[n].0).collect();
                units.sort_unstable();
                units.dedup();
                Failed::Refused(units, reason)
            }
            other => other,
        })
    }

    /// Commits positions that moved although nothing was settled.
    fn sweep(&mut self) -> Result<(), Failed> {
        self.resolve()?;
        let moved = self.group.slots().into_iter().filter_map(|slot| {
            let cursor = slot.moved()?;
            Some(Part { slot, cursor, tokens: Vec::new() })
        });
        let parts = moved.collect();
        self.run_transaction(parts, std::iter::empty())
    }

    fn run_transaction<'a>(
        &mut self,
        parts: Vec<Part>,
        records: impl Iterator<Item = &'a Outgoing>,
    ) -> Result<(), Failed> {
        if parts.is_empty() {
            return Ok(());
        }
        let offsets = committed::offsets(parts.iter().map(|p| (&p.slot.id, &p.cursor)));
        let offsets = offsets.map_err(|e| Failed::Fatal(error::describe(&e)))?;
        self.ready()?;
        let Some(producer) = &self.producer else {
            return Err(Failed::Again("there is no producer".into()));
        };
        if let Err(failed) = producer.begin() {
            self.producer = None;
            return Err(failed);
        }
        if let Err(failed) = producer.write(records, &offsets, || self.member(&parts)) {
            self.stats.transaction_aborted();
            self.abort();
            return Err(failed);
        }
        match producer.commit() {
            Commit::Done => self.finish(parts),
            Commit::Unanswered => {
                self.undecided = Some(parts);
                return Err(Failed::Later("no answer to the commit of a transaction".into()));
            }
            Commit::Failed(failed) => {
                if self.abort() {
                    self.stats.transaction_aborted();
                } else {
                    self.undecided = Some(parts);
                }
                return Err(failed);
            }
        }
        Ok(())
    }

    /// As whom to commit, as long as all partitions are still ours. Asked for in this
    /// order: a membership from before they were taken is refused by the group.
    fn member(&self, parts: &[Part]) -> Result<ConsumerGroupMetadata, Failed> {
        let member = self.group.with_consumer(membership::current).flatten();
        let member =
            member.ok_or_else(|| Failed::Again("this is no member of the group".into()))?;
        for part in parts {
            part.slot.check().map_err(|gone| Failed::Again(gone.to_string()))?;
        }
        Ok(member)
    }

    fn finish(&self, parts: Vec<Part>) {
        self.stats.transaction_committed();
        for Part { slot, cursor, tokens } in parts {
            slot.committed(Some(cursor), tokens.into_iter());
        }
    }

    /// Gives up the open transaction. Where this fails, the next producer has it ended;
    /// whether it is aborted then is not known if it was to be committed.
    fn abort(&mut self) -> bool {
        let aborted = self.producer.as_ref().is_some_and(Transactional::abort);
        if !aborted {
            self.producer = None;
        }
        aborted
    }

    /// Has a producer that can begin a transaction.
    fn ready(&mut self) -> Result<(), Failed> {
        if self.producer.as_ref().is_some_and(|p| !p.is_alive()) {
            tracing::warn!(
                connection = &*self.connection,
                "the transactional producer is replaced"
            );
            self.producer = None;
        }
        if self.producer.is_none() {
            self.producer = Some(Transactional::new(
                self.connection.clone(),
                &self.client,
                self.timeout,
                self.transactions.clone(),
            )?);
        }
        let Some(producer) = &mut self.producer else { return Ok(()) };
        let result = producer.initialise();
        if result.is_err() && !producer.is_alive() {
            self.producer = None;
        }
        // nothing is gained by asking again at once
        result.map_err(|failed| match failed {
            Failed::Again(reason) => Failed::Later(reason),
            other => other,
        })
    }

    /// Finds out what became of a commit that got no answer. Before that nothing else may
    /// be done: whether its deliveries are settled decides what the next call has to do.
    fn resolve(&mut self) -> Result<(), Failed> {
        let Some(parts) = self.undecided.take() else { return Ok(()) };
        let committed = match self.producer.as_ref().map(Transactional::commit) {
            Some(Commit::Done) => Ok(true),
            Some(Commit::Unanswered) => {
                Err(Failed::Later("still no answer to the commit of a transaction".into()))
            }
            Some(Commit::Failed(_)) if self.abort() => Ok(false),
            // the next producer of this id has the old transaction ended, one way or the other
            Some(Commit::Failed(_)) | None => self.ready().and_then(|()| self.is_committed(&parts)),
        };
        match committed {
            Ok(true) => self.finish(parts),
            Ok(false) => self.stats.transaction_aborted(),
            Err(unknown) => {
                self.undecided = Some(parts);
                return Err(unknown);
            }
        }
        Ok(())
    }

    /// Whether the group has what a transaction would have committed. All of it or nothing
    /// was, so one partition tells.
    fn is_committed(&self, parts: &[Part]) -> Result<bool, Failed> {
        // of partitions that are gone nobody wants to know
        let Some(part) = parts.iter().find(|part| !part.slot.is_fenced()) else { return Ok(false) };
        let look = |consumer: &_| committed::fetch(consumer, &[&part.slot.id], LOOK_UP);
        match self.group.with_consumer(look) {
            None => Ok(false),
            Some(Err(e)) => Err(Failed::Later(format!(
                "what became of a transaction is not known: {}",
                error::describe(&e)
            ))),
            Some(Ok(found)) => Ok(found.into_iter().flatten().any(|found| {
                found.position == part.cursor.position.0
                    && found.metadata == part.cursor.metadata.as_bytes()
            })),
        }
    }
}

/// What a transaction of `batch` does for each partition. Takes out of it what needs no
/// transaction, because its call was dropped when it was settled already, and what cannot
/// be settled, with that as the result of its call.
fn plan(batch: &mut Vec<Unit<'_>>, results: &mut [Result<(), SourceError>]) -> Vec<Part> {
    // what has failed as a whole is made again as a whole; the rest of a call of which one
    // delivery was refused is settled all the same
    batch.retain(|unit| matches!(results[unit.job], Ok(()) | Err(SourceError::Rejected { .. })));
    let mut slots: Vec<Arc<Slot>> = Vec::new();
    for unit in &*batch {
        if !slots.iter().any(|slot| Arc::ptr_eq(slot, unit.slot)) {
            slots.push(unit.slot.clone());
        }
    }
    let mut parts = Vec::new();
    for slot in slots {
        let of_slot = |unit: &Unit<'_>| Arc::ptr_eq(unit.slot, &slot);
        let tokens = batch.iter().filter(|unit| of_slot(unit)).map(|unit| unit.token);
        let full = || {
            SourceError::Unavailable(format!(
                "{}: what is finished cannot be noted with the committed position until some \
                 events before it are finished",
                slot.id
            ))
        };
        let preview = slot.preview(tokens).and_then(|(cursor, open)| match cursor {
            Some(cursor) if cursor.metadata.len() > metadata::LIMIT => Err(full()),
            cursor => Ok((cursor, open)),
        });
        match preview {
            Ok((cursor, open)) => {
                let mut open = open.into_iter();
                batch.retain(|unit| !of_slot(unit) || open.next().unwrap_or_default());
                let tokens: Vec<_> =
                    batch.iter().filter(|unit| of_slot(unit)).map(|unit| unit.token).collect();
                if let Some(cursor) = cursor.filter(|_| !tokens.is_empty()) {
                    parts.push(Part { slot, cursor, tokens });
                }
            }
            Err(error) => batch.retain(|unit| {
                if of_slot(unit) {
                    results[unit.job] = Err(error.clone());
                }
                !of_slot(unit)
            }),
        }
    }
    parts
}

/// The one unit of `batch` that can never be written, where that is certain.
fn refused(batch: &[Unit<'_>], units: &[usize]) -> Option<usize> {
    let certain = match units {
        [one] => Some(*one),
        _ => (batch.len() == 1).then_some(0),
    };
    certain.filter(|&at| !batch[at].effects.is_empty())
}
