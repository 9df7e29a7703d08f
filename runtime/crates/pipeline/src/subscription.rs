//! One attempt, top to bottom: decoded, handled, judged. What follows is in `leaving.rs`
//! for what is published and in `failing.rs` for what went wrong.

use std::{convert::Infallible, sync::Arc};

use parking_lot::Mutex;
use sandbar_core::{
    Call, ErrorClass, Handled, HandledBy, Handler, HandlerError, Outcome, Verdict, cloudevents,
};
use tokio::{
    join,
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

use crate::{
    Outputs, Services, SubscriptionConfig, SubscriptionStats,
    attempt::{End, Ending, Record, guarded},
    attempts::Way,
    backoff::Throttle,
    dedup::Dedup,
    gate::{Gate, Probe},
    halted::HaltedKeys,
    leaving::Departure,
};

/// A plugin bound to its settings and outputs: what partitions hand their events to.
pub struct Subscription {
    pub(crate) config: SubscriptionConfig,
    pub(crate) handler: Arc<dyn Handler>,
    pub(crate) outputs: Outputs,
    pub(crate) stats: Arc<SubscriptionStats>,
    pub(crate) services: Services,
    pub(crate) gate: Arc<Gate>,
    /// Present where handled events are remembered.
    pub(crate) dedup: Option<Arc<Dedup>>,
    /// Present where dead letters halt their keys.
    pub(crate) halted: Option<HaltedKeys>,
    /// One permit per handler call that may run.
    pub(crate) workers: Arc<Semaphore>,
    /// Lines on events that are held back.
    pub(crate) log: Mutex<Throttle>,
}

/// The right to call the handler once, and to probe with it.
pub(crate) struct Turn {
    pub _worker: OwnedSemaphorePermit,
    pub _probe: Option<Probe>,
}

impl Subscription {
    /// A subscription that lives in real time and uses no services.
    pub fn new(
        config: SubscriptionConfig,
        handler: Arc<dyn Handler>,
        outputs: Outputs,
        stats: Arc<SubscriptionStats>,
    ) -> Arc<Self> {
        Self::with_services(config, handler, outputs, stats, Services::default())
    }

    /// The same with what some settings need besides. [`run`](crate::run) says what is missing.
    pub fn with_services(
        mut config: SubscriptionConfig,
        handler: Arc<dyn Handler>,
        outputs: Outputs,
        stats: Arc<SubscriptionStats>,
        services: Services,
    ) -> Arc<Self> {
        config.retry_tiers.sort_by_key(|tier| tier.delay);
        let gate = Gate::new(config.breaker, stats.clone());
        let marks = config.dedup.zip(services.marks.clone());
        let dedup =
            marks.map(|(window, marks)| Arc::new(Dedup::new(marks, config.group.clone(), window)));
        let connection = services.connection.clone().filter(|_| config.halts_keys());
        let halted = connection.map(|c| HaltedKeys::new(c, config.halted(), stats.clone()));
        let workers = Arc::new(Semaphore::new(config.concurrency.clamp(1, Semaphore::MAX_PERMITS)));
        let log = Mutex::default();
        Arc::new(Self {
            config,
            handler,
            outputs,
            stats,
            services,
            gate,
            dedup,
            halted,
            workers,
            log,
        })
    }

    /// Its settings.
    pub fn config(&self) -> &SubscriptionConfig {
        &self.config
    }

    /// Its counters.
    pub fn stats(&self) -> &Arc<SubscriptionStats> {
        &self.stats
    }

    /// Keeps up with which keys are halted, where dead letters do that.
    pub(crate) async fn follow_halted_keys(&self) -> Infallible {
        match &self.halted {
            Some(halted) => halted.follow().await,
            None => std::future::pending().await,
        }
    }

    /// The time of day, milliseconds since the Unix epoch.
    pub(crate) fn now_ms(&self) -> u64 {
        (self.services.environment.wall_ms)()
    }

    /// Makes one attempt at each of `records`, of which no two share a lane, and
    /// reports on each as soon as its fate is known.
    pub(crate) async fn process(self: Arc<Self>, records: Vec<Record>, turn: Turn, way: Way) {
        let mut failed = Vec::new();
        let decoded = if self.config.internal { records } else { decode(records, &mut failed) };
        let records = self.unblocked(decoded, &mut failed);

        let outcomes = if records.is_empty() { Vec::new() } else { self.handle(&records).await };
        // another event may have the worker while this one's outputs are written
        drop(turn);

        let mut handled = Departure::default();
        for (mut record, (by, outcome)) in records.into_iter().zip(outcomes) {
            record.ticket.by = by;
            match outcome.and_then(|handled| self.check(handled)) {
                Ok(Handled { mut outputs, state }) => {
                    // what passes an event on does not cause it
                    if !self.config.internal {
                        cloudevents::trace_back(&record.call.event, &mut outputs);
                    }
                    let outputs_made = outputs.len();
                    let ending =
                        Ending { outputs: outputs_made, state, ..Ending::of(End::Handled) };
                    self.depart(&mut handled, record, ending, outputs, &way);
                }
                Err(error) => failed.push((record, error)),
            }
        }
        let refused = if failed.is_empty() {
            self.publish(handled, false, &way).await
        } else {
            // side by side: a sink that is away holds back its own events alone
            let both =
                async { join!(self.publish(handled, false, &way), self.fail(failed, &way)).0 };
            // in a box: what is rare must not make every attempt large
            Box::pin(both).await
        };
        if !refused.is_empty() {
            let errors = refused.into_iter().map(|(r, _, reason)| (r, output_error(reason)));
            Box::pin(self.fail(errors.collect(), &way)).await;
        }
    }

    /// Gives up an event whose effects the source refused while settling it.
    pub(crate) async fn refuse(self: Arc<Self>, record: Record, reason: String, way: Way) {
        self.fail(vec![(record, output_error(reason))], &way).await;
    }

    /// Keeps back events that have to follow a dead letter (contract O4).
    fn unblocked(
        &self,
        records: Vec<Record>,
        failed: &mut Vec<(Record, HandlerError)>,
    ) -> Vec<Record> {
        let Some(halted) = &self.halted else { return records };
        let pass = |mut record: Record| {
            // what an operator has sent again is to get through
            let redriven = record.ticket.parcel.as_ref().is_some_and(|p| p.redriven);
            let blocked_by = halted.ahead_of(record.delivered()).filter(|_| !redriven);
            let Some(location) = blocked_by else { return Some(record) };
            let message =
                format!("not attempted: its key waits behind the dead letter of {location}");
            record.ticket.blocked_by = Some(location);
            failed.push((record, HandlerError::new(ErrorClass::Blocked, Verdict::Reject, message)));
            None
        };
        records.into_iter().filter_map(pass).collect()
    }

    /// Calls the handler and tells the gate how that went.
    async fn handle(&self, records: &[Record]) -> Vec<(Option<Arc<HandledBy>>, Outcome)> {
        let calls: Vec<&Call> = records.iter().map(|record| &record.call).collect();
        let began = Instant::now();
        let answer = guarded(self.handler.handle(&calls)).await;
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
    fn check(&self, handled: Handled) -> Outcome {
        let allow = if self.config.internal { None } else { Some(&*self.config.allow) };
        match handled.outputs.iter().find_map(|o| self.outputs.denial(allow, o)) {
            None => Ok(handled),
            Some(denial) => {
                let complaint = denial.complaint(&self.config.name);
                Err(HandlerError::new(ErrorClass::Denied, Verdict::Reject, complaint))
            }
        }
    }
}

/// Refuses a topic that is not among those that `plugin` may publish to.
///
/// # Errors
/// What becomes of the event whose output it is.
pub fn check_topic(plugin: &str, allow: &[String], topic: &str) -> Result<(), HandlerError> {
    if allow.iter().any(|glob| crate::topic_matches(glob, topic)) {
        return Ok(());
    }
    let complaint = crate::outbox::Denial::Topic(topic).complaint(plugin);
    Err(HandlerError::new(ErrorClass::Denied, Verdict::Reject, complaint))
}

/// Decodes events in CloudEvents' structured mode, once. Those that cannot be
/// decoded go to `failed` as they are (contract D6).
pub(crate) fn decode(
    records: Vec<Record>,
    failed: &mut Vec<(Record, HandlerError)>,
) -> Vec<Record> {
    let decode = |mut record: Record| match decode_one(&mut record) {
        Ok(()) => Some(record),
        Err(reason) => {
            let error = HandlerError::new(ErrorClass::Decode, Verdict::Reject, reason);
            failed.push((record, error));
            None
        }
    };
    records.into_iter().filter_map(decode).collect()
}

fn decode_one(record: &mut Record) -> Result<(), String> {
    if let Some(damage) = record.ticket.parcel.as_ref().and_then(|p| p.damage.as_ref()) {
        return Err(damage.clone());
    }
    if record.ticket.raw.is_some() {
        return Ok(());
    }
    if let Some(event) =
        cloudevents::decode_structured(&record.call.event).map_err(|e| e.to_string())?
    {
        let raw = std::mem::replace(&mut record.call.event, event);
        record.ticket.raw = Some(Box::new(raw));
    }
    Ok(())
}

fn output_error(reason: String) -> HandlerError {
    HandlerError::new(ErrorClass::Output, Verdict::Reject, reason)
}
