//! What follows a failed attempt: another one, now or through a topic, or a burial.

use std::time::Duration;

use sandbar_core::{ErrorClass, HandlerError, Verdict};
use tokio::{join, time::Instant};

use crate::{
    DeadLetterConfig, OnExhausted, Parcel, Reason, RetryDecision, RetryTier, Subscription,
    attempt::{End, Ending, Fate, Record},
    attempts::Way,
    dead_letter::{self, Failure},
    faults::{Fault, planted},
    leaving::Departure,
};

/// What follows a failed attempt.
enum Next<'a> {
    Report(Fate),
    End(End),
    /// Its next attempt comes through a topic (contract R5).
    Delay {
        through: &'a RetryTier,
        after: Duration,
    },
    Bury(&'a DeadLetterConfig),
}

impl Subscription {
    /// Decides what follows failed attempts, and sees to it.
    pub(crate) async fn fail(&self, failed: Vec<(Record, HandlerError)>, way: &Way) {
        let (mut buried, mut delayed) = (Departure::default(), Departure::default());
        for (mut record, error) in failed {
            let now_ms = self.now_ms();
            if !matches!(error.verdict, Verdict::Defer { .. }) {
                record.ticket.first_failed_ms.get_or_insert(now_ms);
            }
            match self.next(&record, &error) {
                Next::Report(fate) => way.report(record, fate).await,
                Next::End(end) => {
                    self.depart(&mut buried, record, Ending::of(end), Vec::new(), way);
                }
                Next::Delay { through, after } => {
                    let parcel = self.parcel(&record, after, now_ms).record(through.topic.clone());
                    let due = Instant::now() + after;
                    let ending = Ending::of(End::Delayed { due, class: error.class });
                    let to = (&self.outputs.own, parcel);
                    self.depart_to(&mut delayed, record, ending, to, None, way);
                }
                Next::Bury(to) => {
                    let letter = self.letter(&record, &error, to, now_ms);
                    // nobody knows whose key that of a damaged parcel is, and what is blocked
                    // has waited until its key was halted
                    let halts = !record.ticket.is_damaged() && error.class != ErrorClass::Blocked;
                    let halted = self.halted.as_ref().filter(|_| halts);
                    let note = halted.and_then(|h| h.halt(&way.partition, record.delivered()));
                    let ending = Ending::of(End::DeadLettered(error.class));
                    let to = &self.outputs.dead_letters;
                    self.depart_to(&mut buried, record, ending, (to, letter), note, way);
                }
            }
        }
        // a refused dead letter is held back, so nothing is ever handed out again
        let (_, refused) =
            join!(self.publish(buried, true, way), self.publish(delayed, false, way));
        for (record, ending, reason) in refused {
            self.wait_in_memory(record, &ending, &reason, way).await;
        }
    }

    fn next(&self, record: &Record, error: &HandlerError) -> Next<'_> {
        match error.verdict {
            Verdict::Skip => return Next::End(End::Skipped),
            Verdict::Defer { .. } => {
                self.stats.deferred.inc();
                return Next::Report(Fate::Defer);
            }
            Verdict::Reject => {}
            Verdict::Retry { after: hint } => {
                let random = (self.services.environment.random)();
                let attempt = record.call.attempt;
                let decision = self.config.retry.next(attempt, record.age(), hint, random);
                if let RetryDecision::Retry { after } = decision {
                    if planted(Fault::RetrySettled) {
                        return Next::End(End::Skipped);
                    }
                    let after = if planted(Fault::RetryEarly) { Duration::ZERO } else { after };
                    let fits = |tier: &&RetryTier| tier.delay <= after;
                    return match self.config.retry_tiers.iter().rfind(fits) {
                        Some(through) => Next::Delay { through, after },
                        None => {
                            let due = Instant::now() + after;
                            Next::Report(Fate::Retry { due, class: error.class })
                        }
                    };
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
                Next::End(End::Dropped(error.class))
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

    /// `record` as a parcel to this group, for the attempt after the one that failed.
    fn parcel(&self, record: &Record, after: Duration, now_ms: u64) -> Parcel {
        let ms = |d: Duration| u64::try_from(d.as_millis()).unwrap_or(u64::MAX);
        Parcel {
            to: self.config.group.clone(),
            reason: Reason::Retry,
            attempt: record.call.attempt.saturating_add(1),
            redrives: record.ticket.parcel.as_ref().map_or(0, |p| p.redrives),
            first_failed_ms: record.ticket.first_failed_ms.unwrap_or(now_ms),
            began_ms: Some(now_ms.saturating_sub(ms(record.age()))),
            // never early, although both are cut to whole milliseconds
            due_ms: now_ms.saturating_add(ms(after)).saturating_add(1),
            event: record.delivered().clone(),
        }
    }

    /// A topic that does not take a retry must not cost the event its attempts.
    async fn wait_in_memory(&self, record: Record, ending: &Ending, reason: &str, way: &Way) {
        if let End::Delayed { due, class } = ending.end {
            tracing::warn!(
                plugin = self.config.name,
                event = record.delivered().id(),
                reason,
                "a retry waits in memory, because its topic refuses it"
            );
            way.report(record, Fate::Retry { due, class }).await;
        }
    }

    fn letter(
        &self,
        record: &Record,
        error: &HandlerError,
        to: &DeadLetterConfig,
        now_ms: u64,
    ) -> sandbar_core::Outgoing {
        let ticket = &record.ticket;
        let failure = Failure {
            error,
            plugin: &self.config.name,
            by: ticket.by.as_deref(),
            group: &self.config.group,
            attempts: match error.class {
                ErrorClass::Blocked => record.call.attempt - 1,
                _ => record.call.attempt,
            },
            redeliveries: ticket.redeliveries,
            redrives: ticket.parcel.as_ref().map_or(0, |p| p.redrives),
            blocked_by: ticket.blocked_by.as_deref(),
            first_failed_ms: ticket.first_failed_ms.unwrap_or(now_ms),
            now_ms,
        };
        dead_letter::envelope(record.delivered(), &failure, to)
    }
}
