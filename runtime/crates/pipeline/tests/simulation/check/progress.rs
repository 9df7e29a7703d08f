//! Whether everything starts that can: an event whose lane is free, for which there is a
//! worker, and that nothing holds up begins at once (the second half of O2 and of O3).

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use bytes::Bytes;
use sandbar_pipeline::Ordering;

use super::{
    Violation,
    facts::{Facts, Policy},
};
use crate::trace::{Answer, AssignmentNo, MemberNo, RecordNo, What};

/// What a timer may be late by, and what a stop needs to be heard of.
const GRAIN: Duration = Duration::from_millis(2);

/// What is known at a moment of a partition that is worked on.
#[derive(Default)]
struct Work {
    /// Nothing starts here any more.
    over: bool,
    /// Delivered events that are not settled, by their lane, in order.
    lanes: BTreeMap<Bytes, Vec<RecordNo>>,
    begun: BTreeSet<RecordNo>,
    /// Events that could start, and since when.
    ready: BTreeMap<RecordNo, (Duration, usize)>,
}

#[derive(Default)]
struct Crew {
    /// Batches that run.
    running: BTreeSet<usize>,
    /// Its handler asked for a pause, or something else is wrong with it.
    held: bool,
}

/// Events that could have started and did not, on lanes that `is` picks.
pub fn stuck(
    id: &'static str,
    facts: &Facts<'_>,
    is: impl Fn(Ordering, &Option<Bytes>) -> bool,
) -> Vec<Violation> {
    let mut watch = Watch { facts, work: BTreeMap::new(), crews: BTreeMap::new() };
    let mut found = Vec::new();
    let mut last = Duration::ZERO;
    for (at, entry) in facts.trace.entries.iter().enumerate() {
        if entry.at > last {
            for (assignment, record, since) in watch.idle(last, entry.at) {
                let plugin = facts.trace.assignments[assignment.0].plugin;
                let lane = facts.lane(plugin, record);
                if is(facts.plan.plugins[plugin.0].ordering, &lane) {
                    let text = format!("{record} could start, and does not");
                    found.push(Violation::new(id, text, [since, at]));
                    watch.give_up(assignment);
                }
            }
            last = entry.at;
        }
        watch.take(at, &entry.what);
    }
    found
}

struct Watch<'a> {
    facts: &'a Facts<'a>,
    work: BTreeMap<AssignmentNo, Work>,
    crews: BTreeMap<MemberNo, Crew>,
}

impl Watch<'_> {
    /// What did not start between `last` and `now`, although it could.
    fn idle(&self, last: Duration, now: Duration) -> Vec<(AssignmentNo, RecordNo, usize)> {
        let mut idle = Vec::new();
        for (assignment, work) in &self.work {
            let (member, _) = self.facts.member_of(*assignment);
            let crew = &self.crews[&member];
            let config = &self.facts.plan.plugins[self.facts.trace.members[member.0].plugin.0];
            let free = crew.running.len() < config.concurrency && !crew.held;
            if !work.over && free {
                let late = |(since, _): &&(Duration, usize)| *since <= last && *since + GRAIN < now;
                let late = work.ready.iter().filter(|(_, ready)| late(ready));
                idle.extend(late.map(|(record, (_, at))| (*assignment, *record, *at)));
            }
        }
        idle
    }

    fn give_up(&mut self, assignment: AssignmentNo) {
        self.work.remove(&assignment);
    }

    fn take(&mut self, at: usize, what: &What) {
        let facts = self.facts;
        match what {
            What::Started { member, .. } => {
                let config = &facts.plan.plugins[facts.trace.members[member.0].plugin.0];
                // these wait for things that the trace does not show
                let held = config.breaker.failures > 0
                    || config.dedup.is_some()
                    || config.dead_letter.as_ref().is_some_and(|d| {
                        d.on_dead_letter == sandbar_pipeline::OnDeadLetter::HaltKey
                    });
                self.crews.insert(*member, Crew { held, ..Crew::default() });
            }
            What::Assigned { assignment, .. } => {
                self.work.insert(*assignment, Work::default());
            }
            What::Revoking { assignment, .. }
            | What::Dropped { assignment }
            | What::Fenced { assignment, .. } => {
                self.work.remove(assignment);
            }
            What::Stopping { member, .. }
            | What::Crashed { member }
            | What::Failing { member }
            | What::Closed { member, .. } => {
                self.work.retain(|a, _| facts.trace.assignments[a.0].member != *member);
            }
            What::Delivered { assignment, record } => self.deliver(at, *assignment, *record),
            What::Settled { assignment, record, .. } => self.settle(at, *assignment, *record),
            What::Began { call } => {
                let info = &facts.trace.calls[call.0];
                self.crew(info.member).running.insert(info.batch);
                if let Some(work) = self.work.get_mut(&info.assignment) {
                    work.ready.remove(&info.record);
                    work.begun.insert(info.record);
                }
            }
            What::Answered { call, answer } => self.answer(at, *call, answer),
            What::Aborted { call } => {
                let info = &facts.trace.calls[call.0];
                self.crew(info.member).running.remove(&info.batch);
            }
            _ => {}
        }
    }

    fn crew(&mut self, member: MemberNo) -> &mut Crew {
        self.crews.get_mut(&member).expect("a member that was started")
    }

    fn deliver(&mut self, at: usize, assignment: AssignmentNo, record: RecordNo) {
        let plugin = self.facts.trace.assignments[assignment.0].plugin;
        let lane = self.facts.lane(plugin, record);
        let Some(work) = self.work.get_mut(&assignment) else { return };
        let first = match lane {
            Some(lane) => {
                let lane = work.lanes.entry(lane).or_default();
                lane.push(record);
                lane.len() == 1
            }
            None => true,
        };
        if first {
            self.may_start(at, assignment, record);
        }
    }

    fn settle(&mut self, at: usize, assignment: AssignmentNo, record: RecordNo) {
        let plugin = self.facts.trace.assignments[assignment.0].plugin;
        let lane = self.facts.lane(plugin, record);
        let Some(work) = self.work.get_mut(&assignment) else { return };
        work.ready.remove(&record);
        let Some(lane) = lane.and_then(|lane| work.lanes.get_mut(&lane)) else { return };
        lane.retain(|r| *r != record);
        // the one behind it may have been under way for long
        if let Some(next) = lane.first().copied().filter(|next| !work.begun.contains(next)) {
            self.may_start(at, assignment, next);
        }
    }

    /// An event has nothing more to wait for, unless it never reaches the handler.
    fn may_start(&mut self, at: usize, assignment: AssignmentNo, record: RecordNo) {
        let facts = self.facts;
        let due = match facts.parcels.get(&record) {
            Some(parcel) => facts.moment(parcel.due_ms),
            None => Duration::ZERO,
        };
        if !facts.is_broken(record)
            && let Some(work) = self.work.get_mut(&assignment)
        {
            // the pipeline learns late of what is settled, and cannot begin before
            let known = facts.at(at) + facts.plan.latency;
            work.ready.insert(record, (known.max(due), at));
        }
    }

    fn answer(&mut self, at: usize, call: crate::trace::CallNo, answer: &Answer) {
        let facts = self.facts;
        let info = &facts.trace.calls[call.0];
        let crew = self.crew(info.member);
        crew.running.remove(&info.batch);
        // what opens a gate again is checked elsewhere: look no further at this member
        crew.held |= matches!(answer, Answer::Defer { .. });
        let Some(work) = self.work.get_mut(&info.assignment) else { return };
        match (answer, facts.policy(call)) {
            (Answer::Retry { .. }, Policy::Again(_, most)) if !facts.is_delayed(call) => {
                work.ready.insert(info.record, (facts.at(at) + most, at));
            }
            (Answer::Retry { .. }, Policy::Again(..)) => {}
            (Answer::Retry { .. } | Answer::Bad(_) | Answer::Reject(_), _) => {
                work.over |= facts.halts(call);
            }
            _ => {}
        }
    }
}

impl Facts<'_> {
    /// Whether an event is one that no handler sees.
    pub fn is_broken(&self, record: RecordNo) -> bool {
        self.trace.records[record.0].event.header("content-type").is_some()
    }

    /// Whether the next attempt after `call` may come through a topic.
    pub fn is_delayed(&self, call: crate::trace::CallNo) -> bool {
        let tiers = &self.config(call).retry_tiers;
        let longest = match self.policy(call) {
            Policy::Again(_, most) => most,
            Policy::GivenUp | Policy::Either => return false,
        };
        tiers.iter().any(|tier| tier.delay <= longest)
    }
}
