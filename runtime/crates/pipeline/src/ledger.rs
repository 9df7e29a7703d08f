//! The events of a partition that were received and are not settled, wherever they
//! are: ready, on a lane, with an attempt, waiting, or finished.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
    time::Duration,
};

use sandbar_core::{AckToken, Disposition, Settlement};
use tokio::time::Instant;

use crate::faults::{Fault, planted};

/// What is in here at the end is released, and nothing else is said of it
/// (contract C1, R7, H6).
#[derive(Default)]
pub(crate) struct Ledger(HashMap<AckToken, Entry, BuildHasherDefault<Spread>>);

/// Tokens are numbers that our own adapters give out, mostly one after the other: nobody
/// chooses them so that they collide.
#[derive(Default)]
struct Spread(u64);

impl Hasher for Spread {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64((*byte).into()));
    }

    fn write_u64(&mut self, token: u64) {
        self.0 = (self.0.rotate_left(5) ^ token).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn finish(&self) -> u64 {
        // the table looks at the highest bits and at the lowest
        self.0 ^ (self.0 >> 32)
    }
}

struct Entry {
    received: Instant,
    /// When its retry is due.
    not_before: Option<Instant>,
}

impl Ledger {
    pub(crate) fn open(&mut self, token: AckToken, received: Instant) {
        self.0.insert(token, Entry { received, not_before: None });
    }

    pub(crate) fn retry_at(&mut self, token: AckToken, due: Instant) {
        if let Some(entry) = self.0.get_mut(&token) {
            entry.not_before = Some(due);
        }
    }

    /// Strikes out a settled event and says when it was received.
    pub(crate) fn close(&mut self, token: AckToken) -> Option<Instant> {
        self.0.remove(&token).map(|entry| entry.received)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn oldest(&self) -> Option<Instant> {
        self.0.values().map(|entry| entry.received).min()
    }

    /// Releases of everything, in order. What waited for a retry goes with what is
    /// left of its delay, for brokers that can keep it (contract R1).
    pub(crate) fn releases(&self) -> Vec<Settlement> {
        let now = Instant::now();
        let release = |(token, entry): (&AckToken, &Entry)| {
            if planted(Fault::AbortedSettled) {
                return Settlement::done(*token);
            }
            let left = entry.not_before.map(|due| due.saturating_duration_since(now));
            let disposition = Disposition::Release { after: left.unwrap_or(Duration::ZERO) };
            Settlement { token: *token, disposition }
        };
        let mut releases: Vec<_> = self.0.iter().map(release).collect();
        releases.sort_unstable_by_key(|r| r.token);
        releases
    }
}
