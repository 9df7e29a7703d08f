//! One partition: events are taken in, put on their lanes, handed out to attempts,
//! and settled. The loop is [`Work::run`]; everything below it is one of its steps, and
//! `pace.rs` says how much of each there may be now.

mod pace;

use std::{sync::Arc, time::Duration};

use sandbar_core::{Delivery, Guarantees, Partition, PartitionId, SourceError};
use tokio::{
    select,
    sync::OwnedSemaphorePermit,
    time::{Instant, sleep_until},
};

use self::pace::window;
use crate::{
    Stop, Subscription,
    agenda::Agenda,
    attempt::{End, Ending, Fate, Record, Report},
    attempts::Attempts,
    backoff::Backoff,
    faults::{Fault, planted},
    finished::Finished,
    gate::{GateWatch, Outlook},
    health::Health,
    lane::Lanes,
    ledger::Ledger,
    port::{Arrival, Port},
    stop::Phase,
    subscription::Turn,
};

/// Works on `partition` until `stop` says otherwise. When it returns, no attempt of
/// the partition runs any more and everything unfinished is released.
///
/// # Errors
/// What the partition called fatal.
pub(crate) async fn run_partition(
    partition: Box<dyn Partition>,
    subscription: Arc<Subscription>,
    stop: Stop,
    guarantees: Guarantees,
) -> Result<(), SourceError> {
    let mut work = Work::new(partition, subscription, stop, guarantees);
    let result = work.run().await;
    // the partition may be another process's in a moment: nothing may run on (contract O1)
    work.abort().await;
    result
}

struct Work {
    id: PartitionId,
    subscription: Arc<Subscription>,
    guarantees: Guarantees,
    /// What comes here are parcels.
    is_inbox: bool,
    port: Port,
    stop: Stop,

    ledger: Ledger,
    lanes: Lanes<Record>,
    /// Number of events taken in.
    taken_in: u64,
    later: Agenda<Later>,
    finished: Finished,
    /// Settled events whose mark is being written; they count as unfinished (contract C4).
    unmarked: usize,

    attempts: Attempts,
    arrived: Vec<Report>,

    gate: GateWatch,
    /// The gate let nothing through when asked last.
    shut: bool,
    gate_opens: Option<Instant>,

    health: Health,
    refusals: Backoff,
}

/// Something that is done later.
enum Later {
    Attempt(Record),
    /// A parcel that came before its time (contract R1).
    Admit(Record),
    /// Its dead letter was refused: offer it again (contract D1).
    Settle(Record, Ending),
}

impl Work {
    fn new(
        partition: Box<dyn Partition>,
        subscription: Arc<Subscription>,
        stop: Stop,
        guarantees: Guarantees,
    ) -> Self {
        let id = partition.id().clone();
        Self {
            is_inbox: *id.topic == *subscription.config.inbox(),
            health: Health::new(id.clone(), subscription.stats.clone()),
            guarantees,
            port: Port::new(partition),
            stop,
            ledger: Ledger::default(),
            lanes: Lanes::new(subscription.config.ordering, subscription.dedup.is_some()),
            taken_in: 0,
            later: Agenda::default(),
            finished: Finished::default(),
            unmarked: 0,
            attempts: Attempts::new(id.clone(), window(&subscription), guarantees),
            arrived: Vec::new(),
            gate: subscription.gate.watch(),
            shut: false,
            gate_opens: None,
            refusals: Backoff::default(),
            id,
            subscription,
        }
    }

    async fn run(&mut self) -> Result<(), SourceError> {
        if !self.knows_halted_keys().await {
            return Ok(());
        }
        loop {
            self.look_at_heads();
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

    /// Waits until all is known that the partition's owner before this one has noted
    /// (contract O4). `false` if it is to be given back by then.
    async fn knows_halted_keys(&mut self) -> bool {
        let Some(halted) = &self.subscription.halted else { return true };
        select! {
            biased;
            () = self.stop.draining() => false,
            () = halted.catch_up() => true,
        }
    }

    /// Finds out which events were handled before (contract I1). What a drain finds here
    /// is left to the next owner.
    fn look_at_heads(&mut self) {
        let Some(dedup) = self.subscription.dedup.clone() else { return };
        let heads = self.lanes.unseen();
        if !heads.is_empty() {
            let subscription = self.subscription.clone();
            self.attempts.spawn(heads.len(), |way| subscription.screen(dedup, heads, way));
        }
    }

    /// Hands ready events to attempts as long as there are workers, in chunks as the handler
    /// likes them.
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
            // an even part, but no worker is bothered with next to nothing
            let size = (self.lanes.ready() / free).max(handler.min_batch()).clamp(1, limit);
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
            Err(gone @ (SourceError::Fatal(_) | SourceError::Fenced(_))) => return Err(gone),
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
            let record = Record::new(delivery, lane.clone(), age);
            if self.is_inbox {
                self.take_in_parcel(record, received);
            } else {
                self.lanes.admit(lane, age, record);
            }
        }
        Ok(())
    }

    fn take_in_parcel(&mut self, record: Record, received: Instant) {
        let now_ms = self.subscription.now_ms();
        let record = record.opened(&self.subscription.config.group, now_ms);
        let due_ms = record.ticket.parcel.as_ref().map_or(0, |parcel| parcel.due_ms);
        let (age, lane) = (record.ticket.age, record.ticket.lane.clone());
        match due_ms.checked_sub(now_ms).filter(|early| *early > 0) {
            Some(early) => {
                let due = received + Duration::from_millis(early);
                self.ledger.retry_at(record.ticket.token, due);
                self.later.push(due, Later::Admit(record));
            }
            None => self.lanes.admit(lane, age, record),
        }
    }

    /// Obeys what the attempts say.
    fn take_reports(&mut self) {
        let mut reports = std::mem::take(&mut self.arrived);
        let draining = self.stop.phase().deadline().is_some();
        for Report { record, fate } in reports.drain(..) {
            match fate {
                // released at the end; it keeps its lane, so nothing overtakes it (contract R7)
                Fate::New | Fate::Retry { .. } | Fate::Defer | Fate::Stale { .. } if draining => {}
                Fate::Untouched => {}
                Fate::Marked => self.unmarked -= 1,
                Fate::New => self.lanes.again(record.ticket.age, record),
                Fate::Done(ending) => self.finish(record, ending),
                Fate::Retry { due, class } => {
                    self.subscription.stats.retried.of(class).inc();
                    self.retry(record, due);
                }
                Fate::Defer => self.defer(record),
                Fate::Stale { reason } => self.stale(record, &reason),
                Fate::Halt { reason } => self.health.halt(reason, &self.ledger),
            }
        }
        // keep the buffer
        self.arrived = reports;
    }

    fn finish(&mut self, mut record: Record, ending: Ending) {
        // the next event of the lane need not wait for the settlement, since they are settled
        // in this order, and together if at all; unless it must not pass one that fails there,
        // or must see what that one made of the state
        let waits = ending.state.is_some()
            || self.subscription.config.waits_for_failed() && ending.may_fail();
        if let Some(lane) = record.ticket.lane.take_if(|_| !waits) {
            self.lanes.leave(lane);
        }
        self.finished.push(record, ending, self.guarantees);
    }

    fn retry(&mut self, mut record: Record, due: Instant) {
        let leaves = planted(Fault::LaneLeftForRetry);
        if let Some(lane) = record.ticket.lane.take_if(|_| leaves) {
            self.lanes.leave(lane);
        }
        record.call.attempt += 1;
        self.ledger.retry_at(record.ticket.token, due);
        self.later.push(due, Later::Attempt(record));
    }

    /// Others have changed the state that it was handled on: nobody is at fault, and each
    /// time somebody has got on, so it costs it no attempt and cannot go on for ever.
    fn stale(&mut self, record: Record, reason: &str) {
        self.subscription.stats.state_conflicts.inc();
        let event = record.delivered().id();
        tracing::debug!(plugin = self.subscription.config.name, event, reason, "handling it again");
        self.defer(record);
    }

    fn defer(&mut self, mut record: Record) {
        // as if it had not been begun: its age does not count either
        if record.call.attempt == 1 {
            record.ticket.first_attempt = None;
        }
        self.lanes.again(record.ticket.age, record);
    }

    fn take_settled(
        &mut self,
        mut batch: Finished,
        result: Result<(), SourceError>,
    ) -> Result<(), SourceError> {
        match result {
            Ok(()) => {
                self.found_broker();
                batch.lanes().for_each(|lane| self.lanes.leave(lane));
                let unmarked = batch.settled(&mut self.ledger, &self.subscription.stats);
                if !unmarked.is_empty() {
                    self.unmarked += unmarked.len();
                    let subscription = self.subscription.clone();
                    self.attempts.spawn(unmarked.len(), |way| subscription.remember(unmarked, way));
                }
                return Ok(());
            }
            Err(SourceError::Unavailable(reason)) => self.lost_broker(&reason),
            Err(gone @ (SourceError::Fatal(_) | SourceError::Fenced(_))) => return Err(gone),
            Err(
                ref
                error @ (SourceError::Rejected { token, .. } | SourceError::Stale { token, .. }),
            ) => {
                let reason = error.to_string();
                let Some((record, ending)) = batch.remove(token) else {
                    let reason =
                        format!("the source refused a delivery that was not settled: {reason}");
                    return Err(SourceError::Fatal(reason));
                };
                match error {
                    // a drain leaves it to the next owner
                    SourceError::Stale { .. } if self.stop.phase().deadline().is_some() => {}
                    SourceError::Stale { .. } => self.stale(record, &reason),
                    _ => self.take_refused(record, ending, reason),
                }
            }
        }
        // none of the batch is settled: it goes first the next time, in its order
        batch.append(std::mem::take(&mut self.finished));
        self.finished = batch;
        Ok(())
    }

    /// The effects of an event were refused, and with them its settlement.
    fn take_refused(&mut self, record: Record, ending: Ending, reason: String) {
        match ending.end {
            End::DeadLettered(_) => {
                // only this one waits: the others are not at fault
                let event = record.delivered().id();
                let complaint = format!("the dead letter of event {event} is refused: {reason}");
                self.health.complain(&complaint, &self.ledger);
                let again = Instant::now() + self.refusals.next();
                self.later.push(again, Later::Settle(record, ending));
            }
            // its topic must not cost it its attempts
            End::Delayed { due, class } => {
                self.attempts.spawn(1, |way| async move {
                    way.report(record, Fate::Retry { due, class }).await;
                });
            }
            End::Handled | End::Skipped | End::Duplicate | End::Dropped(_) => {
                let subscription = self.subscription.clone();
                self.attempts.spawn(1, |way| subscription.refuse(record, reason, way));
            }
        }
    }

    fn enter(&mut self, phase: Phase) {
        if let Phase::Drain(_) = phase {
            // what was not begun is released at the end, but for the events that younger
            // ones have overtaken: a position behind those would repeat finished work
            self.lanes.forget_younger();
            self.attempts.drain();
            for later in self.later.clear() {
                match later {
                    Later::Settle(record, ending) => {
                        self.finished.push(record, ending, self.guarantees);
                    }
                    Later::Attempt(record) if planted(Fault::ShutdownBuries) => {
                        let subscription = self.subscription.clone();
                        let why = "the attempt was cancelled".into();
                        self.attempts.spawn(1, |way| subscription.refuse(record, why, way));
                    }
                    Later::Attempt(_) | Later::Admit(_) => {}
                }
            }
        }
    }

    /// Does what is due.
    async fn ring(&mut self) {
        let now = Instant::now();
        while let Some(due) = self.later.pop(now) {
            match due {
                Later::Attempt(record) => {
                    self.lanes.again(record.ticket.age, record);
                }
                Later::Admit(record) => {
                    let (lane, age) = (record.ticket.lane.clone(), record.ticket.age);
                    self.lanes.admit(lane, age, record);
                }
                Later::Settle(record, ending) => {
                    self.finished.push(record, ending, self.guarantees);
                }
            }
        }
        self.health.tick(now, &self.ledger);
        if self.stop.phase().is_late() && !self.attempts.is_aborted() {
            self.abort().await;
        }
    }

    fn lost_broker(&mut self, reason: &str) {
        self.port.back_off();
        self.health.complain(reason, &self.ledger);
    }

    fn found_broker(&mut self) {
        self.port.alive();
        let refused = |later: &Later| matches!(later, Later::Settle(..));
        if self.health.is_away() && !self.later.iter().any(refused) {
            self.health.recovered(&self.ledger);
            self.refusals.reset();
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
        if let Err(error) = self.port.release(&releases, &mut self.stop).await {
            // unsaid is as good: what is not settled is delivered again
            tracing::debug!(partition = %self.id, %error, "could not release events early");
        }
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        self.subscription.stats.in_flight.dec_by(self.ledger.len() as i64);
        if let Some(halted) = &self.subscription.halted {
            halted.forget(&self.id);
        }
    }
}
