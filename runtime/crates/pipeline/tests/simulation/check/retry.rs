//! R1 to R7. R8 is in `gate.rs`.

use std::time::Duration;

use sandbar_pipeline::{OnExhausted, Reason, State as Condition};

use super::{
    Violation,
    facts::{Facts, Policy},
};
use crate::trace::{Answer, CallNo, PlaceKind, PluginNo, RecordNo, What};

/// Consecutive attempts at one event in one assignment.
fn pairs<'a>(facts: &'a Facts<'_>) -> impl Iterator<Item = (CallNo, CallNo)> + 'a {
    facts.attempts.values().flat_map(|calls| calls.windows(2).map(|pair| (pair[0], pair[1])))
}

/// A retry never starts before it is due, however it comes.
pub fn r1(facts: &Facts<'_>) -> Vec<Violation> {
    let mut found = Vec::new();
    for (last, next) in pairs(facts) {
        let Some((at, Answer::Retry { .. })) = facts.answer(last) else { continue };
        let begun = facts.calls[next.0].began;
        if let Policy::Again(least, _) = facts.policy(last)
            && facts.at(begun) < facts.at(at) + least
        {
            let text = format!("{next} is not due before {least:?} have passed");
            found.push(Violation::new("R1", text, [at, begun]));
        }
    }
    for (n, call) in facts.calls.iter().enumerate() {
        let Some(parcel) = facts.parcels.get(&facts.trace.calls[n].record) else { continue };
        if facts.wall_ms(call.began) < parcel.due_ms {
            let text = format!("call-{n} is of a parcel that is not due");
            found.push(Violation::new("R1", text, [call.began]));
        }
    }
    found
}

/// Attempts and age are both limited, and an event is not given up before.
pub fn r2(facts: &Facts<'_>) -> Vec<Violation> {
    let mut found = Vec::new();
    for (last, next) in pairs(facts) {
        if let Some((at, Answer::Retry { .. })) = facts.answer(last)
            && facts.policy(last) == Policy::GivenUp
        {
            let text = format!("{next} follows an attempt that was the last");
            found.push(Violation::new("R2", text, [at, facts.calls[next.0].began]));
        }
    }
    for (n, call) in facts.calls.iter().enumerate() {
        let (attempt, most) =
            (facts.trace.calls[n].attempt, facts.config(CallNo(n)).retry.max_attempts);
        if attempt > most {
            let text = format!("call-{n} is attempt {attempt} of {most}");
            found.push(Violation::new("R2", text, [call.began]));
        }
    }
    for letter in &facts.letters {
        let Some(call) = letter.call else { continue };
        if let Some((at, Answer::Retry { .. })) = facts.answer(call)
            && matches!(facts.policy(call), Policy::Again(..))
        {
            let text = format!("{call} is given up, and another attempt is due");
            found.push(Violation::new("R2", text, [at, letter.written]));
        }
    }
    found
}

/// Rejected means that this attempt was the last.
pub fn r3(facts: &Facts<'_>) -> Vec<Violation> {
    let rejected = |(last, next): (CallNo, CallNo)| {
        let (at, Answer::Reject(_) | Answer::Bad(_)) = facts.answer(last)? else { return None };
        let text = format!("{next} follows although {last} rejected");
        Some(Violation::new("R3", text, [at, facts.calls[next.0].began]))
    };
    pairs(facts).filter_map(rejected).collect()
}

/// A dead letter, and a run's counters, name the kind of the last failure.
pub fn r4(facts: &Facts<'_>) -> Vec<Violation> {
    let mut found = Vec::new();
    for letter in &facts.letters {
        let Some((at, answer)) = letter.call.and_then(|call| facts.answer(call)) else { continue };
        let class = match answer {
            Answer::Bad(class) | Answer::Reject(class) | Answer::Retry { class, .. } => {
                class.as_str()
            }
            Answer::Ok { .. } | Answer::Skip | Answer::Defer { .. } => "none",
        };
        if letter.says.error_class != class {
            let text =
                format!("the letter says `{}`, and it was `{class}`", letter.says.error_class);
            found.push(Violation::new("R4", text, [at, letter.written]));
        }
    }
    for (at, entry) in facts.trace.entries.iter().enumerate() {
        let What::Ended { member, counts, .. } = &entry.what else { continue };
        let settled = facts.settled_by(*member);
        let ends = |is: fn(&Answer) -> bool| {
            let answered = |c: &Option<CallNo>| c.and_then(|c| facts.answer(c));
            settled.iter().filter(|(_, c)| answered(c).is_some_and(|(_, a)| is(a))).count() as u64
        };
        let handled = ends(|answer| matches!(answer, Answer::Ok { .. }));
        let skipped = ends(|answer| matches!(answer, Answer::Skip));
        // a settlement that was on its way at the deadline counts here and not there
        if counts.handled > handled || counts.skipped > skipped {
            let text =
                format!("{handled} were handled and {skipped} skipped, and it says {counts:?}");
            found.push(Violation::new("R4", text, [at]));
        }
    }
    found
}

/// Long delays are spent in the tier they are for, each of which has one consumer.
pub fn r5(facts: &Facts<'_>) -> Vec<Violation> {
    let mut found = Vec::new();
    for (at, entry) in facts.trace.entries.iter().enumerate() {
        if let What::Courier { consumer, .. } = entry.what
            && consumer > 0
        {
            found.push(Violation::new("R5", "a tier has more than one consumer", [at]));
        }
    }
    let inbox = |no: &RecordNo| matches!(facts.kind(*no), PlaceKind::Inbox(_));
    for (no, parcel) in &facts.parcels {
        let PlaceKind::Tier(delay) = facts.kind(*no) else { continue };
        let written = facts.written[no.0];
        let wait = facts.moment(parcel.due_ms).saturating_sub(facts.at(written));
        let longest = || {
            let tiers = crate::plan::tiers().into_iter().map(|tier| tier.delay);
            tiers.filter(|tier| *tier <= wait).max()
        };
        // the time that publishing took is gone by now
        if longest().is_some_and(|tier| tier > delay) {
            found.push(Violation::new("R5", "a parcel waits in the wrong tier", [written]));
        }
        let arrived = facts.parcels.iter().any(|(other, p)| inbox(other) && p == parcel);
        if !arrived {
            found.push(Violation::new("R5", "a parcel never arrives", [written]));
        }
    }
    for (last, next) in pairs(facts) {
        let tiers = &facts.config(last).retry_tiers;
        if let Policy::Again(least, _) = facts.policy(last)
            && tiers.iter().any(|tier| tier.delay <= least)
        {
            let text = format!("{next} waited in memory");
            found.push(Violation::new("R5", text, facts.begun([last, next])));
        }
    }
    found
}

/// Without dead letters, what gives up an event halts or drops, as configured, and says so.
pub fn r6(facts: &Facts<'_>) -> Vec<Violation> {
    let mut found = Vec::new();
    for call in (0..facts.calls.len()).map(CallNo) {
        let Some((at, answer)) = facts.answer(call) else { continue };
        let given_up = match answer {
            Answer::Bad(_) | Answer::Reject(_) => true,
            Answer::Retry { .. } => facts.policy(call) == Policy::GivenUp,
            Answer::Ok { .. } | Answer::Skip | Answer::Defer { .. } => false,
        };
        if !given_up || !facts.halts(call) {
            continue;
        }
        let info = &facts.trace.calls[call.0];
        let later = |c: &CallNo| {
            let same = facts.trace.calls[c.0].assignment == info.assignment;
            // those that began at the same moment could not know
            same && facts.at(facts.calls[c.0].began) > facts.halted_by(call, at)
        };
        if let Some(next) = (call.0 + 1..facts.calls.len()).map(CallNo).find(later) {
            let text = format!("{next} begins after {call} halted its partition");
            found.push(Violation::new("R6", text, [at, facts.calls[next.0].began]));
        }
        found.extend(facts.silent_halt(call, at));
    }
    for (at, entry) in facts.trace.entries.iter().enumerate() {
        let What::Ended { member, counts, .. } = &entry.what else { continue };
        let plugin = facts.trace.members[member.0].plugin;
        let dropped: u64 = counts.dropped.iter().map(|(_, n)| n).sum();
        if dropped > 0 && facts.plan.plugins[plugin.0].exhausted != OnExhausted::Drop {
            found.push(Violation::new("R6", "events were dropped unasked", [at]));
        }
        let letters = counts.dead_lettered.iter().map(|(_, n)| n).sum::<u64>();
        let settled = facts.settled_by(*member);
        let kept =
            settled.iter().filter(|(r, c)| facts.gave_up(*c) || facts.is_blocked(plugin, *r));
        let kept = kept.count() as u64;
        // see R4 for why there may be fewer
        if dropped + letters > kept {
            let text = format!("{kept} were given up, and it says {counts:?}");
            found.push(Violation::new("R6", text, [at]));
        }
    }
    found
}

/// What is interrupted while it waits for its retry is neither settled nor buried.
pub fn r7(facts: &Facts<'_>) -> Vec<Violation> {
    let mut found = Vec::new();
    for ((assignment, record), calls) in &facts.attempts {
        let Some(last) = calls.last() else { continue };
        let Some((answered, Answer::Retry { .. })) = facts.answer(*last) else { continue };
        let waits = matches!(facts.policy(*last), Policy::Again(..)) && !facts.is_delayed(*last);
        let plugin = facts.trace.assignments[assignment.0].plugin;
        if !waits || facts.is_blocked(plugin, *record) {
            continue;
        }
        let settled = facts.assignments[assignment.0].settled.get(record);
        if let Some((at, true)) = settled {
            let text = format!("{record} is settled while it waits for its retry");
            found.push(Violation::new("R7", text, [answered, *at]));
        }
        let letter = facts.letters.iter().find(|letter| letter.call == Some(*last));
        if let Some(letter) = letter {
            let text = format!("{record} is buried while it waits for its retry");
            found.push(Violation::new("R7", text, [answered, letter.written]));
        }
    }
    found
}

impl Facts<'_> {
    /// What a member settled as done, with the last attempt at it there.
    fn settled_by(&self, member: crate::trace::MemberNo) -> Vec<(RecordNo, Option<CallNo>)> {
        let assignments = self.trace.assignments.iter().enumerate();
        let mine = assignments.filter(|(_, a)| a.member == member).map(|(n, _)| n);
        mine.flat_map(|n| {
            let done = self.assignments[n].settled.iter().filter(|(_, (_, done))| *done);
            done.map(move |(record, _)| {
                let key = (crate::trace::AssignmentNo(n), *record);
                (*record, self.attempts.get(&key).and_then(|calls| calls.last().copied()))
            })
        })
        .collect()
    }

    /// Whether the last attempt at an event was in vain; one that none was made at failed
    /// to decode, or was blocked.
    fn gave_up(&self, last: Option<CallNo>) -> bool {
        let answer = last.map(|call| (self.answer(call), self.policy(call)));
        match answer {
            None => true,
            Some((Some((_, Answer::Bad(_) | Answer::Reject(_))), _)) => true,
            Some((Some((_, Answer::Retry { .. })), policy)) => !matches!(policy, Policy::Again(..)),
            Some(_) => false,
        }
    }

    /// When a partition must have halted: a refused output is found out while it settles.
    fn halted_by(&self, call: CallNo, answered: usize) -> Duration {
        match self.answer(call) {
            Some((_, Answer::Bad(sandbar_core::ErrorClass::Output))) => Duration::MAX,
            _ => self.at(answered),
        }
    }

    /// A member that was asked after its partition halted must have said so.
    fn silent_halt(&self, call: CallNo, answered: usize) -> Option<Violation> {
        let info = &self.trace.calls[call.0];
        let assignment = &self.assignments[info.assignment.0];
        let until = [assignment.revoking.map(|(at, _)| at), assignment.dropped, assignment.fenced];
        let until = until.into_iter().flatten().min().unwrap_or(usize::MAX);
        let entries = self.trace.entries.iter().enumerate().skip(answered);
        let asked = |(at, entry): (usize, &crate::trace::Entry)| {
            let What::Told { member, condition, .. } = &entry.what else { return None };
            let halted = matches!(condition.0, Condition::Halted | Condition::Failed);
            let late = entry.at > self.halted_by(call, answered);
            (*member == info.member && at < until && late && !halted).then_some(at)
        };
        let at = entries.filter_map(asked).next()?;
        Some(Violation::new(
            "R6",
            format!("{call} halted its partition in silence"),
            [answered, at],
        ))
    }

    /// Whether an event was buried because its key waits behind a dead letter.
    pub fn is_blocked(&self, plugin: PluginNo, record: RecordNo) -> bool {
        let number = self.trace.records[record.0].number;
        self.letters.iter().any(|letter| {
            letter.plugin == plugin
                && letter.says.blocked_by.is_some()
                && self.trace.records[letter.record.0].number == number
        })
    }

    /// Which plugin a parcel of that reason is for.
    pub fn redriven_to(&self, record: RecordNo) -> Option<PluginNo> {
        let redriven = self.parcels.get(&record).is_some_and(|p| p.reason == Reason::Redrive);
        match self.kind(record) {
            PlaceKind::Inbox(plugin) if redriven => Some(plugin),
            _ => None,
        }
    }
}
