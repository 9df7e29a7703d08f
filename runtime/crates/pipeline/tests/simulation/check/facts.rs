//! What the statements are checked against: the trace, sorted by what belongs together.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use bytes::Bytes;
use sandbar_core::ErrorClass;
use sandbar_pipeline::{DeadLetter, OnExhausted, Ordering, Parcel, Reason, SubscriptionConfig};

use crate::{
    plan::{Plan, halts},
    trace::{
        Answer, AssignmentNo, CallNo, Entry, MemberNo, PlaceKind, PluginNo, Record, RecordNo,
        Trace, What,
    },
    world::BEGIN_MS,
};

pub struct Facts<'a> {
    pub plan: &'a Plan,
    pub trace: &'a Trace,
    pub calls: Vec<CallFacts>,
    pub assignments: Vec<AssignmentFacts>,
    pub members: Vec<MemberFacts>,
    pub letters: Vec<Letter>,
    /// By record; those that are in a tier or an inbox.
    pub parcels: BTreeMap<RecordNo, Parcel>,
    /// Attempts at a record in one assignment, in order.
    pub attempts: BTreeMap<(AssignmentNo, RecordNo), Vec<CallNo>>,
    /// Where each record was written.
    pub written: Vec<usize>,
    outputs: HashMap<(CallNo, usize), usize>,
    pub marks: Vec<MarkFacts>,
    /// When a record became terminal for a plugin, and durably so.
    terminal: BTreeMap<(PluginNo, RecordNo), usize>,
}

/// Indexes of entries, as everywhere below.
pub struct CallFacts {
    pub began: usize,
    /// The end, and the answer unless it was aborted.
    pub over: Option<(usize, Option<Answer>)>,
}

pub struct AssignmentFacts {
    pub assigned: usize,
    pub from: u64,
    pub revoking: Option<(usize, Duration)>,
    pub drained: Option<usize>,
    pub dropped: Option<usize>,
    pub fenced: Option<usize>,
    /// It was fenced without having been asked to drain.
    pub lost: bool,
    /// Delivered records, in order.
    pub delivered: Vec<(usize, RecordNo)>,
    /// Settled records; whether as done.
    pub settled: BTreeMap<RecordNo, (usize, bool)>,
}

#[derive(Default)]
pub struct MemberFacts {
    pub stopping: Option<(usize, Duration)>,
    pub closed: Option<(usize, bool)>,
    pub ended: Option<usize>,
    pub crashed: Option<usize>,
}

pub struct Letter {
    pub plugin: PluginNo,
    pub written: usize,
    pub record: RecordNo,
    pub says: DeadLetter,
    /// The attempt that was the last, where there was one.
    pub call: Option<CallNo>,
}

pub struct MarkFacts {
    pub at: usize,
    pub plugin: PluginNo,
    pub id: String,
    pub expires_ms: u64,
}

/// What the retry policy makes of a failed attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// Again, no sooner than the one and no later than the other.
    Again(Duration, Duration),
    GivenUp,
    /// Chance decides.
    Either,
}

impl<'a> Facts<'a> {
    pub fn new(plan: &'a Plan, trace: &'a Trace) -> Self {
        let mut facts = Self {
            plan,
            trace,
            calls: Vec::with_capacity(trace.calls.len()),
            assignments: Vec::with_capacity(trace.assignments.len()),
            members: Vec::with_capacity(trace.members.len()),
            letters: Vec::new(),
            parcels: BTreeMap::new(),
            attempts: BTreeMap::new(),
            written: Vec::with_capacity(trace.records.len()),
            outputs: HashMap::new(),
            marks: Vec::new(),
            terminal: BTreeMap::new(),
        };
        for (at, entry) in trace.entries.iter().enumerate() {
            facts.take(at, &entry.what);
        }
        facts.find_terminal();
        facts
    }

    fn take(&mut self, at: usize, what: &What) {
        match what {
            What::Written { record, .. } => self.take_written(at, *record),
            What::Assigned { from, .. } => self.assignments.push(AssignmentFacts {
                assigned: at,
                from: *from,
                revoking: None,
                drained: None,
                dropped: None,
                fenced: None,
                lost: false,
                delivered: Vec::new(),
                settled: BTreeMap::new(),
            }),
            What::Delivered { assignment, record } => {
                self.assignments[assignment.0].delivered.push((at, *record));
            }
            What::Settled { assignment, record, done } => {
                self.assignments[assignment.0].settled.insert(*record, (at, *done));
            }
            What::Revoking { assignment, deadline } => {
                self.assignments[assignment.0].revoking = Some((at, *deadline));
            }
            What::Drained { assignment } => self.assignments[assignment.0].drained = Some(at),
            What::Dropped { assignment } => self.assignments[assignment.0].dropped = Some(at),
            What::Fenced { assignment, lost } => {
                let facts = &mut self.assignments[assignment.0];
                (facts.fenced, facts.lost) = (Some(at), *lost);
            }
            What::Marked { plugin, id, expires_ms } => {
                let (plugin, id) = (*plugin, id.clone());
                self.marks.push(MarkFacts { at, plugin, id, expires_ms: *expires_ms });
            }
            What::Started { .. } => self.members.push(MemberFacts::default()),
            What::Stopping { member, deadline } => {
                self.members[member.0].stopping = Some((at, *deadline));
            }
            What::Closed { member, committed } => {
                self.members[member.0].closed = Some((at, *committed));
            }
            What::Ended { member, .. } => self.members[member.0].ended = Some(at),
            What::Crashed { member } => self.members[member.0].crashed = Some(at),
            What::Began { call } => {
                let info = &self.trace.calls[call.0];
                self.calls.push(CallFacts { began: at, over: None });
                self.attempts.entry((info.assignment, info.record)).or_default().push(*call);
            }
            What::Answered { call, answer } => {
                self.calls[call.0].over = Some((at, Some(answer.clone())));
            }
            What::Aborted { call } => self.calls[call.0].over = Some((at, None)),
            _ => {}
        }
    }

    fn take_written(&mut self, at: usize, no: RecordNo) {
        self.written.push(at);
        let record = &self.trace.records[no.0];
        if let Some(output) = record.output_of {
            self.outputs.entry(output).or_insert(at);
        }
        match self.kind(no) {
            PlaceKind::Letters(plugin) => {
                if let Some(says) = DeadLetter::parse(&record.event) {
                    let call = self.call_of_letter(plugin, at, record, &says);
                    self.letters.push(Letter { plugin, written: at, record: no, says, call });
                }
            }
            PlaceKind::Inbox(_) | PlaceKind::Tier(_) => {
                self.parcels.extend(Parcel::open(&record.event).ok().map(|parcel| (no, parcel)));
            }
            _ => {}
        }
    }

    /// The attempt that a dead letter speaks of. The fake handler's errors name it.
    fn call_of_letter(
        &self,
        plugin: PluginNo,
        written: usize,
        record: &Record,
        says: &DeadLetter,
    ) -> Option<CallNo> {
        let after = |text: &str, tag: &str| {
            let (_, rest) = text.split_once(tag)?;
            let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
            digits.parse::<usize>().ok()
        };
        if let Some(n) = after(&says.error_code, "call-").or_else(|| after(&says.message, "call-"))
        {
            return Some(CallNo(n));
        }
        if says.error_class != ErrorClass::Host.as_str() {
            return None;
        }
        let batch = after(&says.message, "batch-");
        let is = |call: &CallNo| {
            let info = &self.trace.calls[call.0];
            let host = Answer::Retry { class: ErrorClass::Host, after: None };
            let failed = matches!(self.answer(*call), Some((_, answer)) if *answer == host);
            Some(info.number) == record.number
                && failed
                && self.trace.plugin_of(*call) == plugin
                && info.attempt == says.attempts
                && batch.is_none_or(|batch| info.batch == batch)
        };
        // several attempts may say the same: take one that was the last, of an event redriven as
        // often as the letter says, that has no letter yet and is settled next
        let rank = |call: &CallNo| {
            let info = &self.trace.calls[call.0];
            let redrives = self.parcels.get(&info.record).map_or(0, |parcel| parcel.redrives);
            let has_letter = self.letters.iter().any(|letter| letter.call == Some(*call));
            let last = !matches!(self.policy(*call), Policy::Again(..));
            let settled = self.trace.entries[written..].iter().position(|entry| {
                matches!(&entry.what, What::Settled { assignment, record, .. }
                    if (*assignment, *record) == (info.assignment, info.record))
            });
            (!last, redrives != says.redrives, has_letter, settled.unwrap_or(usize::MAX))
        };
        (0..self.calls.len()).map(CallNo).filter(is).min_by_key(rank)
    }

    /// Finds for each record when its fate became durable.
    fn find_terminal(&mut self) {
        let mut found = Vec::new();
        for no in (0..self.calls.len()).map(CallNo) {
            let key = (self.trace.plugin_of(no), self.trace.calls[no.0].record);
            found.extend(self.durable(no).map(|at| (key, at)));
        }
        for letter in &self.letters {
            let records = match letter.call {
                Some(call) => vec![self.trace.calls[call.0].record],
                None => self.alike(letter.plugin, letter.record, letter.says.redrives),
            };
            found.extend(records.into_iter().map(|r| ((letter.plugin, r), letter.written)));
        }
        for (no, parcel) in &self.parcels {
            if parcel.reason == Reason::Retry && matches!(self.kind(*no), PlaceKind::Tier(_)) {
                let plugin = self.plugin_of_group(&parcel.to);
                let at = self.written[no.0];
                let records = self.alike(plugin, *no, parcel.redrives);
                let tried = |r: &RecordNo| self.tried(plugin, *r, parcel.attempt - 1);
                found.extend(records.into_iter().filter(tried).map(|r| ((plugin, r), at)));
            }
        }
        for mark in &self.marks {
            let records = self.delivered_to(mark.plugin);
            let same = records.filter(|r| self.event_id(*r) == mark.id);
            found.extend(same.map(|r| ((mark.plugin, r), mark.at)).collect::<Vec<_>>());
        }
        for (n, assignment) in self.assignments.iter().enumerate() {
            let plugin = self.trace.assignments[n].plugin;
            let drops = self.plan.plugins[plugin.0].exhausted == OnExhausted::Drop;
            let broken = assignment.delivered.iter().filter(|(_, r)| drops && self.is_broken(*r));
            found.extend(broken.map(|(at, record)| ((plugin, *record), *at)));
        }
        for (key, at) in found {
            let earliest = self.terminal.entry(key).or_insert(at);
            *earliest = at.min(*earliest);
        }
    }

    /// When the answer to an attempt ended its event, if it did and needs no letter.
    pub fn durable(&self, call: CallNo) -> Option<usize> {
        let (at, Some(answer)) = self.calls[call.0].over.as_ref()? else { return None };
        match answer {
            Answer::Ok { outputs } => (0..*outputs)
                .map(|n| self.outputs.get(&(call, n)).copied())
                .try_fold(*at, |last, output| Some(last.max(output?))),
            Answer::Skip => Some(*at),
            Answer::Defer { .. } => None,
            Answer::Bad(_) | Answer::Reject(_) | Answer::Retry { .. } => {
                let drops = self.config(call).exhausted == OnExhausted::Drop;
                let over = !matches!(answer, Answer::Retry { .. })
                    || !matches!(self.policy(call), Policy::Again(..));
                (drops && over).then_some(*at)
            }
        }
    }

    /// Records of one event that a plugin was given, redriven so often.
    fn alike(&self, plugin: PluginNo, to: RecordNo, redrives: u32) -> Vec<RecordNo> {
        let number = self.trace.records[to.0].number;
        let is = |r: &RecordNo| {
            self.trace.records[r.0].number == number
                && self.parcels.get(r).map_or(0, |p| p.redrives) == redrives
        };
        self.delivered_to(plugin).filter(is).collect()
    }

    fn tried(&self, plugin: PluginNo, record: RecordNo, attempt: u32) -> bool {
        self.trace.calls.iter().any(|call| {
            call.record == record
                && call.attempt == attempt
                && self.trace.members[call.member.0].plugin == plugin
        })
    }

    fn delivered_to(&self, plugin: PluginNo) -> impl Iterator<Item = RecordNo> {
        let mine = move |n: &RecordNo| {
            let kind = self.kind(*n);
            kind == PlaceKind::Source || kind == PlaceKind::Inbox(plugin)
        };
        (0..self.trace.records.len()).map(RecordNo).filter(mine)
    }

    fn plugin_of_group(&self, group: &str) -> PluginNo {
        let at = self.plan.plugins.iter().position(|p| p.group == group);
        PluginNo(at.expect("a group of this play"))
    }

    pub fn terminal(&self, plugin: PluginNo, record: RecordNo) -> Option<usize> {
        self.terminal.get(&(plugin, record)).copied()
    }

    pub fn kind(&self, record: RecordNo) -> PlaceKind {
        self.trace.places[self.trace.records[record.0].place.0].kind
    }

    pub fn entry(&self, at: usize) -> &Entry {
        &self.trace.entries[at]
    }

    pub fn at(&self, at: usize) -> Duration {
        self.trace.entries[at].at
    }

    pub fn wall_ms(&self, at: usize) -> u64 {
        BEGIN_MS + self.at(at).as_millis() as u64
    }

    /// A time of day as time since the play began.
    pub fn moment(&self, wall_ms: u64) -> Duration {
        Duration::from_millis(wall_ms.saturating_sub(BEGIN_MS))
    }

    pub fn config(&self, call: CallNo) -> &SubscriptionConfig {
        &self.plan.plugins[self.trace.plugin_of(call).0]
    }

    pub fn answer(&self, call: CallNo) -> Option<(usize, &Answer)> {
        let (at, answer) = self.calls[call.0].over.as_ref()?;
        Some((*at, answer.as_ref()?))
    }

    /// The event's identity (contract I1).
    pub fn event_id(&self, record: RecordNo) -> String {
        let carried = &self.trace.records[record.0].event;
        let mut event = self.parcels.get(&record).map_or(carried, |p| &p.event).clone();
        event.attributes = sandbar_core::cloudevents::attributes(&event.headers);
        event.id()
    }

    /// What a record's lane is called among those of its assignment.
    pub fn lane(&self, plugin: PluginNo, record: RecordNo) -> Option<Bytes> {
        match self.plan.plugins[plugin.0].ordering {
            Ordering::Key => self.trace.records[record.0].event.key.clone(),
            Ordering::Partition => Some(Bytes::new()),
            Ordering::None => None,
        }
    }

    /// What follows an attempt that asked for another, by the rule of contract R2.
    pub fn policy(&self, call: CallNo) -> Policy {
        let Some((at, Answer::Retry { after, .. })) = self.answer(call) else {
            return Policy::GivenUp;
        };
        let policy = &self.config(call).retry;
        let attempt = self.trace.calls[call.0].attempt;
        if attempt >= policy.max_attempts {
            return Policy::GivenUp;
        }
        let (least, most) = match after {
            Some(asked) => ((*asked).min(policy.max_delay), (*asked).min(policy.max_delay)),
            None => {
                let full =
                    policy.initial_delay.as_secs_f64() * policy.multiplier.powi(attempt as i32 - 1);
                let full = Duration::from_secs_f64(full).min(policy.max_delay);
                (full.mul_f64(1.0 - policy.jitter), full)
            }
        };
        let age = self.at(at).saturating_sub(self.round_began(call));
        // clocks of parcels are good to a millisecond
        let grain = Duration::from_millis(2);
        if age + least > policy.max_age + grain {
            Policy::GivenUp
        } else if age + most + grain <= policy.max_age {
            Policy::Again(least, most)
        } else {
            Policy::Either
        }
    }

    /// When the present round of attempts at a call's event began.
    pub fn round_began(&self, call: CallNo) -> Duration {
        let info = &self.trace.calls[call.0];
        let parcel = self.parcels.get(&info.record).and_then(|p| p.began_ms);
        if let Some(began_ms) = parcel {
            return self.moment(began_ms);
        }
        let attempts = &self.attempts[&(info.assignment, info.record)];
        // an attempt that deferred counts for nothing, and neither does its time
        let deferred = |c: &&CallNo| {
            let first = self.trace.calls[c.0].attempt == 1;
            first && matches!(self.answer(**c), Some((_, Answer::Defer { .. })))
        };
        let first = attempts.iter().filter(|c| !deferred(c)).min().unwrap_or(&call);
        self.at(self.calls[first.0].began)
    }

    /// The end of an event whose attempt failed for good: no position may pass it.
    pub fn halts(&self, call: CallNo) -> bool {
        halts(self.config(call))
    }

    pub fn member_of(&self, assignment: AssignmentNo) -> (MemberNo, &MemberFacts) {
        let member = self.trace.assignments[assignment.0].member;
        (member, &self.members[member.0])
    }
}
