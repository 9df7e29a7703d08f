//! The checker: one function per statement of the delivery contract, each of which looks
//! at everything that happened and tells what is against it.

mod commit;
mod duplicates;
mod facts;
mod gate;
mod handover;
mod letters;
mod order;
mod progress;
mod retry;

use self::facts::Facts;
use crate::{plan::Plan, trace::Trace};

/// Something that happened against the contract.
#[derive(Debug, Clone)]
pub struct Violation {
    /// Id of the statement.
    pub id: &'static str,
    pub text: String,
    /// Indexes of the entries that show it.
    pub entries: Vec<usize>,
}

type Statement = fn(&Facts<'_>) -> Vec<Violation>;

const STATEMENTS: [Statement; 31] = [
    order::o1,
    order::o2,
    order::o3,
    order::o4,
    commit::c1,
    commit::c2,
    commit::c3,
    commit::c4,
    retry::r1,
    retry::r2,
    retry::r3,
    retry::r4,
    retry::r5,
    retry::r6,
    retry::r7,
    gate::r8,
    letters::d1,
    letters::d2,
    letters::d3,
    letters::d5,
    letters::d6,
    duplicates::i1,
    duplicates::i2,
    duplicates::i3,
    duplicates::e1,
    duplicates::e2,
    handover::h1,
    handover::h2,
    handover::h4,
    handover::h5,
    handover::h6,
];

/// Everything in `trace` that is against the contract.
pub fn check(plan: &Plan, trace: &Trace) -> Vec<Violation> {
    let facts = Facts::new(plan, trace);
    STATEMENTS.iter().flat_map(|statement| statement(&facts)).collect()
}

impl Violation {
    pub fn new(
        id: &'static str,
        text: impl Into<String>,
        entries: impl IntoIterator<Item = usize>,
    ) -> Self {
        Self { id, text: text.into(), entries: entries.into_iter().collect() }
    }

    /// What is wrong, and the events that show it.
    pub fn tell(&self, trace: &Trace) -> String {
        let entries =
            self.entries.iter().map(|at| format!("\n{}", trace.tell(&trace.entries[*at])));
        format!("{}: {}{}", self.id, self.text, entries.collect::<String>())
    }
}
