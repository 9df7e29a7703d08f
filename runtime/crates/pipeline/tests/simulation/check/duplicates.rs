//! I1 to I3, E1 and E2.

use std::collections::BTreeMap;

use super::{Violation, facts::Facts};
use crate::{
    plan::Kind,
    trace::{Answer, AssignmentNo, CallNo, PlaceKind, PluginNo, What, Writer},
};

/// An event is known by its id, and what is known is not handled again.
pub fn i1(facts: &Facts<'_>) -> Vec<Violation> {
    let mut found = Vec::new();
    let calls = (0..facts.calls.len()).map(CallNo);
    let mut same: BTreeMap<(PluginNo, String), Vec<CallNo>> = BTreeMap::new();
    for call in calls.filter(|c| facts.config(*c).dedup.is_some()) {
        let id = facts.event_id(facts.trace.calls[call.0].record);
        same.entry((facts.trace.plugin_of(call), id)).or_default().push(call);
    }
    for ((plugin, id), calls) in same {
        for (at, call) in calls.iter().enumerate() {
            let (begun, info) = (facts.calls[call.0].began, &facts.trace.calls[call.0]);
            // two processes cannot know of each other before one of them has marked
            let other = calls[..at].iter().find(|other| {
                let before = &facts.trace.calls[other.0];
                let over = facts.calls[other.0].over.as_ref().is_some_and(|(at, _)| *at < begun);
                before.member == info.member && before.record != info.record && !over
            });
            if let Some(other) = other {
                let text = format!("{call} and {other} are of the same id `{id}`");
                found.push(Violation::new("I1", text, facts.begun([*other, *call])));
            }
            // it was looked up after it was delivered here
            let looked = facts.delivered_at(info.assignment, info.record);
            let known = facts.marks.iter().find(|mark| {
                mark.plugin == plugin
                    && mark.id == id
                    && mark.at < looked
                    && mark.expires_ms > facts.wall_ms(begun)
            });
            if let Some(mark) = known {
                let text = format!("{call} is of the id `{id}`, which was handled");
                found.push(Violation::new("I1", text, [mark.at, begun]));
            }
        }
    }
    found
}

/// An event is marked no earlier than its effects are durable, and together with them
/// where the source can do that.
pub fn i2(facts: &Facts<'_>) -> Vec<Violation> {
    let mut found = Vec::new();
    for mark in &facts.marks {
        let handled = |call: &CallNo| {
            let info = &facts.trace.calls[call.0];
            facts.trace.plugin_of(*call) == mark.plugin
                && facts.event_id(info.record) == mark.id
                && facts.durably_ended(*call).is_some_and(|at| at < mark.at)
        };
        if !(0..facts.calls.len()).map(CallNo).any(|call| handled(&call)) {
            let text = format!("`{}` is marked, and its effects are not there", mark.id);
            found.push(Violation::new("I2", text, [mark.at]));
        }
        let next = facts.trace.entries.get(mark.at + 1).map(|e| &e.what);
        let alone = !matches!(next, Some(What::Settled { done: true, .. }));
        if facts.plan.kind == Kind::Embedded && alone {
            let text = format!("the mark of `{}` is not part of the settlement", mark.id);
            found.push(Violation::new("I2", text, [mark.at]));
        }
    }
    found
}

/// Marks expire by age, and what they spared is counted.
pub fn i3(facts: &Facts<'_>) -> Vec<Violation> {
    let mut found = Vec::new();
    for mark in &facts.marks {
        let window = facts.plan.plugins[mark.plugin.0].dedup.map_or(0, |w| w.as_millis() as u64);
        if mark.expires_ms > facts.wall_ms(mark.at) + window {
            let text = format!("the mark of `{}` expires too late", mark.id);
            found.push(Violation::new("I3", text, [mark.at]));
        }
    }
    for (at, entry) in facts.trace.entries.iter().enumerate() {
        let What::Ended { member, counts, .. } = &entry.what else { continue };
        let plugin = facts.trace.members[member.0].plugin;
        let mut spared = 0;
        for (n, assignment) in facts.assignments.iter().enumerate() {
            if facts.trace.assignments[n].member != *member {
                continue;
            }
            let done = assignment.settled.iter().filter(|(_, (_, done))| *done);
            spared += done
                .filter(|(record, (settled, _))| {
                    let tried = facts.attempts.contains_key(&(AssignmentNo(n), **record));
                    !tried && facts.is_marked(plugin, **record, *settled)
                })
                .count() as u64;
        }
        // see R4 for why there may be fewer
        if counts.duplicates > spared {
            let text = format!("{spared} were spared, and it says {}", counts.duplicates);
            found.push(Violation::new("I3", text, [at]));
        }
    }
    found
}

/// Outputs, dead letters and positions are one step: each output is there once.
pub fn e1(facts: &Facts<'_>) -> Vec<Violation> {
    if !facts.plan.atomic() {
        return Vec::new();
    }
    let mut found = Vec::new();
    let mut outputs: BTreeMap<(PluginNo, usize, usize), usize> = BTreeMap::new();
    for (at, entry) in facts.trace.entries.iter().enumerate() {
        let What::Written { record, by } = entry.what else { continue };
        let info = &facts.trace.records[record.0];
        let (call, index) = match (facts.kind(record), info.output_of) {
            (PlaceKind::Output, Some(output)) => output,
            (PlaceKind::Letters(_), _) if !matches!(by, Writer::Settlement(_)) => {
                found.push(Violation::new("E1", "a dead letter is not part of a settlement", [at]));
                continue;
            }
            _ => continue,
        };
        if !matches!(by, Writer::Settlement(_)) {
            found.push(Violation::new("E1", "an output is not part of a settlement", [at]));
        }
        // every redrive is a new beginning
        let source = facts.trace.calls[call.0].record;
        let key = (facts.trace.plugin_of(call), facts.origin(source), index);
        if let Some(first) = outputs.insert(key, at) {
            let text = format!("output {index} of an event is there twice");
            found.push(Violation::new("E1", text, [first, at]));
        }
    }
    found
}

/// A member that lost its partition changes nothing any more.
pub fn e2(facts: &Facts<'_>) -> Vec<Violation> {
    let late = |(at, entry): (usize, &crate::trace::Entry)| {
        let assignment = match &entry.what {
            What::Settled { assignment, .. } | What::Committed { assignment, .. } => *assignment,
            What::Written { by: Writer::Settlement(assignment), .. } => *assignment,
            _ => return None,
        };
        let fenced = facts.assignments[assignment.0].fenced.filter(|fenced| *fenced < at)?;
        Some(Violation::new("E2", format!("{assignment} is fenced, and settles"), [fenced, at]))
    };
    facts.trace.entries.iter().enumerate().filter_map(late).collect()
}

impl Facts<'_> {
    fn delivered_at(&self, assignment: AssignmentNo, record: crate::trace::RecordNo) -> usize {
        let delivered = &self.assignments[assignment.0].delivered;
        delivered.iter().find(|(_, r)| *r == record).map_or(usize::MAX, |(at, _)| *at)
    }

    /// When an attempt was answered well and its outputs were durable.
    fn durably_ended(&self, call: CallNo) -> Option<usize> {
        let (_, Answer::Ok { .. } | Answer::Skip) = self.answer(call)? else { return None };
        self.durable(call)
    }

    fn is_marked(&self, plugin: PluginNo, record: crate::trace::RecordNo, at: usize) -> bool {
        let id = self.event_id(record);
        self.marks.iter().any(|mark| mark.plugin == plugin && mark.id == id && mark.at < at)
    }

    /// The record that an attempt through retries goes back to: the one produced, or the
    /// parcel of its last redrive.
    fn origin(&self, record: crate::trace::RecordNo) -> usize {
        let number = self.trace.records[record.0].number.unwrap_or(usize::MAX);
        let redrives = self.parcels.get(&record).map_or(0, |p| p.redrives as usize);
        number * 1000 + redrives
    }
}
