//! D1 to D6; D4 is about redrives that run for long, and has tests of its own.

use std::collections::BTreeMap;

use sandbar_core::{ErrorClass, Header};
use sandbar_pipeline::Reason;

use super::{Violation, commit, facts::Facts};
use crate::trace::{PluginNo, What, Writer};

/// What we add to a letter has to fit into what brokers allow.
const MOST_ADDED: usize = 8 * 1024;

/// The position stays before an event until its dead letter is durable.
pub fn d1(facts: &Facts<'_>) -> Vec<Violation> {
    commit::passed("D1", facts, true)
}

/// Key, payload and headers are in the letter as they were produced, and ours fit.
pub fn d2(facts: &Facts<'_>) -> Vec<Violation> {
    let mut found = Vec::new();
    for letter in &facts.letters {
        let original = facts.original(letter.record);
        let event = &facts.trace.records[letter.record.0].event;
        let kept = event.headers.get(..original.headers.len()) == Some(&*original.headers);
        if (&event.key, &event.payload) != (&original.key, &original.payload) || !kept {
            let written = facts.written_first(original);
            let text = "a letter is not what was produced";
            found.push(Violation::new("D2", text, written.into_iter().chain([letter.written])));
        }
        let size = |h: &Header| h.name.len() + h.value.as_ref().map_or(0, |v| v.len());
        let added: usize = event.headers.iter().skip(original.headers.len()).map(size).sum();
        if added > MOST_ADDED {
            let text = format!("{added} bytes of headers were added");
            found.push(Violation::new("D2", text, [letter.written]));
        }
        let says = (&*letter.says.topic, letter.says.partition, letter.says.offset);
        if says != (&*original.topic, original.partition, original.position) {
            let text = format!("a letter says that it is of {says:?}");
            found.push(Violation::new("D2", text, [letter.written]));
        }
    }
    found
}

/// What is redriven reaches the subscription that failed, and no other.
pub fn d3(facts: &Facts<'_>) -> Vec<Violation> {
    let mut found = Vec::new();
    for (no, parcel) in &facts.parcels {
        let Some(plugin) = facts.redriven_to(*no) else { continue };
        let number = facts.trace.records[no.0].number;
        let failed = |letter: &&super::facts::Letter| {
            letter.plugin == plugin
                && facts.trace.records[letter.record.0].number == number
                && letter.written < facts.written[no.0]
        };
        let group = &facts.plan.plugins[plugin.0].group;
        if facts.letters.iter().find(failed).is_none() || parcel.to != *group {
            let text = format!("group {group} is sent what did not fail there");
            found.push(Violation::new("D3", text, [facts.written[no.0]]));
        }
    }
    found
}

/// Redrives are counted in the letter, and their number is limited.
pub fn d5(facts: &Facts<'_>) -> Vec<Violation> {
    let mut found = Vec::new();
    for (no, parcel) in &facts.parcels {
        if parcel.reason == Reason::Redrive && parcel.redrives > facts.plan.max_redrives {
            let text = format!("an event is redriven for the {}th time", parcel.redrives);
            found.push(Violation::new("D5", text, [facts.written[no.0]]));
        }
    }
    for letter in &facts.letters {
        let Some(call) = letter.call else { continue };
        let record = facts.trace.calls[call.0].record;
        let redrives = facts.parcels.get(&record).map_or(0, |p| p.redrives);
        if letter.says.redrives != redrives {
            let text = format!("{redrives} redrives, and the letter says {}", letter.says.redrives);
            found.push(Violation::new("D5", text, [facts.calls[call.0].began, letter.written]));
        }
    }
    found
}

/// What cannot be decoded is not handled but buried as it is, and stops nothing.
pub fn d6(facts: &Facts<'_>) -> Vec<Violation> {
    let mut found = Vec::new();
    for (n, call) in facts.calls.iter().enumerate() {
        if facts.is_broken(facts.trace.calls[n].record) {
            let text = format!("call-{n} is of an event that cannot be decoded");
            found.push(Violation::new("D6", text, [call.began]));
        }
    }
    let mut buried: BTreeMap<(PluginNo, Option<usize>), usize> = BTreeMap::new();
    for letter in facts.letters.iter().filter(|l| facts.is_broken(l.record)) {
        let says = &*letter.says.error_class;
        if says == ErrorClass::Decode.as_str() {
            let number = facts.trace.records[letter.record.0].number;
            buried.insert((letter.plugin, number), letter.written);
        } else if says != ErrorClass::Blocked.as_str() {
            let text = format!("what cannot be decoded is buried as `{says}`");
            found.push(Violation::new("D6", text, [letter.written]));
        }
    }
    found
}

impl Facts<'_> {
    fn written_first(&self, original: &sandbar_core::Event) -> Option<usize> {
        self.trace.entries.iter().position(|entry| match &entry.what {
            What::Written { record, by: Writer::Producer } => {
                std::ptr::eq(&self.trace.records[record.0].event, original)
            }
            _ => false,
        })
    }
}
