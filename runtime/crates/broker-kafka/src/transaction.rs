//! The transactional producer of one source, and what its errors mean.

use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use rdkafka::{
    ClientConfig, TopicPartitionList,
    consumer::ConsumerGroupMetadata,
    error::{KafkaError, KafkaResult, RDKafkaErrorCode},
    producer::{Producer, ThreadedProducer},
};
use sandbar_core::{Outgoing, PublishError};

use crate::{
    error,
    producer::{self, Batch, Reports},
    transactions::Transactions,
};

/// Longest time that one call into librdkafka may block: bounds how late a stop is noticed.
const CALL: Duration = Duration::from_secs(5);
/// Pause before a call that may simply be made again.
const AGAIN: Duration = Duration::from_millis(20);
/// Pause while the producer's queue is full.
const QUEUE_FULL: Duration = Duration::from_millis(10);

/// Why a transaction did not go through.
#[derive(Debug)]
pub(crate) enum Failed {
    /// The same may work at once.
    Again(String),
    /// The same may work later.
    Later(String),
    /// Something in it can never be written: the records with these numbers, or, where
    /// there are none, one that is not known.
    Refused(Vec<usize>, String),
    /// No transaction can work.
    Fatal(String),
}

/// What became of a commit.
#[derive(Debug)]
pub(crate) enum Commit {
    Done,
    /// There was no answer; the same call asks again.
    Unanswered,
    /// It failed here. The coordinator may have done it all the same, unless it agrees to
    /// an abort.
    Failed(Failed),
}

/// A transactional producer, polled by a thread of its own.
pub(crate) struct Transactional {
    producer: ThreadedProducer<Reports>,
    initialised: bool,
    /// After this time the coordinator gives a transaction up.
    timeout: Duration,
    transactions: Arc<Transactions>,
}

impl Transactional {
    pub fn new(
        connection: Arc<str>,
        client: &ClientConfig,
        timeout: Duration,
        transactions: Arc<Transactions>,
    ) -> Result<Self, Failed> {
        let context = Reports::new(connection, Arc::default());
        let producer =
            client.create_with_context(context).map_err(|e| Failed::Fatal(e.to_string()))?;
        Ok(Self { producer, initialised: false, timeout, transactions })
    }

    /// Whether it can go on; `false` once the coordinator took its transaction away.
    pub fn is_alive(&self) -> bool {
        self.producer.client().fatal_error().is_none()
    }

    /// Registers with the coordinator, which ends what a producer of the same id left open.
    pub fn initialise(&mut self) -> Result<(), Failed> {
        if !self.initialised {
            self.persist(2 * CALL, || self.producer.init_transactions(CALL))
                .map_err(|e| self.failed("begin with transactions", &e, Vec::new()))?;
            self.initialised = true;
        }
        Ok(())
    }

    pub fn begin(&self) -> Result<(), Failed> {
        self.producer
            .begin_transaction()
            .map_err(|e| self.failed("begin a transaction", &e, Vec::new()))
    }

    /// Writes `records` and `offsets` into the transaction and returns when all are there.
    /// `member` is asked for after the records were handed over, as late as can be.
    pub fn write<'a>(
        &self,
        records: impl Iterator<Item = &'a Outgoing>,
        offsets: &TopicPartitionList,
        member: impl FnOnce() -> Result<ConsumerGroupMetadata, Failed>,
    ) -> Result<(), Failed> {
        let (batch, all) = Batch::all_or_nothing();
        let mut topics = Vec::new();
        for (index, outgoing) in records.enumerate() {
            topics.push(&outgoing.topic);
            self.send(outgoing, &batch, index);
        }
        batch.close(None);
        let failures = || {
            let failed = batch.failed().into_iter();
            failed.map(|(index, code)| (index, code, topics[index].clone())).collect::<Vec<_>>()
        };
        let member = member()?;
        let add_offsets = || self.producer.send_offsets_to_transaction(offsets, &member, CALL);
        const WHAT: &str = "write in a transaction";
        self.persist(self.timeout, add_offsets).map_err(|e| self.failed(WHAT, &e, failures()))?;
        // the producer reports every record, if only when it times out; the first that failed
        // is the one at fault, others fail because of it
        let reported = all.blocking_recv().is_ok();
        debug_assert!(reported, "the batch outlives its reports");
        let failures = failures();
        let Some((_, code, _)) = failures.first() else { return Ok(()) };
        // the record was perhaps only thrown away with the others; why, any call says now
        let error = add_offsets().err().unwrap_or(KafkaError::MessageProduction(*code));
        Err(self.failed(WHAT, &error, failures))
    }

    fn send(&self, outgoing: &Outgoing, batch: &Arc<Batch>, index: usize) {
        let mut native = producer::record(outgoing, batch.ticket(index));
        loop {
            let Err((error, returned)) = self.producer.send(native) else { return };
            let code = producer::code(&error);
            if code != RDKafkaErrorCode::QueueFull || self.transactions.is_stopping() {
                returned.delivery_opaque.close(Some(code));
                return;
            }
            native = returned;
            self.producer.poll(QUEUE_FULL);
        }
    }

    /// Commits.
    pub fn commit(&self) -> Commit {
        // a report arrives a moment before its record leaves the queue, and rdkafka's flush
        // would wait a tenth of a second for that
        let deadline = Instant::now() + QUEUE_FULL;
        while self.producer.in_flight_count() > 0 && Instant::now() < deadline {
            thread::yield_now();
        }
        match self.persist(self.timeout, || self.producer.commit_transaction(CALL)) {
            Ok(()) => Commit::Done,
            Err(e) if self.is_alive() && retriable(&e) => Commit::Unanswered,
            Err(e) => Commit::Failed(self.failed("commit a transaction", &e, Vec::new())),
        }
    }

    /// Gives the transaction up; `false` where this producer cannot go on after it, and
    /// where it was committed in truth.
    pub fn abort(&self) -> bool {
        let aborted = self.persist(self.timeout, || self.producer.abort_transaction(CALL));
        if let Err(e) = &aborted {
            tracing::warn!("a transaction was left to time out: {}", text(e));
        }
        aborted.is_ok()
    }

    /// Makes a call again while librdkafka says that this is the way to go on.
    fn persist(&self, patience: Duration, call: impl Fn() -> KafkaResult<()>) -> KafkaResult<()> {
        let deadline = Instant::now() + patience;
        loop {
            match call() {
                Err(e)
                    if retriable(&e)
                        && Instant::now() < deadline
                        && !self.transactions.is_stopping() =>
                {
                    thread::park_timeout(AGAIN);
                }
                result => return result,
            }
        }
    }

    /// Sorts an error by what follows from it. `failures` are records that were not
    /// written: number, reason, topic.
    fn failed(
        &self,
        what: &str,
        error: &KafkaError,
        failures: Vec<(usize, RDKafkaErrorCode, Arc<str>)>,
    ) -> Failed {
        use RDKafkaErrorCode as E;
        let mut refused = (Vec::new(), None);
        for (index, code, topic) in failures {
            if error::unknown_topic(code) {
                self.transactions.forget(&topic);
            }
            if let PublishError::Rejected(reason) = error::publish(&topic, code) {
                refused.0.push(index);
                refused.1.get_or_insert(reason);
            }
        }
        if let (records, Some(reason)) = refused {
            return Failed::Refused(records, reason);
        }
        // what made the producer give up says more than that it did
        let fatal = self.producer.client().fatal_error();
        let code = fatal.as_ref().map(|(code, _)| *code).or_else(|| error::code(error));
        let cause = fatal.map_or_else(|| text(error), |(_, reason)| reason);
        let reason = format!("could not {what}: {cause}");
        match code {
            Some(E::TransactionalIdAuthorizationFailed) => Failed::Fatal(format!(
                "{reason}; exactly-once needs the permissions Write and Describe on transactional \
                 ids that begin with the client id and the group"
            )),
            Some(E::InvalidTransactionTimeout) => Failed::Fatal(format!(
                "{reason}; `transaction.timeout.ms` exceeds the brokers' `transaction.max.timeout.ms`"
            )),
            Some(E::GroupAuthorizationFailed | E::ClusterAuthorizationFailed) => {
                Failed::Fatal(reason)
            }
            Some(E::OffsetMetadataTooLarge) => Failed::Later(format!(
                "{reason}; the brokers' `offset.metadata.max.bytes` is below its default of 4096"
            )),
            // of which record, librdkafka does not say
            Some(E::TopicAuthorizationFailed | E::InvalidTopic | E::MessageSizeTooLarge) => {
                Failed::Refused(Vec::new(), reason)
            }
            _ => Failed::Again(reason),
        }
    }
}

fn retriable(error: &KafkaError) -> bool {
    match error {
        KafkaError::Transaction(e) => e.is_retriable(),
        KafkaError::Flush(code) => *code == RDKafkaErrorCode::OperationTimedOut,
        _ => false,
    }
}

/// What librdkafka says of an error, in full.
fn text(error: &KafkaError) -> String {
    match error {
        KafkaError::Transaction(e) => e.string(),
        other => error::describe(other),
    }
}
