//! One partition: events are taken in, put on their lanes, handed out to attempts,
//! and settled. The loop is [`Work::run`]; everything below it is one of its steps.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use sandbar_core::{Delivery, Outgoing, Partition, PartitionId, SourceError};
use tokio::{
    select,
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep_until, timeout_at},
};

use crate::{
    Stop, Subscription,
    attempt::{End, Fate, Record, Report},
    attempts::Attempts,
    backoff::{Backoff, Throttle},
    condition::{AWAY_FOR, PartitionCondition},
    gate::{GateWatch, Outlook},
    lane::Lanes,
    ledger::Ledger,
    port::{Arrival, Finished, Port},
    stop::Phase,
    subscription::Turn,
};

/// How often the partition says how it is doing.
const TICK: Duration = Duration::from_secs(1);
/// How long a last release may take where no deadline says it.
const GRACE: Duration = Duration::from_secs(1);

/// Works on `partition` until `stop` says otherwise. When it returns, no attempt of
/// the partition runs any more and everything unfinished is released.
///
/// # Errors
/// What the partition called fatal.
pub(crate) async fn run_partition(
    partition: Box<dyn Partition>,
    subscription: Arc<Subscription>,
    stop: Stop,
    atomic: bool,
) -> Result<(), SourceError> {
    let mut work = Work::new(partition, subscription, stop, atomic);
    let result = work.run().await;
    // the partition may be another process's in a moment: nothing may run on (contract O1)
    work.abort().await;
    result
}

struct Work {
    id: PartitionId,
    subscription: Arc<Subscription>,
    port: Port,
    stop: Stop,

    ledger: Ledger,
    lanes: Lanes<Record>,
    /// Number of events taken in.
    taken_in: u64,
    /// By the time when they are due, and in order within it.
    waiting: BTreeMap<(Instant, u64), Waiting>,
    next_wait: u64,
    finished: Finished,

    attempts: Attempts,
    arrived: Vec<Report>,

    gate: GateWatch,
    /// The gate let nothing through when asked last.
    shut: bool,
    gate_opens: Option<Instant>,

    halted: Option<String>,
    /// Why the broker is thought to be away, and since when this was last seen.
    away: Option<(String, Instant)>,
    refusals: Backoff,
    log: Throttle,
    tick: Instant,
}

/// Something that is done later.
enum Waiting {
    Attempt(Record),
    /// Its dead letter was refused: offer it again (contract D1).
    Settle(Record, End, Vec<Outgoing>),
}

/// Unfinished events that one partition may have (contract C4).
fn window(subscription: &Subscription) -> usize {
    subscription.config.max_in_flight.clamp(1, Semaphore::MAX_PERMITS)
}

impl Work {
    fn new(
        partition: Box<dyn Partition>,
        subscription: Arc<Subscription>,
        stop: Stop,
        atomic: bool,
    ) -> Self {
        let work = Self {
            id: partition.id().clone(),
            port: Port::new(partition),
            stop,
            ledger: Ledger::default(),
            lanes: Lanes::new(subscription.config.ordering),
            taken_in: 0,
            waiting: BTreeMap::new(),
            next_wait: 0,
            finished: Finished::default(),
            attempts: Attempts::new(window(&subscription), atomic),
            arrived: Vec::new(),
            gate: subscription.gate.watch(),
            shut: false,
            gate_opens: None,
            halted: None,
            away: None,
            refusals: Backoff::default(),
            log: Throttle::default(),
            tick: Instant::now() + TICK,
            subscription,
        };
        work.tell();
        work
    }

    async fn run(&mut self) -> Result<(), SourceError> {
        loop {
            self.start_attempts(None);
            self.port.settle(&mut self.finished);
            if self.is_over() {
                self.release().await;
                return Ok(());
            }
            let (room, starved, alarm) = (self.room(), self.is_starved(), self.alarm());
            let worker = self.subscription.workers.clone();
            select! {
                // Finishing goes before beginning: what attempts report is settled and
                // frees its lane and its place in the window before anything new is
                // taken in. In any other order a busy topic would keep the committed
                // position, and with it what a crash repeats, ever further behind.
                biased;
                () = self.attempts.reports(&mut self.arrived) => self.take_reports(),
                phase = self.stop.changed() => self.enter(phase),
                () = sleep_until(alarm) => self.ring().await,
                () = self.gate.changed() => {}
                worker = worker.acquire_owned(), if starved => self.start_attempts(worker.ok()),
                arrival = self.port.next(room) => match arrival {
                    Arrival::Received(received) => self.take_in(received)?,
                    Arrival::Settled(batch, result) => self.take_settled(batch, result)?,
                },
            }
        }
    }

    /// Hands ready events to attempts as long as there are workers: evenly among the
    /// free ones, in chunks no larger than the handler likes.
    fn start_attempts(&mut self, mut worker: Option<OwnedSemaphorePermit>) {
        self.shut = false;
        self.gate_opens = None;
        while self.may_start() && self.lanes.ready() > 0 {
            let Subscription { workers, gate, handler, .. } = &*self.subscription;
            // first the gate, then a worker: two partitions that each took a worker only to
            // find the gate shut would hand it back and forth for ever
            let outlook = gate.outlook();
            if let Outlook::Shut(until) = outlook {
                (self.shut, self.gate_opens) = (true, until);
                return;
            }
            let acquire = || workers.clone().try_acquire_owned().ok();
            let Some(worker) = worker.take().or_else(acquire) else { return };
            let (limit, probe) = match outlook {
                Outlook::Probe => match gate.probe() {
                    Some(probe) => (1, Some(probe)),
                    // another partition was quicker: the gate is shut now
                    None => continue,
                },
                _ => (handler.max_batch().max(1), None),
            };
            let free = workers.available_permits() + 1;
            let size = (self.lanes.ready() / free).clamp(1, limit);
            let now = Instant::now();
            let mut records: Vec<_> = self.lanes.take(size).collect();
            for record in &mut records {
                record.ticket.first_attempt.get_or_insert(now);
            }
            let turn = Turn { _worker: worker, _probe: probe };
            let subscription = self.subscription.clone();
            self.attempts.spawn(records.len(), |way| subscription.process(records, turn, way));
        }
    }

    fn take_in(&mut self, received: Result<Vec<Delivery>, SourceError>) -> Result<(), SourceError> {
        let deliveries = match received {
            Ok(deliveries) => deliveries,
            Err(SourceError::Fatal(reason)) => return Err(SourceError::Fatal(reason)),
            Err(error) => {
                self.lost_broker(&error.to_string());
                return Ok(());
            }
        };
        self.found_broker();
        let stats = &self.subscription.stats;
        stats.received.inc_by(deliveries.len() as u64);
        stats.in_flight.inc_by(deliveries.len() as i64);
        let received = Instant::now();
        for delivery in deliveries {
            self.ledger.open(delivery.token, received);
            let lane = self.lanes.lane_of(&delivery.event);
            let age = self.taken_in;
            self.taken_in += 1;
            self.lanes.admit(lane.clone(), age, Record::new(delivery, lane, age));
        }
        Ok(())
    }

    /// Obeys what the attempts say.
    fn take_reports(&mut self) {
        let mut reports = std::mem::take(&mut self.arrived);
        let draining = matches!(self.stop.phase(), Phase::Drain(_));
        for Report { mut record, fate } in reports.drain(..) {
            match fate {
                // released at the end; it keeps its lane, so nothing overtakes it (contract R7)
                Fate::Retry { .. } | Fate::Defer if draining => {}
                Fate::Done { end, effects } => {
                    // the next event of the lane need not wait for the settlement: they
                    // are settled in this order, and together if at all
                    if let Some(lane) = record.ticket.lane.take() {
                        self.lanes.leave(lane);
                    }
                    self.finished.push(record, end, effects);
                }
                Fate::Retry { after, class } => {
                    self.subscription.stats.retried.of(class).inc();
                    record.call.attempt += 1;
                    let due = Instant::now() + after;
                    self.ledger.retry_at(record.ticket.token, due);
                    self.wait(due, Waiting::Attempt(record));
                }
                Fate::Defer => {
                    // as if it had not been begun: its age does not count either
                    if record.call.attempt == 1 {
                        record.ticket.first_attempt = None;
                    }
                    self.lanes.again(record.ticket.age, record);
                }
                Fate::Halt { reason } => self.halt(reason),
            }
        }
        // keep the buffer
        self.arrived = reports;
    }

    fn take_settled(
        &mut self,
        mut batch: Finished,
        result: Result<(), SourceError>,
    ) -> Result<(), SourceError> {
        match result {
            Ok(()) => {
                self.found_broker();
                self.count(&batch);
                return Ok(());
            }
            Err(SourceError::Unavailable(reason)) => self.lost_broker(&reason),
            Err(SourceError::Fatal(reason)) => return Err(SourceError::Fatal(reason)),
            Err(SourceError::Rejected { token, reason }) => {
                let Some((record, end, effects)) = batch.remove(token) else {
                    let reason =
                        format!("the source refused a delivery that was not settled: {reason}");
                    return Err(SourceError::Fatal(reason));
                };
                if let End::DeadLettered(_) = end {
                    // only this one waits: the others are not at fault
                    let event = record.delivered().id();
                    self.complain(&format!(
                        "the dead letter of event {event} is refused: {reason}"
                    ));
                    let again = Instant::now() + self.refusals.next();
                    self.wait(again, Waiting::Settle(record, end, effects));
                } else {
                    let subscription = self.subscription.clone();
                    self.attempts.spawn(1, |way| subscription.refuse(record, reason, way));
                }
            }
        }
        // none of the batch is settled: it goes first the next time, in its order
        batch.append(std::mem::take(&mut self.finished));
        self.finished = batch;
        Ok(())
    }

    /// Closes the books on settled events.
    fn count(&mut self, settled: &Finished) {
        let stats = &self.subscription.stats;
        let now = Instant::now();
        let (mut handled, mut skipped, mut published) = (0, 0, 0);
        for (record, end, effects) in settled.iter() {
            if let Some(received) = self.ledger.close(record.ticket.token) {
                stats.latency.record(now - received);
            }
            match end {
                End::Handled => {
                    handled += 1;
                    published += effects as u64;
                }
                End::Skipped => skipped += 1,
                End::DeadLettered(class) => {
                    stats.dead_lettered.of(class).inc();
                }
                End::Dropped(class) => {
                    stats.dropped.of(class).inc();
                }
            }
        }
        // once per batch: these lines are shared by all workers
        stats.handled.inc_by(handled);
        stats.skipped.inc_by(skipped);
        stats.published.inc_by(published);
        stats.in_flight.dec_by(settled.iter().count() as i64);
    }

    fn enter(&mut self, phase: Phase) {
        if let Phase::Drain(_) = phase {
            // what was not begun is released at the end, but for the events that younger
            // ones have overtaken: a position behind those would repeat finished work
            self.lanes.forget_younger();
            for waiting in std::mem::take(&mut self.waiting).into_values() {
                if let Waiting::Settle(record, end, effects) = waiting {
                    self.finished.push(record, end, effects);
                }
            }
        }
    }

    /// Does what is due.
    async fn ring(&mut self) {
        let now = Instant::now();
        while let Some(due) = self.waiting.first_entry().filter(|first| first.key().0 <= now) {
            match due.remove() {
                Waiting::Attempt(record) => self.lanes.again(record.ticket.age, record),
                Waiting::Settle(record, end, effects) => self.finished.push(record, end, effects),
            }
        }
        if self.tick <= now {
            self.tick = now + TICK;
            self.tell();
        }
        if let Phase::Drain(deadline) = self.stop.phase()
            && deadline.abort <= now
            && !self.attempts.is_aborted()
        {
            self.abort().await;
        }
    }

    fn wait(&mut self, due: Instant, what: Waiting) {
        self.waiting.insert((due, self.next_wait), what);
        self.next_wait += 1;
    }

    fn halt(&mut self, reason: String) {
        tracing::error!(
            plugin = self.subscription.config.name, partition = %self.id, reason,
            "partition halted: the event stays uncommitted until the plugin is restarted"
        );
        self.halted.get_or_insert(reason);
        self.tell();
    }

    fn lost_broker(&mut self, reason: &str) {
        self.port.back_off();
        self.complain(reason);
    }

    fn complain(&mut self, reason: &str) {
        if let Some(held) = self.log.due() {
            tracing::warn!(
                plugin = self.subscription.config.name, partition = %self.id, held_lines = held, reason,
                "the broker does not take what it should: trying again"
            );
        }
        self.away = Some((reason.to_owned(), Instant::now()));
        self.tell();
    }

    fn found_broker(&mut self) {
        self.port.alive();
        let refused = |w: &Waiting| matches!(w, Waiting::Settle(..));
        if self.away.is_some() && !self.waiting.values().any(refused) {
            self.away = None;
            self.refusals.reset();
            self.tell();
        }
    }

    /// Lets operators see how the partition is doing.
    fn tell(&self) {
        let condition = PartitionCondition {
            in_flight: self.ledger.len(),
            oldest: self.ledger.oldest(),
            halted: self.halted.clone(),
            away: self
                .away
                .as_ref()
                .filter(|(_, at)| at.elapsed() < AWAY_FOR)
                .map(|(reason, _)| reason.clone()),
        };
        self.subscription.stats.set_partition(&self.id, Some(condition));
    }

    fn may_start(&self) -> bool {
        let in_time = match self.stop.phase() {
            Phase::Drain(deadline) => Instant::now() < deadline.abort,
            Phase::Run | Phase::Finish => true,
        };
        self.halted.is_none() && in_time
    }

    /// There is something to start and only a worker is missing.
    fn is_starved(&self) -> bool {
        self.may_start() && self.lanes.ready() > 0 && !self.shut
    }

    /// How many events may be taken in now (contract C4).
    fn room(&self) -> usize {
        match self.stop.phase() {
            Phase::Run if self.halted.is_none() => {
                window(&self.subscription).saturating_sub(self.ledger.len())
            }
            _ => 0,
        }
    }

    /// The next moment at which something is due.
    fn alarm(&self) -> Instant {
        let retry = self.waiting.first_key_value().map(|((due, _), _)| *due);
        let deadline = match self.stop.phase() {
            Phase::Drain(d) if self.attempts.is_aborted() => Some(d.end),
            Phase::Drain(d) => Some(d.abort),
            Phase::Run | Phase::Finish => None,
        };
        [retry, self.gate_opens, deadline].into_iter().flatten().fold(self.tick, Instant::min)
    }

    fn is_over(&self) -> bool {
        let quiet = self.attempts.is_idle() && self.finished.is_empty() && !self.port.is_settling();
        match self.stop.phase() {
            Phase::Run => false,
            Phase::Finish => self.ledger.len() == 0 || (self.halted.is_some() && quiet),
            Phase::Drain(deadline) => {
                let nothing_to_start = self.lanes.ready() == 0 || self.shut || !self.may_start();
                (quiet && nothing_to_start) || deadline.end <= Instant::now()
            }
        }
    }

    /// Ends all attempts: stopping is not failing, so their events stay open and are
    /// released (contract H6). What they reported before still counts.
    async fn abort(&mut self) {
        if !self.attempts.abort(&mut self.arrived).await {
            tracing::error!(
                plugin = self.subscription.config.name, partition = %self.id,
                "a handler call does not yield: leaving it behind, its event will be delivered again"
            );
        }
        self.take_reports();
    }

    /// Gives back everything that is not settled.
    async fn release(&mut self) {
        let releases = self.ledger.releases();
        if releases.is_empty() {
            return;
        }
        self.subscription.stats.released.inc_by(releases.len() as u64);
        let end = match self.stop.phase() {
            Phase::Drain(deadline) => deadline.end,
            Phase::Run | Phase::Finish => Instant::now() + GRACE,
        };
        if let Some(partition) = self.port.partition() {
            let said = timeout_at(end, partition.settle(&releases)).await;
            if let Ok(Err(error)) = said {
                // unsaid is as good: what is not settled is delivered again
                tracing::debug!(partition = %self.id, %error, "could not release events early");
            }
        }
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        self.subscription.stats.in_flight.dec_by(self.ledger.len() as i64);
        self.subscription.stats.set_partition(&self.id, None);
    }
}
