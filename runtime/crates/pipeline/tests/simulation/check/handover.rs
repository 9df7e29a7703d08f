//! H1 to H6; H3 is about files.

use std::{collections::BTreeMap, time::Duration};

use super::{Violation, facts::Facts};
use crate::trace::{AssignmentNo, CallNo, MemberNo, What};

/// What a timer may be late by.
const GRAIN: Duration = Duration::from_millis(2);

/// A plugin has one group: reloads do not leave it, and it resumes where it left off.
pub fn h1(facts: &Facts<'_>) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut positions = BTreeMap::new();
    for (at, entry) in facts.trace.entries.iter().enumerate() {
        match &entry.what {
            What::Started { member, group } => {
                let plugin = facts.trace.members[member.0].plugin;
                let own = &facts.plan.plugins[plugin.0].group;
                if group != own {
                    let text = format!("{plugin} joins group {group} instead of {own}");
                    found.push(Violation::new("H1", text, [at]));
                }
            }
            What::Committed { assignment, position, .. } => {
                let info = &facts.trace.assignments[assignment.0];
                positions.insert((info.plugin, info.place), *position);
            }
            What::Assigned { assignment, from } => {
                let info = &facts.trace.assignments[assignment.0];
                let left = positions.get(&(info.plugin, info.place)).copied().unwrap_or(0);
                if *from != left {
                    let text = format!("{assignment} resumes at {from} instead of {left}");
                    found.push(Violation::new("H1", text, [at]));
                }
            }
            What::Closed { member, .. } if !facts.was_told_to_end(*member, at) => {
                found.push(Violation::new("H1", "a run ends by itself", [at]));
            }
            _ => {}
        }
    }
    found
}

/// An attempt uses the version that serves when it begins, and a dead letter names it.
pub fn h2(facts: &Facts<'_>) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut serving: BTreeMap<MemberNo, (usize, u32)> = BTreeMap::new();
    for (at, entry) in facts.trace.entries.iter().enumerate() {
        match &entry.what {
            What::Reloaded { member, version } => {
                serving.insert(*member, (at, *version));
            }
            What::Began { call } => {
                let info = &facts.trace.calls[call.0];
                if let Some((since, version)) = serving.get(&info.member)
                    && *version != info.version
                {
                    let text = format!("version {version} serves, and {call} uses another");
                    found.push(Violation::new("H2", text, [*since, at]));
                }
            }
            _ => {}
        }
    }
    for letter in &facts.letters {
        let Some(call) = letter.call else { continue };
        let version = facts.trace.calls[call.0].version.to_string();
        if letter.says.plugin_version.as_ref().is_some_and(|says| *says != version) {
            let text = format!("{call} failed in version {version}, and its letter says another");
            found.push(Violation::new("H2", text, [letter.written]));
        }
    }
    found
}

/// A revoked partition drains within its time, takes nothing in, and alone.
pub fn h4(facts: &Facts<'_>) -> Vec<Violation> {
    let mut found = Vec::new();
    for (n, assignment) in facts.assignments.iter().enumerate() {
        let no = AssignmentNo(n);
        let (_, member) = facts.member_of(no);
        let crashed = member.crashed.unwrap_or(usize::MAX);
        if let Some((revoked, deadline)) = assignment.revoking {
            let gone = assignment.dropped.map(|at| facts.at(at));
            let in_time = gone.is_some_and(|at| at <= deadline + GRAIN);
            // a source that has failed asks for nothing more
            let failing = facts.fails(facts.member_of(no).0);
            if !in_time && crashed == usize::MAX && !failing {
                let text = format!("{no} is not drained at {deadline:?}");
                found.push(Violation::new(
                    "H4",
                    text,
                    [revoked].into_iter().chain(assignment.dropped),
                ));
            }
            if let Some((at, _)) = assignment.delivered.last().filter(|(at, _)| *at > revoked) {
                let text = format!("{no} takes in an event after it was revoked");
                found.push(Violation::new("H4", text, [revoked, *at]));
            }
        }
        if let Some((drained, dropped)) = assignment.drained.zip(assignment.dropped)
            && drained < dropped
        {
            let text = format!("{no} says that it is drained, and still holds its partition");
            found.push(Violation::new("H4", text, [drained, dropped]));
        }
    }
    for (n, call) in facts.calls.iter().enumerate() {
        let assignment = facts.trace.calls[n].assignment;
        let Some((over, answer)) = &call.over else { continue };
        let dropped = facts.assignments[assignment.0].dropped;
        if let Some(dropped) = dropped.filter(|at| *at < *over) {
            let text = format!("call-{n} runs on after its partition was given up");
            found.push(Violation::new("H4", text, [dropped, *over]));
        }
        if answer.is_none() && !facts.may_abort(assignment, *over) {
            let text = format!("call-{n} is aborted, and nobody asked its partition to drain");
            found.push(Violation::new("H4", text, [call.began, *over]));
        }
    }
    found
}

/// A stop ends in time, takes nothing more in, and commits what it has settled.
pub fn h5(facts: &Facts<'_>) -> Vec<Violation> {
    let mut found = Vec::new();
    let mended = facts.trace.entries.iter().position(|e| matches!(e.what, What::Mended));
    for (n, member) in facts.members.iter().enumerate() {
        let Some((stopping, deadline)) = member.stopping else { continue };
        // leaving the group is one more call to the broker
        let deadline = deadline + facts.plan.latency + GRAIN;
        let in_time = member.ended.is_some_and(|at| facts.at(at) <= deadline);
        if !in_time && member.crashed.is_none() {
            let text = format!("member {n} was to end until {deadline:?}");
            found.push(Violation::new("H5", text, [stopping].into_iter().chain(member.ended)));
        }
        let taken_in = facts.assignments.iter().enumerate().flat_map(|(a, assignment)| {
            let mine = facts.trace.assignments[a].member == MemberNo(n);
            let late = |at: usize| facts.at(at) > facts.at(stopping);
            let late = assignment.delivered.last().filter(|(at, _)| mine && late(*at));
            late.map(|(at, _)| *at)
        });
        if let Some(at) = taken_in.min() {
            let text = format!("member {n} takes in an event after it was stopped");
            found.push(Violation::new("H5", text, [stopping, at]));
        }
        let failed = member
            .ended
            .filter(|at| matches!(&facts.entry(*at).what, What::Ended { result: Err(_), .. }));
        let well = mended.is_some_and(|at| at < stopping) && !facts.fails(MemberNo(n));
        if let Some(at) = failed.filter(|_| well) {
            found.push(Violation::new("H5", "a stop fails where all is well", [stopping, at]));
        }
    }
    found.extend(uncommitted(facts));
    found
}

/// Assignments that ended well and left behind something that is settled.
fn uncommitted(facts: &Facts<'_>) -> Vec<Violation> {
    let mut found = Vec::new();
    for (n, assignment) in facts.assignments.iter().enumerate() {
        let (_, member) = facts.member_of(AssignmentNo(n));
        let Some(fenced) = assignment.fenced else { continue };
        let closed = member.closed.filter(|(at, committed)| *committed && *at > fenced);
        let Some((closed, _)) =
            closed.filter(|_| !assignment.lost && assignment.revoking.is_none())
        else {
            continue;
        };
        let committed = facts.trace.entries[..fenced].iter().rev().find_map(|e| match &e.what {
            What::Committed { assignment, position, .. } if assignment.0 == n => Some(*position),
            _ => None,
        });
        let open = assignment
            .delivered
            .iter()
            .find(|(_, record)| !assignment.settled.get(record).is_some_and(|(_, done)| *done));
        let reached = match (open, assignment.delivered.last()) {
            (Some((_, record)), _) => facts.trace.records[record.0].event.position,
            (None, Some((_, record))) => facts.trace.records[record.0].event.position + 1,
            (None, None) => continue,
        };
        if committed.unwrap_or(assignment.from) < reached {
            let text =
                format!("assignment {n} ended at {reached} and is not committed up to there");
            found.push(Violation::new("H5", text, [fenced, closed]));
        }
    }
    found
}

/// A cancelled attempt is released: it leads neither to a settlement nor to a dead letter.
pub fn h6(facts: &Facts<'_>) -> Vec<Violation> {
    let mut found = Vec::new();
    for (n, call) in facts.calls.iter().enumerate() {
        let Some((aborted, None)) = call.over else { continue };
        let info = &facts.trace.calls[n];
        let settled = facts.assignments[info.assignment.0].settled.get(&info.record);
        if let Some((at, true)) = settled {
            let text = format!("call-{n} was cancelled, and its event is settled");
            found.push(Violation::new("H6", text, [aborted, *at]));
        }
        let buried = facts.letters.iter().find(|l| l.call == Some(CallNo(n)));
        if let Some(letter) = buried {
            let text = format!("call-{n} was cancelled, and its event is buried");
            found.push(Violation::new("H6", text, [aborted, letter.written]));
        }
    }
    found
}

impl Facts<'_> {
    fn fails(&self, member: MemberNo) -> bool {
        let mut entries = self.trace.entries.iter();
        entries.any(|e| matches!(e.what, What::Failing { member: m } if m == member))
    }

    fn was_told_to_end(&self, member: MemberNo, until: usize) -> bool {
        self.trace.entries[..until].iter().any(|entry| match &entry.what {
            What::Stopping { member: m, .. } | What::Failing { member: m } => *m == member,
            _ => false,
        })
    }

    /// Whether something has happened that ends the attempts of a partition.
    fn may_abort(&self, assignment: AssignmentNo, at: usize) -> bool {
        let facts = &self.assignments[assignment.0];
        let revoked = facts.revoking.is_some_and(|(revoked, _)| revoked < at);
        let fenced = facts.fenced.is_some_and(|fenced| fenced < at);
        let (member, _) = self.member_of(assignment);
        revoked || fenced || self.was_told_to_end(member, at)
    }
}
