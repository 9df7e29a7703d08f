//! How far a redrive has come.

use serde::{Deserialize, Serialize};

/// Letters shown by a dry run.
const SHOWN: usize = 20;

/// What became of the letters so far.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Events of the dead-letter topic that were looked at.
    pub read: u64,
    /// Letters that were meant: sent, quarantined or refused. In a dry run: those that
    /// would be.
    pub matched: u64,
    /// Letters whose parcel is durable.
    pub sent: u64,
    /// Letters that were not meant.
    pub skipped: u64,
    /// Letters that were redriven too often already, and stay (contract D5).
    pub quarantined: u64,
    /// Letters whose parcel the broker refused, and that were passed over.
    pub refused: u64,
    /// Letters that the expression does not apply to. They count as not meant.
    pub unclear: u64,
    /// The first of them, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unclear_example: Option<String>,
    /// Events that are no dead letters of ours.
    pub foreign: u64,
    /// Positions not looked at, up to the end that the topic had at the beginning. Gaps
    /// count, where the broker has them.
    pub left: u64,
    /// Where the letters went, or would go.
    pub targets: Vec<Target>,
    /// Some of the letters that would go; a dry run alone fills it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub letters: Vec<Rehearsed>,
    /// Why nothing moves at the moment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting: Option<String>,
}

/// Letters of one plugin that go to one inbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// Connection of the inbox.
    pub connection: String,
    /// The inbox.
    pub inbox: String,
    /// The plugin that failed.
    pub plugin: String,
    /// Whether a plugin that is configured here reads the inbox.
    pub known: bool,
    /// Letters sent, or that would be.
    pub letters: u64,
}

/// A letter that would be sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rehearsed {
    /// Where it lies.
    pub letter: String,
    /// Where its event was when it first failed.
    pub event: String,
    /// Error code.
    pub code: String,
    /// The inbox.
    pub inbox: String,
}

impl Progress {
    /// Counts a letter for `target`.
    pub(super) fn sent_to(&mut self, target: &Target) {
        let same = |t: &&mut Target| {
            (&t.connection, &t.inbox, &t.plugin)
                == (&target.connection, &target.inbox, &target.plugin)
        };
        match self.targets.iter_mut().find(same) {
            Some(known) => known.letters += 1,
            None => self.targets.push(Target { letters: 1, ..target.clone() }),
        }
    }

    pub(super) fn unclear(&mut self, place: &str, why: &str) {
        self.unclear += 1;
        self.unclear_example.get_or_insert_with(|| format!("{place}: {why}"));
    }

    pub(super) fn rehearsed(&mut self, letter: Rehearsed) {
        if self.letters.len() < SHOWN {
            self.letters.push(letter);
        }
    }
}
