//! Accounts for every event, from the topics alone.

use std::{collections::BTreeMap, sync::Arc};

use parking_lot::Mutex;
use serde::Serialize;

use crate::{
    faults::Kind,
    overlaps::Overlaps,
    script::{Attempt, Script, number_of},
    sequence::{Seen, Sequence},
    timeline::{Millis, Timeline, now_ms},
};

/// Broken accounts that are described one by one; the rest are only counted.
const EXAMPLES: usize = 20;

/// Where a record was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Place {
    /// What the producer wrote.
    Input,
    /// What a subscription, by its number, made of it.
    Output(usize),
    /// What a subscription gave up.
    Dead(usize),
}

/// A record of one of the topics.
#[derive(Debug)]
pub struct Record<'a> {
    pub place: Place,
    pub key: &'a [u8],
    pub payload: &'a [u8],
    pub timestamp: Millis,
}

/// Counts, in all or under one kind of fault.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// Events that were sent.
    pub sent: u64,
    /// Events with an output.
    pub handled: u64,
    /// Poison that was dead-lettered.
    pub dead_lettered: u64,
    /// Events with neither.
    pub lost: u64,
    /// Outputs and dead letters beyond the first of an event.
    pub duplicated: u64,
    /// Events whose first output came after that of a younger one of the key.
    pub out_of_order: u64,
    /// Pairs of attempts at one key that overlapped.
    pub overlapping: u64,
    /// Outputs of poison, dead letters of what could be handled, bytes that changed.
    pub wrong: u64,
}

impl Tally {
    pub fn add(&mut self, other: &Self) {
        let Self {
            sent,
            handled,
            dead_lettered,
            lost,
            duplicated,
            out_of_order,
            overlapping,
            wrong,
        } = other;
        self.sent += sent;
        self.handled += handled;
        self.dead_lettered += dead_lettered;
        self.lost += lost;
        self.duplicated += duplicated;
        self.out_of_order += out_of_order;
        self.overlapping += overlapping;
        self.wrong += wrong;
    }
}

/// Counts by the fault under which they came about; `None` is calm.
pub type Tallies = BTreeMap<Option<Kind>, Tally>;

struct Accounts {
    handled: Vec<Sequence>,
    dead: Vec<Sequence>,
    overlaps: Overlaps,
    tallies: Tallies,
    /// By input partition: when the youngest event with an output was sent.
    reached: Vec<Millis>,
}

/// The books of all subscriptions.
pub struct Verifier {
    script: Script,
    timeline: Arc<Timeline>,
    books: Mutex<Books>,
}

struct Books {
    input: Vec<Sequence>,
    sent: BTreeMap<Option<Kind>, u64>,
    subscriptions: Vec<Accounts>,
    examples: Vec<String>,
    /// What is wrong with the input, or with what was read: the run says nothing then.
    flaws: u64,
}

impl Verifier {
    /// For `subscriptions` of one input topic.
    pub fn new(
        script: Script,
        keys: usize,
        partitions: usize,
        subscriptions: usize,
        timeline: Arc<Timeline>,
    ) -> Self {
        let accounts = || Accounts {
            handled: vec![Sequence::default(); keys],
            dead: vec![Sequence::default(); keys],
            overlaps: Overlaps::new(keys),
            tallies: Tallies::new(),
            reached: vec![0; partitions],
        };
        let books = Books {
            input: vec![Sequence::default(); keys],
            sent: BTreeMap::new(),
            subscriptions: (0..subscriptions).map(|_| accounts()).collect(),
            examples: Vec::new(),
            flaws: 0,
        };
        Self { script, timeline, books: Mutex::new(books) }
    }

    /// Takes a record into the books.
    pub fn observe(&self, record: &Record<'_>) {
        let mut books = self.books.lock();
        if self.enter(&mut books, record).is_none() {
            books.flaws += 1;
            note(
                &mut books.examples,
                format!("a foreign record in {:?}: {record:?}", record.place),
            );
        }
    }

    /// `None` where the record is none of this run's.
    fn enter(&self, books: &mut Books, record: &Record<'_>) -> Option<()> {
        let key: u32 = std::str::from_utf8(record.key).ok()?.parse().ok()?;
        let slot = usize::try_from(key).ok()?;
        let payload = std::str::from_utf8(record.payload).ok()?;
        let script = self.script;
        match record.place {
            Place::Input => {
                let number = number_of(payload)?;
                let seen = books.input.get_mut(slot)?.see(number, None, |_| true);
                *books.sent.entry(self.timeline.at(record.timestamp)).or_default() += 1;
                (seen == Seen::First && script.payload(key, number) == payload).then_some(())
            }
            Place::Output(of) => {
                let attempt = Attempt::parse(payload)?;
                let under = self.timeline.at(attempt.span.1 / 1000);
                let accounts = books.subscriptions.get_mut(of)?;
                let sequence = accounts.handled.get_mut(slot)?;
                let seen = sequence.see(attempt.number, under, |n| !script.is_poison(key, n));
                let tally = accounts.tallies.entry(under).or_default();
                tally.overlapping += accounts.overlaps.add(slot, attempt.span);
                tally.enter(seen, |tally| &mut tally.handled);
                let reached = accounts.reached.get_mut(usize::try_from(attempt.partition).ok()?)?;
                *reached = attempt.sent_ms.max(*reached);
                if matches!(seen, Seen::Late | Seen::Foreign) {
                    note(
                        &mut books.examples,
                        format!("{seen:?}: subscription {of}, key {key}, output {payload:?}"),
                    );
                }
                Some(())
            }
            Place::Dead(of) => {
                let number = number_of(payload)?;
                let under = self.timeline.at(record.timestamp);
                let accounts = books.subscriptions.get_mut(of)?;
                let sequence = accounts.dead.get_mut(slot)?;
                let seen = match sequence.see(number, under, |n| script.is_poison(key, n)) {
                    // dead letters of one key may overtake each other
                    Seen::Late => Seen::First,
                    seen => seen,
                };
                let tally = accounts.tallies.entry(under).or_default();
                tally.enter(seen, |tally| &mut tally.dead_lettered);
                let changed = script.payload(key, number) != payload;
                tally.wrong += u64::from(changed);
                if changed || seen == Seen::Foreign {
                    note(
                        &mut books.examples,
                        format!("{seen:?}: subscription {of}, key {key}, dead letter {payload:?}"),
                    );
                }
                Some(())
            }
        }
    }

    /// Takes an event into the books that the broker has acknowledged, where nobody can read it
    /// but the plugins.
    pub fn sent(&self, key: u32, payload: &str) {
        let (key, payload) = (key.to_string(), payload.as_bytes());
        let (place, timestamp) = (Place::Input, now_ms());
        self.observe(&Record { place, key: key.as_bytes(), payload, timestamp });
    }

    /// Takes an attempt into the books that left no output.
    pub fn failed_attempt(&self, of: usize, key: usize, span: (u64, u64)) {
        let under = self.timeline.at(span.1 / 1000);
        let mut books = self.books.lock();
        if let Some(accounts) = books.subscriptions.get_mut(of) {
            let overlapping = accounts.overlaps.add(key, span);
            accounts.tallies.entry(under).or_default().overlapping += overlapping;
        }
    }

    /// Whether every subscription has handled, on every partition, an event sent at that time
    /// or later.
    pub fn has_reached(&self, at: Millis) -> bool {
        let books = self.books.lock();
        books.subscriptions.iter().flat_map(|s| &s.reached).all(|reached| *reached >= at)
    }

    /// Records so far: sent, and by subscription handled or dead-lettered.
    pub fn progress(&self) -> (u64, Vec<u64>) {
        let books = self.books.lock();
        let done = |accounts: &Accounts| {
            accounts.tallies.values().map(|t| t.handled + t.dead_lettered).sum()
        };
        (books.sent.values().sum(), books.subscriptions.iter().map(done).collect())
    }

    /// Closes the books on a producer that was told that `sent[key]` events of each key are
    /// durable: the counts of each subscription, and what is wrong.
    pub fn close(&self, sent: &[u64]) -> Verdict {
        let script = self.script;
        let books = self.books.lock();
        let lost_input =
            books.input.iter().zip(sent).map(|(s, end)| s.lost(*end, |_| true).count());
        // then not even the broker has kept what it acknowledged
        let flaws = books.flaws + lost_input.sum::<usize>() as u64;
        let mut examples = books.examples.clone();
        let close = |(of, accounts): (usize, &Accounts)| {
            let mut tallies = accounts.tallies.clone();
            for (kind, sent) in &books.sent {
                tallies.entry(*kind).or_default().sent = *sent;
            }
            let keys = accounts.handled.iter().zip(&accounts.dead).zip(sent);
            for (key, ((handled, dead), end)) in (0u32..).zip(keys) {
                let never_handled = handled.lost(*end, |n| !script.is_poison(key, n));
                let never_buried = dead.lost(*end, |n| script.is_poison(key, n));
                for (number, under) in never_handled.chain(never_buried) {
                    tallies.entry(under).or_default().lost += 1;
                    let example = format!("Lost: subscription {of}, key {key}, event {number}");
                    note(&mut examples, example);
                }
            }
            tallies
        };
        let tallies = books.subscriptions.iter().enumerate().map(close).collect();
        Verdict { tallies, examples, flaws }
    }
}

fn note(examples: &mut Vec<String>, example: String) {
    if examples.len() < EXAMPLES {
        examples.push(example);
    }
}

impl Tally {
    fn enter(&mut self, seen: Seen, counter: impl Fn(&mut Self) -> &mut u64) {
        match seen {
            Seen::First => *counter(self) += 1,
            Seen::Late => {
                *counter(self) += 1;
                self.out_of_order += 1;
            }
            Seen::Again => self.duplicated += 1,
            Seen::Foreign => self.wrong += 1,
        }
    }
}

/// What the books say in the end.
#[derive(Debug)]
pub struct Verdict {
    /// By subscription.
    pub tallies: Vec<Tallies>,
    /// Some of what is wrong, for people.
    pub examples: Vec<String>,
    /// Records of the input that are missing or foreign: the broker's fault or the harness's.
    pub flaws: u64,
}

impl Verdict {
    /// The counts of one subscription over all faults.
    pub fn total(&self, subscription: usize) -> Tally {
        let mut total = Tally::default();
        self.tallies[subscription].values().for_each(|tally| total.add(tally));
        total
    }
}

#[cfg(test)]
#[path = "verifier_tests.rs"]
mod tests;
