//! C1 to C4.

use std::collections::{BTreeMap, BTreeSet};

use sandbar_pipeline::OnExhausted;

use super::{Violation, facts::Facts};
use crate::trace::{Answer, AssignmentNo, PlaceNo, PluginNo, RecordNo, What};

/// A commit, and what it covers that none before it did.
struct Commit {
    at: usize,
    assignment: AssignmentNo,
    plugin: PluginNo,
    place: PlaceNo,
    position: u64,
    before: u64,
    ahead: Vec<(u64, u64)>,
}

fn commits(facts: &Facts<'_>) -> Vec<Commit> {
    let mut positions: BTreeMap<(PluginNo, PlaceNo), u64> = BTreeMap::new();
    let commit = |(at, entry): (usize, &crate::trace::Entry)| {
        let What::Committed { assignment, position, ahead } = &entry.what else { return None };
        let info = &facts.trace.assignments[assignment.0];
        let (plugin, place) = (info.plugin, info.place);
        let before = positions.insert((plugin, place), *position).unwrap_or(0);
        let (assignment, position, ahead) = (*assignment, *position, ahead.clone());
        Some(Commit { at, assignment, plugin, place, position, before, ahead })
    };
    facts.trace.entries.iter().enumerate().filter_map(commit).collect()
}

impl Commit {
    /// What must not be handled again after it.
    fn covers(&self, position: u64) -> bool {
        let ahead = || self.ahead.iter().any(|(from, to)| (*from..*to).contains(&position));
        (self.before..self.position).contains(&position) || ahead()
    }

    fn covered<'a>(&'a self, facts: &'a Facts<'_>) -> impl Iterator<Item = RecordNo> {
        let records = facts.trace.records.iter().enumerate();
        let covered =
            records.filter(|(_, r)| r.place == self.place && self.covers(r.event.position));
        covered.map(|(n, _)| RecordNo(n))
    }
}

/// No position passes an event that is not terminal.
pub fn c1(facts: &Facts<'_>) -> Vec<Violation> {
    passed("C1", facts, false)
}

/// Events that a commit covers too early; those that were to be buried, or the others.
pub fn passed(id: &'static str, facts: &Facts<'_>, buried: bool) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut told = BTreeSet::new();
    for commit in commits(facts) {
        for record in commit.covered(facts) {
            let terminal = facts.terminal(commit.plugin, record);
            let early = terminal.is_none_or(|at| at > commit.at);
            if early
                && facts.is_to_be_buried(commit.plugin, record, commit.at) == buried
                && told.insert((commit.plugin, record))
            {
                let text = format!("{record} is passed and is not terminal");
                let written = facts.written[record.0];
                found.push(Violation::new(
                    id,
                    text,
                    [written, commit.at].into_iter().chain(terminal),
                ));
            }
        }
    }
    found
}

impl Facts<'_> {
    /// Whether the last that was said of an event until then is that it is given up.
    fn is_to_be_buried(&self, plugin: PluginNo, record: RecordNo, until: usize) -> bool {
        if self.plan.plugins[plugin.0].exhausted != OnExhausted::DeadLetter {
            return false;
        }
        let calls = (0..self.calls.len()).map(crate::trace::CallNo).filter(|c| {
            self.trace.calls[c.0].record == record && self.trace.plugin_of(*c) == plugin
        });
        let last =
            calls.filter_map(|c| Some((self.answer(c)?, c))).filter(|((at, _), _)| *at < until);
        match last.max_by_key(|((at, _), _)| *at) {
            Some(((_, Answer::Bad(_) | Answer::Reject(_)), _)) => true,
            Some(((_, Answer::Retry { .. }), call)) => {
                self.policy(call) == super::facts::Policy::GivenUp
            }
            Some(_) => false,
            None => self.is_broken(record),
        }
    }
}

/// Gaps do not hold a position up, and it never goes back.
pub fn c2(facts: &Facts<'_>) -> Vec<Violation> {
    let back = commits(facts).into_iter().filter(|c| c.position < c.before).map(|c| {
        let text = format!("{} goes back from {} to {}", c.assignment, c.before, c.position);
        Violation::new("C2", text, [c.at])
    });
    let stalled = facts.trace.entries.iter().enumerate().filter_map(|(at, entry)| {
        let What::Stalled { .. } = entry.what else { return None };
        Some(Violation::new("C2", "everything works, and the position stands still", [at]))
    });
    back.chain(stalled).collect()
}

/// What is committed as finished, past the position too, is not handled again.
pub fn c3(facts: &Facts<'_>) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut finished: BTreeMap<(PluginNo, RecordNo), usize> = BTreeMap::new();
    for commit in commits(facts) {
        for record in commit.covered(facts) {
            finished.entry((commit.plugin, record)).or_insert(commit.at);
        }
        let full = facts.plan.ahead;
        if commit.ahead.len() > full {
            let text = format!("{} ranges do not fit into {full}", commit.ahead.len());
            found.push(Violation::new("C3", text, [commit.at]));
        }
    }
    for (n, call) in facts.calls.iter().enumerate() {
        let info = &facts.trace.calls[n];
        let key = (facts.trace.members[info.member.0].plugin, info.record);
        let opened = facts.assignments[info.assignment.0].assigned;
        if let Some(at) = finished.get(&key).filter(|at| **at < opened) {
            let text = format!("call-{n} is of an event that was finished");
            found.push(Violation::new("C3", text, [*at, call.began]));
        }
    }
    found
}

/// A partition never has more unfinished events than it may.
pub fn c4(facts: &Facts<'_>) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut open: BTreeMap<AssignmentNo, usize> = BTreeMap::new();
    for (at, entry) in facts.trace.entries.iter().enumerate() {
        match entry.what {
            What::Delivered { assignment, .. } => {
                let open = open.entry(assignment).or_default();
                *open += 1;
                let plugin = facts.trace.assignments[assignment.0].plugin;
                let most = facts.plan.plugins[plugin.0].max_in_flight;
                if *open > most {
                    let text = format!("{open} events are open where {most} may be");
                    found.push(Violation::new("C4", text, [at]));
                }
            }
            What::Settled { assignment, .. } => {
                let open = open.entry(assignment).or_default();
                *open = open.saturating_sub(1);
            }
            _ => {}
        }
    }
    found
}
