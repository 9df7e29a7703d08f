//! O1 to O4.

use std::collections::BTreeMap;

use bytes::Bytes;
use sandbar_core::{ErrorClass, Event};
use sandbar_pipeline::{OnDeadLetter, Ordering, Reason};

use super::{
    Violation,
    facts::{Facts, Letter, Policy},
    progress,
};
use crate::trace::{Answer, AssignmentNo, CallNo, PlaceKind, PlaceNo, PluginNo};

/// Attempts of one lane never overlap, and first attempts follow the order of positions.
pub fn o1(facts: &Facts<'_>) -> Vec<Violation> {
    let mut found = Vec::new();
    // a lane across all assignments of its partition
    let mut lanes: BTreeMap<(PluginNo, PlaceNo, Bytes), Vec<CallNo>> = BTreeMap::new();
    for ((assignment, lane), calls) in lanes_by_assignment(facts) {
        let info = &facts.trace.assignments[assignment.0];
        lanes.entry((info.plugin, info.place, lane)).or_default().extend(&calls);
        let mut before: Option<CallNo> = None;
        for call in calls {
            let position = |c: CallNo| facts.position(c);
            let first = |c: CallNo| facts.is_first(c);
            if let Some(last) = before.filter(|b| first(call) && position(call) <= position(*b)) {
                let text = format!("{call} begins an event that is not after that of {last}");
                found.push(Violation::new("O1", text, facts.begun([last, call])));
            }
            before = Some(call);
        }
    }
    for calls in lanes.values_mut() {
        calls.sort();
        for (at, call) in calls.iter().enumerate() {
            let overlaps = calls[..at].iter().filter(|other| facts.runs_into(**other, *call));
            for other in overlaps {
                let text = format!("{call} begins while {other} runs");
                found.push(Violation::new("O1", text, facts.begun([*other, *call])));
            }
        }
    }
    found
}

/// While an event waits for its retry, no later one of its lane starts, and others go on.
pub fn o2(facts: &Facts<'_>) -> Vec<Violation> {
    let mut found: Vec<_> = lanes_by_assignment(facts)
        .into_iter()
        .filter(|((assignment, _), _)| facts.ordering(*assignment) == Ordering::Key)
        .flat_map(|(_, calls)| out_of_turn("O2", facts, &calls))
        .collect();
    let keyed = |o, lane: &Option<Bytes>| o == Ordering::Key && lane.is_some();
    found.extend(progress::stuck("O2", facts, keyed));
    found
}

/// Events without a key wait for nothing, those of an ordered partition for each other.
pub fn o3(facts: &Facts<'_>) -> Vec<Violation> {
    let mut found: Vec<_> = lanes_by_assignment(facts)
        .into_iter()
        .filter(|((assignment, _), _)| facts.ordering(*assignment) == Ordering::Partition)
        .flat_map(|(_, calls)| out_of_turn("O3", facts, &calls))
        .collect();
    let other = |o, lane: &Option<Bytes>| o != Ordering::Key || lane.is_none();
    found.extend(progress::stuck("O3", facts, other));
    found
}

/// With halted keys, what comes after a dead letter follows it, and says so.
pub fn o4(facts: &Facts<'_>) -> Vec<Violation> {
    let mut found = Vec::new();
    let notes = notes(facts);
    for (call, begun) in facts.calls.iter().enumerate().map(|(n, c)| (CallNo(n), c.began)) {
        let info = &facts.trace.calls[call.0];
        let redriven = facts.parcels.get(&info.record).is_some_and(|p| p.reason == Reason::Redrive);
        let opened = facts.assignments[info.assignment.0].assigned;
        let event = facts.original(info.record);
        let halting = notes.iter().filter(|note| {
            note.plugin == facts.trace.plugin_of(call)
                && note.halts(event)
                && note.written < opened
                && note.released.is_none_or(|at| at > begun)
        });
        for note in halting.filter(|_| !redriven) {
            let text = format!("{call} begins although its key waits behind {}", note.location);
            found.push(Violation::new("O4", text, [note.written, begun]));
        }
    }
    for letter in &facts.letters {
        found.extend(overtaken(facts, &notes, letter));
        found.extend(unnoted(facts, &notes, letter));
        let Some(location) = &letter.says.blocked_by else { continue };
        let config = &facts.plan.plugins[letter.plugin.0];
        let halts = config.dead_letter.as_ref().map(|d| d.on_dead_letter);
        let event = facts.original(letter.record);
        let named = notes.iter().any(|note| {
            note.plugin == letter.plugin && note.location == *location && note.halts(event)
        });
        let early = facts.plan.atomic() && !named;
        if halts != Some(OnDeadLetter::HaltKey) || early || letter.call.is_some() {
            let text = format!("a letter is blocked by {location} for no reason");
            found.push(Violation::new("O4", text, [letter.written]));
        }
    }
    found
}

/// An attempt at a later event of a key, where an earlier one had failed and its dead
/// letter halted the key.
fn overtaken(facts: &Facts<'_>, notes: &[Note], letter: &Letter) -> Option<Violation> {
    let says = &letter.says;
    let location = format!("{}/{}/{}", says.topic, says.partition, says.offset);
    let note = notes.iter().find(|n| n.plugin == letter.plugin && n.location == location)?;
    let failed = letter.call?;
    let (answered, _) = facts.answer(failed)?;
    let assignment = facts.trace.calls[failed.0].assignment;
    let later = |call: &CallNo| {
        let info = &facts.trace.calls[call.0];
        info.assignment == assignment
            && facts.at(facts.calls[call.0].began) > facts.at(answered)
            && note.released.is_none_or(|at| at > facts.calls[call.0].began)
            && note.halts(facts.original(info.record))
            && facts.redriven_to(info.record).is_none()
    };
    let call = (failed.0 + 1..facts.calls.len()).map(CallNo).find(later)?;
    let text = format!("{call} begins although {failed} before it halts its key");
    Some(Violation::new("O4", text, [answered, facts.calls[call.0].began]))
}

/// A dead letter that is settled, and whose key goes on.
fn unnoted(facts: &Facts<'_>, notes: &[Note], letter: &Letter) -> Option<Violation> {
    let to = facts.plan.plugins[letter.plugin.0].dead_letter.as_ref()?;
    let event = facts.original(letter.record);
    let info = &facts.trace.calls[letter.call?.0];
    let settled = facts.assignments[info.assignment.0].settled.get(&info.record);
    let (settled, _) = settled.filter(|(_, done)| *done)?;
    let noted = notes.iter().any(|note| {
        note.plugin == letter.plugin
            && Some(&note.name) == Note::name(event).as_ref()
            && note.written < *settled
    });
    let halts = to.on_dead_letter == OnDeadLetter::HaltKey && event.key.is_some();
    let text = format!("{} is buried and does not halt its key", info.record);
    (halts && !noted).then(|| Violation::new("O4", text, [letter.written, *settled]))
}

/// A key that waits behind a dead letter.
struct Note {
    plugin: PluginNo,
    written: usize,
    name: Bytes,
    location: String,
    released: Option<usize>,
}

impl Note {
    /// What the notes of an event's key are called.
    fn name(event: &Event) -> Option<Bytes> {
        let place = format!("{}/{}/", event.topic, event.partition);
        Some([place.as_bytes(), event.key.as_ref()?].concat().into())
    }

    fn halts(&self, event: &Event) -> bool {
        let position = self.location.rsplit('/').next().and_then(|p| p.parse::<u64>().ok());
        Some(&self.name) == Self::name(event).as_ref()
            && position.is_some_and(|p| p < event.position)
    }
}

fn notes(facts: &Facts<'_>) -> Vec<Note> {
    let mut notes: Vec<Note> = Vec::new();
    for (n, record) in facts.trace.records.iter().enumerate() {
        let PlaceKind::Halted(plugin) = facts.trace.places[record.place.0].kind else { continue };
        let (written, name) = (facts.written[n], record.event.key.clone().unwrap_or_default());
        // the newest of a key is all that counts
        let same = notes.iter_mut().filter(|note| note.plugin == plugin && note.name == name);
        same.for_each(|note| note.released = note.released.or(Some(written)));
        if let Some(location) = &record.event.payload {
            let location = String::from_utf8_lossy(location).into_owned();
            notes.push(Note { plugin, written, name, location, released: None });
        }
    }
    notes
}

/// Calls of each lane of each assignment, in order.
fn lanes_by_assignment(facts: &Facts<'_>) -> BTreeMap<(AssignmentNo, Bytes), Vec<CallNo>> {
    let mut lanes: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for (n, call) in facts.trace.calls.iter().enumerate() {
        let plugin = facts.trace.members[call.member.0].plugin;
        if let Some(lane) = facts.lane(plugin, call.record) {
            lanes.entry((call.assignment, lane)).or_default().push(CallNo(n));
        }
    }
    lanes
}

/// Calls that begin before the event ahead of them on their lane is through.
fn out_of_turn(id: &'static str, facts: &Facts<'_>, calls: &[CallNo]) -> Vec<Violation> {
    let mut found = Vec::new();
    for pair in calls.windows(2) {
        let [last, next] = *pair else { continue };
        let (was, is) = (&facts.trace.calls[last.0], &facts.trace.calls[next.0]);
        let (same, number) = (is.record == was.record, is.attempt);
        let in_turn = match facts.answer(last) {
            // an overlap is a matter of O1
            None => true,
            Some((_, Answer::Ok { .. } | Answer::Skip)) => !same,
            // that it is bad came out only when it was settled
            Some((_, Answer::Bad(ErrorClass::Output))) if facts.plan.atomic() => !same,
            Some((_, Answer::Bad(_) | Answer::Reject(_))) => !same && !facts.halts(last),
            Some((_, Answer::Defer { .. })) => same && number == was.attempt,
            Some((_, Answer::Retry { .. })) => match facts.policy(last) {
                Policy::Again(..) => same && number == was.attempt + 1,
                Policy::GivenUp => !same && !facts.halts(last),
                Policy::Either => !same || number == was.attempt + 1,
            },
        };
        // a retry that waits is buried when its key is found to be halted
        let plugin = facts.trace.plugin_of(last);
        if !in_turn && !facts.is_blocked(plugin, was.record) {
            let text = format!("{next} begins where another attempt at the event of {last} is due");
            found.push(Violation::new(id, text, facts.begun([last, next])));
        }
    }
    found
}

impl Facts<'_> {
    fn position(&self, call: CallNo) -> u64 {
        self.trace.records[self.trace.calls[call.0].record.0].event.position
    }

    /// Whether it is the first attempt at its event in its assignment.
    fn is_first(&self, call: CallNo) -> bool {
        let info = &self.trace.calls[call.0];
        self.attempts[&(info.assignment, info.record)][0] == call
    }

    fn ordering(&self, assignment: AssignmentNo) -> Ordering {
        self.plan.plugins[self.trace.assignments[assignment.0].plugin.0].ordering
    }

    /// Where calls began.
    pub fn begun<const N: usize>(&self, calls: [CallNo; N]) -> [usize; N] {
        calls.map(|call| self.calls[call.0].began)
    }

    /// Whether `earlier` still runs when `later` begins, and somebody could have known:
    /// a member that lost its partition, or its life, cannot.
    fn runs_into(&self, earlier: CallNo, later: CallNo) -> bool {
        let begun = self.calls[later.0].began;
        let info = &self.trace.calls[earlier.0];
        let assignment = &self.assignments[info.assignment.0];
        let gone = assignment.lost && assignment.fenced.is_some_and(|at| at < begun);
        let crashed = self.members[info.member.0].crashed.is_some_and(|at| at < begun);
        let over = self.calls[earlier.0].over.as_ref().is_some_and(|(at, _)| *at < begun);
        let other = &self.assignments[self.trace.calls[later.0].assignment.0];
        let late = other.lost && other.fenced.is_some_and(|at| at < begun);
        !over && !gone && !late && !crashed
    }

    /// The event of a record as it was produced.
    pub fn original(&self, record: crate::trace::RecordNo) -> &Event {
        let number = self.trace.records[record.0].number;
        let is = |r: &&crate::trace::Record| {
            r.number == number && self.trace.places[r.place.0].kind == PlaceKind::Source
        };
        &self.trace.records.iter().find(is).expect("every event was produced").event
    }
}
