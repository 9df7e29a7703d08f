//! One attempt, top to bottom: decoded, handled, judged, published or buried.

use std::sync::Arc;

use parking_lot::Mutex;
use sandbar_core::{
    Call, ErrorClass, Handler, HandlerError, Outcome, Outgoing, Verdict, cloudevents,
};
use tokio::{
    join,
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::{Instant, sleep},
};

use crate::{
    DeadLetterConfig, Environment, OnExhausted, Outputs, RetryDecision, SubscriptionConfig,
    SubscriptionStats,
    attempt::{End, Fate, Record, Report, guarded},
    backoff::{Backoff, Throttle},
    dead_letter::{self, Failure},
    gate::{Gate, Probe},
    outbox::Outbox,
    topics,
};

/// A plugin bound to its settings and outputs: what partitions hand their events to.
pub struct Subscription {
    pub(crate) config: SubscriptionConfig,
    pub(crate) handler: Arc<dyn Handler>,
    outputs: Outputs,
    pub(crate) stats: Arc<SubscriptionStats>,
    environment: Environment,
    pub(crate) gate: Arc<Gate>,
    /// One permit per handler call that may run.
    pub(crate) workers: Arc<Semaphore>,
    held_back: Mutex<Throttle>,
}

/// Where an attempt reports to, and what it may leave to the settlement.
#[derive(Clone)]
pub(crate) struct Way {
    pub reports: mpsc::Sender<Report>,
    /// Whether the source writes effects in one step with the acknowledgement.
    pub atomic: bool,
}

/// The right to call the handler once, and to probe with it.
pub(crate) struct Turn {
    pub _worker: OwnedSemaphorePermit,
    pub _probe: Option<Probe>,
}

/// An event whose handling is over but for the publishing.
struct Leaving {
    record: Record,
    end: End,
    /// Left to the settlement.
    effects: Vec<Outgoing>,
}

impl Subscription {
    /// A subscription that lives in real time.
    pub fn new(
        config: SubscriptionConfig,
        handler: Arc<dyn Handler>,
        outputs: Outputs,
        stats: Arc<SubscriptionStats>,
    ) -> Arc<Self> {
        Self::with_environment(config, handler, outputs, stats, Environment::default())
    }

    /// The same with the time of day and chance handed in.
    pub fn with_environment(
        config: SubscriptionConfig,
        handler: Arc<dyn Handler>,
        outputs: Outputs,
        stats: Arc<SubscriptionStats>,
        environment: Environment,
    ) -> Arc<Self> {
        let gate = Gate::new(config.breaker, stats.clone());
        let workers = Arc::new(Semaphore::new(config.concurrency.clamp(1, Semaphore::MAX_PERMITS)));
        let held_back = Mutex::default();
        Arc::new(Self { config, handler, outputs, stats, environment, gate, workers, held_back })
    }

    /// Its settings.
    pub fn config(&self) -> &SubscriptionConfig {
        &self.config
    }

    /// Its counters.
    pub fn stats(&self) -> &Arc<SubscriptionStats> {
        &self.stats
    }

    /// Makes one attempt at each of `records`, of which no two share a lane, and
    /// reports on each as soon as its fate is known.
    pub(crate) async fn process(self: Arc<Self>, records: Vec<Record>, turn: Turn, way: Way) {
        let mut failed = Vec::new();
        let records = decode(records, &mut failed);

        let (calls, tickets): (Vec<Call>, Vec<_>) =
            records.into_iter().map(|r| (r.call, r.ticket)).unzip();
        let outcomes = if calls.is_empty() { Vec::new() } else { self.handle(&calls).await };
        // another event may have the worker while this one's outputs are written
        drop(turn);

        let mut leaving = Vec::new();
        let mut outbox = Outbox::default();
        let records = calls.into_iter().zip(tickets).map(|(call, ticket)| Record { call, ticket });
        for (mut record, (by, outcome)) in records.zip(outcomes) {
            record.ticket.by = by;
            match outcome.and_then(|outputs| self.check(outputs)) {
                Ok(outputs) => {
                    let effects = self.address(outputs, leaving.len(), &mut outbox, &way);
                    leaving.push(Leaving { record, end: End::Handled, effects });
                }
                Err(error) => failed.push((record, error)),
            }
        }
        // side by side: a sink that is away holds back its own events alone
        let (refused, ()) =
            join!(self.publish(leaving, outbox, false, &way), self.fail(failed, &way));
        let refused = refused.into_iter().map(|(record, reason)| (record, output_error(reason)));
        self.fail(refused.collect(), &way).await;
    }

    /// Gives up an event whose effects the source refused while settling it.
    pub(crate) async fn refuse(self: Arc<Self>, record: Record, reason: String, way: Way) {
        self.fail(vec![(record, output_error(reason))], &way).await;
    }

    /// Calls the handler and tells the gate how that went.
    async fn handle(&self, calls: &[Call]) -> Vec<(Option<Arc<sandbar_core::HandledBy>>, Outcome)> {
        let began = Instant::now();
        let answer = guarded(self.handler.handle(calls)).await;
        self.stats.process_duration.observe(began.elapsed().as_secs_f64());
        let host_error = |message: String| {
            let error =
                HandlerError::new(ErrorClass::Host, Verdict::Retry { after: None }, message);
            vec![(None, Err(error)); calls.len()]
        };
        let outcomes = match answer {
            Ok(outcomes) if outcomes.results.len() == calls.len() => {
                outcomes.results.into_iter().map(|r| (Some(outcomes.by.clone()), r)).collect()
            }
            Ok(outcomes) => host_error(format!(
                "the handler answered for {} of {} events",
                outcomes.results.len(),
                calls.len()
            )),
            Err(panic) => host_error(format!("the handler panicked: {panic}")),
        };
        for (_, outcome) in &outcomes {
            match outcome.as_ref().map_err(|e| e.verdict) {
                Ok(_) | Err(Verdict::Skip | Verdict::Reject) => self.gate.answered(),
                Err(Verdict::Retry { .. }) => self.gate.failed(),
                Err(Verdict::Defer { pause }) => self.gate.deferred(pause),
            }
        }
        outcomes
    }

    /// Refuses outputs that the plugin was not granted.
    fn check(&self, outputs: Vec<Outgoing>) -> Outcome {
        for output in &outputs {
            let connection = output.connection.as_deref();
            let complaint = if self.outputs.find(connection).is_none() {
                format!(
                    "publishing to connection `{}` is not granted",
                    connection.unwrap_or_default()
                )
            } else if !self.config.allow.iter().any(|glob| topics::matches(glob, &output.topic)) {
                format!(
                    "publishing to topic `{}` is not allowed: add it to `publish` of plugin `{}`",
                    output.topic, self.config.name
                )
            } else {
                continue;
            };
            return Err(HandlerError::new(ErrorClass::Denied, Verdict::Reject, complaint));
        }
        Ok(outputs)
    }

    /// Puts outputs into the outbox, and returns those that the settlement will
    /// write in one step with the acknowledgement.
    fn address(
        &self,
        outputs: Vec<Outgoing>,
        owner: usize,
        outbox: &mut Outbox,
        way: &Way,
    ) -> Vec<Outgoing> {
        // `check` has seen that the connection exists
        let output = |r: &Outgoing| {
            self.outputs.find(r.connection.as_deref()).unwrap_or(&self.outputs.default)
        };
        let stays = |r: &Outgoing| way.atomic && output(r).connection == self.config.connection;
        if outputs.iter().all(stays) {
            return outputs;
        }
        let mut effects = Vec::new();
        for record in outputs {
            let output = output(&record);
            if way.atomic && output.connection == self.config.connection {
                effects.push(record);
            } else {
                outbox.push(output, owner, record);
            }
        }
        effects
    }

    /// Publishes until everything is durable, reporting each event as soon as all of
    /// its own is. While a broker is away this holds back: nothing is acknowledged and
    /// nothing dropped (contract D1). Returns the events whose outputs were refused.
    async fn publish(
        &self,
        leaving: Vec<Leaving>,
        mut outbox: Outbox,
        dead_letters: bool,
        way: &Way,
    ) -> Vec<(Record, String)> {
        let mut refused = Vec::new();
        let mut leaving: Vec<_> = leaving.into_iter().map(Some).collect();
        let mut backoff = Backoff::default();
        loop {
            let round = outbox.round(dead_letters).await;
            if !dead_letters {
                self.stats.published.inc_by(round.published);
            }
            for (owner, reason) in round.rejected {
                refused.extend(leaving[owner].take().map(|l| (l.record, reason)));
            }
            let owing = outbox.owing();
            for (owner, slot) in leaving.iter_mut().enumerate() {
                if !owing.get(owner).copied().unwrap_or(false)
                    && let Some(Leaving { record, end, effects }) = slot.take()
                {
                    way.report(record, Fate::Done { end, effects }).await;
                }
            }
            let Some(reason) = round.unavailable else { return refused };
            let waiting = leaving.iter().flatten().count();
            if let Some(held) = self.held_back.lock().due() {
                tracing::warn!(
                    plugin = self.config.name,
                    events = waiting,
                    held_lines = held,
                    reason,
                    "holding events back until the broker takes their outputs"
                );
            }
            let _held = self.stats.hold_back(waiting, reason);
            sleep(backoff.next()).await;
        }
    }

    /// Decides what follows a failed attempt, and buries what is given up.
    async fn fail(&self, failed: Vec<(Record, HandlerError)>, way: &Way) {
        let mut leaving = Vec::new();
        let mut outbox = Outbox::default();
        for (mut record, error) in failed {
            let now_ms = (self.environment.wall_ms)();
            if !matches!(error.verdict, Verdict::Defer { .. }) {
                record.ticket.first_failed_ms.get_or_insert(now_ms);
            }
            match self.verdict(&record, &error) {
                Next::Report(fate) => way.report(record, fate).await,
                Next::Bury(to) => {
                    let failure = Failure {
                        error: &error,
                        plugin: &self.config.name,
                        by: record.ticket.by.as_deref(),
                        group: &self.config.group,
                        attempts: record.call.attempt,
                        redeliveries: record.ticket.redeliveries,
                        first_failed_ms: record.ticket.first_failed_ms.unwrap_or(now_ms),
                        now_ms,
                    };
                    let letter = dead_letter::envelope(record.delivered(), &failure, to);
                    let end = End::DeadLettered(error.class);
                    let output = &self.outputs.dead_letters;
                    let effects = if way.atomic && output.connection == self.config.connection {
                        vec![letter]
                    } else {
                        outbox.push(output, leaving.len(), letter);
                        Vec::new()
                    };
                    leaving.push(Leaving { record, end, effects });
                }
            }
        }
        // a refused dead letter is held back, so nothing is ever handed out again
        self.publish(leaving, outbox, true, way).await;
    }

    fn verdict(&self, record: &Record, error: &HandlerError) -> Next<'_> {
        match error.verdict {
            Verdict::Skip => {
                return Next::Report(Fate::Done { end: End::Skipped, effects: Vec::new() });
            }
            Verdict::Defer { .. } => return Next::Report(Fate::Defer),
            Verdict::Reject => {}
            Verdict::Retry { after: hint } => {
                let age =
                    record.ticket.first_attempt.map_or_else(Default::default, |at| at.elapsed());
                let random = (self.environment.random)();
                let decision = self.config.retry.next(record.call.attempt, age, hint, random);
                if let RetryDecision::Retry { after } = decision {
                    return Next::Report(Fate::Retry { after, class: error.class });
                }
            }
        }
        match (self.config.exhausted, &self.config.dead_letter) {
            (OnExhausted::DeadLetter, Some(to)) => Next::Bury(to),
            (OnExhausted::Drop, _) => {
                tracing::warn!(
                    plugin = self.config.name, event = record.delivered().id(), class = %error.class,
                    error = error.message, "dropping a failed event, as `on-exhausted` says"
                );
                Next::Report(Fate::Done { end: End::Dropped(error.class), effects: Vec::new() })
            }
            (OnExhausted::Halt, _) | (OnExhausted::DeadLetter, None) => {
                let event = record.delivered().id();
                let attempt = record.call.attempt;
                Next::Report(Fate::Halt {
                    reason: format!("event {event}, attempt {attempt}: {error}"),
                })
            }
        }
    }
}

/// What follows a failed attempt.
enum Next<'a> {
    Report(Fate),
    Bury(&'a DeadLetterConfig),
}

impl Way {
    async fn report(&self, record: Record, fate: Fate) {
        // the loop only goes away when it has given up all of its events
        let _ = self.reports.send(Report { record, fate }).await;
    }
}

/// Decodes events in CloudEvents' structured mode, once. Those that cannot be
/// decoded go to `failed` as they are (contract D6).
fn decode(records: Vec<Record>, failed: &mut Vec<(Record, HandlerError)>) -> Vec<Record> {
    let decode = |mut record: Record| {
        if record.ticket.raw.is_none() {
            match cloudevents::decode_structured(&record.call.event) {
                Ok(None) => {}
                Ok(Some(event)) => {
                    let raw = std::mem::replace(&mut record.call.event, event);
                    record.ticket.raw = Some(Box::new(raw));
                }
                Err(error) => {
                    let error =
                        HandlerError::new(ErrorClass::Decode, Verdict::Reject, error.to_string());
                    failed.push((record, error));
                    return None;
                }
            }
        }
        Some(record)
    };
    records.into_iter().filter_map(decode).collect()
}

fn output_error(reason: String) -> HandlerError {
    HandlerError::new(ErrorClass::Output, Verdict::Reject, reason)
}
