//! Events whose handling is over, on their way to their settlement: whatever has to be
//! durable before it is made so here, and held back until it is (contract D1).

use sandbar_core::{Mark, Outgoing, StateChanges, StateWrite};
use tokio::time::sleep;

use crate::{
    Output, Subscription,
    attempt::{Ending, Fate, Record, Report},
    attempts::Way,
    backoff::Backoff,
    faults::{Fault, planted},
    outbox::Outbox,
};

/// Events that leave together, and what is to be published before they are settled.
#[derive(Default)]
pub(crate) struct Departure {
    leaving: Vec<Option<Leaving>>,
    outbox: Outbox,
}

impl Departure {
    /// Nothing has to be durable before the events are settled.
    fn is_free(&self) -> bool {
        let settles = |l: &Leaving| matches!(l.then, Then::Settle);
        self.outbox.is_empty() && self.leaving.iter().flatten().all(settles)
    }
}

struct Leaving {
    record: Record,
    ending: Ending,
    then: Then,
}

impl Leaving {
    fn done(self) -> Report {
        Report { record: self.record, fate: Fate::Done(self.ending) }
    }
}

/// What follows when the outputs of an event are durable.
enum Then {
    Settle,
    /// Nobody may handle it again (contract I2).
    Mark(Mark),
    /// Its changes of state are made, and with them its mark where that is due now.
    Write(Box<StateChanges>, Option<Mark>),
    /// Its key waits from now on. Its dead letter is durable first: a key that is halted
    /// by nothing would wait for ever.
    Note(Outgoing),
}

impl Subscription {
    /// Adds an event to `departure`. Its outputs go to the settlement where the source
    /// writes them in one step with the acknowledgement, to the outbox elsewhere.
    pub(crate) fn depart(
        &self,
        departure: &mut Departure,
        record: Record,
        ending: Ending,
        outputs: Vec<Outgoing>,
        way: &Way,
    ) {
        // `check` has seen that the connection exists
        let to = |r: &Outgoing| {
            self.outputs.find(r.connection.as_deref()).unwrap_or(&self.outputs.default)
        };
        if outputs.iter().all(|r| self.is_effect(to(r), way)) {
            return self.depart_with(departure, record, ending, outputs, None, way);
        }
        let mut effects = Vec::new();
        for output in outputs {
            let to = to(&output);
            if self.is_effect(to, way) {
                effects.push(output);
            } else {
                departure.outbox.push(to, departure.leaving.len(), output);
            }
        }
        self.depart_with(departure, record, ending, effects, None, way);
    }

    /// The same with one record for one output, which need not be one of the plugin's, and
    /// perhaps a note to go with it.
    pub(crate) fn depart_to(
        &self,
        departure: &mut Departure,
        record: Record,
        ending: Ending,
        (to, output): (&Output, Outgoing),
        note: Option<Outgoing>,
        way: &Way,
    ) {
        let mut effects = Vec::new();
        if self.is_effect(to, way) {
            effects.push(output);
        } else {
            departure.outbox.push(to, departure.leaving.len(), output);
        }
        self.depart_with(departure, record, ending, effects, note, way);
    }

    fn depart_with(
        &self,
        departure: &mut Departure,
        record: Record,
        mut ending: Ending,
        effects: Vec<Outgoing>,
        note: Option<Outgoing>,
        way: &Way,
    ) {
        ending.effects = effects;
        let mut then = Then::Settle;
        match note {
            Some(note) if self.is_effect(&self.outputs.own, way) => ending.effects.push(note),
            Some(note) => then = Then::Note(note),
            None => {}
        }
        if let (Some(claim), Some(dedup), true) =
            (&record.ticket.claim, &self.dedup, ending.end.is_marked())
        {
            let mark = dedup.mark_of(claim, self.now_ms());
            if way.guarantees.atomic_effects || way.guarantees.atomic_marks {
                ending.mark = Some(mark);
            } else {
                // before its outputs are durable it would lose them
                then = Then::Mark(mark);
            }
        }
        if !way.guarantees.atomic_state
            && let Some(changes) = ending.state.take()
        {
            let mark = if let Then::Mark(mark) = then { Some(mark) } else { None };
            then = Then::Write(changes, mark);
        }
        departure.leaving.push(Some(Leaving { record, ending, then }));
    }

    fn is_effect(&self, to: &Output, way: &Way) -> bool {
        way.guarantees.atomic_effects && to.connection == self.config.connection
    }

    /// Publishes until everything is durable, reporting each event as soon as all of
    /// its own is. While a broker is away this holds back: nothing is acknowledged and
    /// nothing dropped (contract D1). With `hold_refused` the same goes for what a broker
    /// refuses; otherwise returns such events, how they were to end, and why not.
    pub(crate) async fn publish(
        &self,
        departure: Departure,
        hold_refused: bool,
        way: &Way,
    ) -> Vec<(Record, Ending, String)> {
        if departure.is_free() {
            let leaving = departure.leaving.into_iter().flatten();
            way.report_all(leaving.map(Leaving::done).collect()).await;
            return Vec::new();
        }
        // in a box: where outputs are part of the settlement nothing comes this way
        Box::pin(self.publish_first(departure, hold_refused, way)).await
    }

    async fn publish_first(
        &self,
        departure: Departure,
        hold_refused: bool,
        way: &Way,
    ) -> Vec<(Record, Ending, String)> {
        let Departure { mut leaving, mut outbox } = departure;
        let mut refused = Vec::new();
        let mut backoff = Backoff::default();
        loop {
            let round = outbox.round(hold_refused).await;
            let mut away = round.unavailable;
            for (owner, reason) in round.rejected {
                refused.extend(leaving[owner].take().map(|l| (l.record, l.ending, reason)));
            }
            let owing = outbox.owing();
            let (mut settled, mut marking, mut writing) = (Vec::new(), Vec::new(), Vec::new());
            for (owner, slot) in leaving.iter_mut().enumerate() {
                let owes = owing.get(owner).copied().unwrap_or(false);
                if owes && !planted(Fault::OutputsNotAwaited) {
                    continue;
                }
                match slot.as_mut().map(|l| std::mem::replace(&mut l.then, Then::Settle)) {
                    None => {}
                    Some(Then::Settle) => settled.extend(slot.take().map(Leaving::done)),
                    Some(Then::Mark(mark)) => marking.push((owner, mark)),
                    Some(Then::Write(changes, mark)) => {
                        writing.push((owner, StateWrite { changes: *changes, mark }));
                    }
                    Some(Then::Note(note)) => outbox.push(&self.outputs.own, owner, note),
                }
            }
            way.report_all(settled).await;
            let marks: Vec<_> = marking.iter().map(|(_, mark)| mark.clone()).collect();
            match self.write_marks(&marks).await {
                Ok(()) => {
                    let marked = marking.iter().filter_map(|(owner, _)| leaving[*owner].take());
                    way.report_all(marked.map(Leaving::done).collect()).await;
                }
                Err(reason) => {
                    for (owner, mark) in marking {
                        leaving[owner].iter_mut().for_each(|l| l.then = Then::Mark(mark.clone()));
                    }
                    away = Some(reason);
                }
            }
            if let Err(reason) = self.write_state(writing, &mut leaving, way).await {
                away = Some(reason);
            }
            let waiting = leaving.iter().flatten().count();
            match away {
                Some(reason) => self.hold_back(waiting, reason, &mut backoff).await,
                None if waiting == 0 => return refused,
                // notes are to be written
                None => {}
            }
        }
    }

    /// Makes changes of state durable and reports their events, or leaves them as they are
    /// and says why it cannot.
    async fn write_state(
        &self,
        writing: Vec<(usize, StateWrite)>,
        leaving: &mut [Option<Leaving>],
        way: &Way,
    ) -> Result<(), String> {
        if writing.is_empty() {
            return Ok(());
        }
        let (owners, writes): (Vec<usize>, Vec<_>) = writing.into_iter().unzip();
        match self.services.write_state(&self.config.group, &writes).await {
            Ok(answers) => {
                let fates = owners.into_iter().zip(answers).filter_map(|(owner, answer)| {
                    let Leaving { record, ending, .. } = leaving[owner].take()?;
                    let fate = match answer {
                        Ok(()) => Fate::Done(ending),
                        Err(reason) => Fate::Stale { reason },
                    };
                    Some(Report { record, fate })
                });
                way.report_all(fates.collect()).await;
                Ok(())
            }
            Err(error) => {
                for (owner, StateWrite { changes, mark }) in owners.into_iter().zip(writes) {
                    if let Some(waits) = &mut leaving[owner] {
                        waits.then = Then::Write(Box::new(changes), mark);
                    }
                }
                Err(error.to_string())
            }
        }
    }

    /// Makes `marks` durable, or says why it cannot.
    pub(crate) async fn write_marks(&self, marks: &[Mark]) -> Result<(), String> {
        match &self.dedup {
            Some(dedup) if !marks.is_empty() => dedup.mark(marks).await.map_err(|e| e.to_string()),
            _ => Ok(()),
        }
    }

    /// Waits, with `events` counted as held back for `reason`.
    pub(crate) async fn hold_back(&self, events: usize, reason: String, backoff: &mut Backoff) {
        if let Some(held) = self.log.lock().due() {
            tracing::warn!(
                plugin = self.config.name,
                events,
                held_lines = held,
                reason,
                "holding events back until what they depend on is there again"
            );
        }
        let _held = self.stats.hold_back(events, reason);
        sleep(backoff.next()).await;
    }
}
