//! The messages of one queue that were received and are not settled with SQS yet.

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    sync::Arc,
    time::{Duration, SystemTime},
};

use sandbar_core::{AckToken, Delivery};
use tokio::time::Instant;

use crate::{
    error::{Failure, Kind},
    record::Received,
};

/// What is to become of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Not said yet: it is kept invisible.
    Open,
    Delete,
    /// To become visible after whole seconds.
    Release(Duration),
}

struct Held {
    id: String,
    receipt: String,
    group: Option<Arc<str>>,
    fate: Fate,
    /// When its invisibility is to be extended.
    extend_at: Instant,
}

/// A message to be settled with SQS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Settling {
    pub token: u64,
    pub receipt: String,
    pub fate: Fate,
}

/// Tokens are given in the order of receipt.
pub(crate) struct InFlight {
    topic: Arc<str>,
    key: Arc<str>,
    /// On FIFO queues, the last position given: microseconds since the Unix epoch, or one
    /// more than the one before. So positions rise in the order of delivery, also
    /// from one process to the next, which SQS's own numbers do only within a group.
    position: Option<u64>,
    /// Extended when half of it has passed.
    visibility: Duration,
    next: u64,
    ready: VecDeque<Delivery>,
    held: BTreeMap<u64, Held>,
    by_id: HashMap<String, u64>,
    /// Tokens whose fate SQS has to be told, in order.
    settling: VecDeque<u64>,
}

impl InFlight {
    pub fn new(topic: Arc<str>, key: Arc<str>, fifo: bool, visibility: Duration) -> Self {
        Self {
            topic,
            key,
            position: fifo.then_some(0),
            visibility,
            next: 0,
            ready: VecDeque::new(),
            held: BTreeMap::new(),
            by_id: HashMap::new(),
            settling: VecDeque::new(),
        }
    }

    /// Takes in what was received at `now`. What is still here is
    /// delivered no second time: its invisibility has lapsed, and only its newest receipt
    /// is of use.
    pub fn admit(&mut self, received: Vec<Received>, now: Instant) {
        let extend_at = now + self.visibility / 2;
        for message in received {
            let known = self.by_id.get(&message.id).and_then(|token| self.held.get_mut(token));
            if let Some(held) = known
                && !matches!(held.fate, Fate::Release(_))
            {
                held.receipt = message.receipt;
                held.extend_at = extend_at;
                continue;
            }
            let token = self.next;
            self.next += 1;
            self.by_id.insert(message.id.clone(), token);
            self.held.insert(
                token,
                Held {
                    id: message.id.clone(),
                    receipt: message.receipt.clone(),
                    group: message.group.clone(),
                    fate: Fate::Open,
                    extend_at,
                },
            );
            let redeliveries = message.receives.saturating_sub(1);
            let mut event = message.into_event(&self.topic, &self.key);
            if let Some(last) = &mut self.position {
                *last = (*last + 1).max(micros());
                event.position = *last;
            }
            self.ready.push_back(Delivery { token: AckToken(token), redeliveries, event });
        }
    }

    /// Up to `max` deliveries, in order.
    pub fn take(&mut self, max: usize) -> Vec<Delivery> {
        let count = self.ready.len().min(max);
        self.ready.drain(..count).collect()
    }

    pub fn ready(&self) -> usize {
        self.ready.len()
    }

    /// Says what becomes of an open message; `false` where there is none of this token.
    pub fn settle(&mut self, token: AckToken, fate: Fate) -> bool {
        let Some(held) = self.held.get_mut(&token.0).filter(|h| h.fate == Fate::Open) else {
            return false;
        };
        held.fate = fate;
        self.settling.push_back(token.0);
        true
    }

    /// Releases messages. Whatever of their groups is not delivered yet goes along: SQS
    /// gives out the earlier ones anew, and the later ones must not come before them.
    pub fn release(&mut self, mut releases: Vec<(AckToken, Duration)>) {
        let groups: HashMap<Arc<str>, Duration> = releases
            .iter()
            .filter_map(|(token, after)| Some((self.held.get(&token.0)?.group.clone()?, *after)))
            .collect();
        if !groups.is_empty() {
            self.ready.retain(|delivery| {
                let group = self.held.get(&delivery.token.0).and_then(|held| held.group.as_ref());
                let after = group.and_then(|group| groups.get(group));
                releases.extend(after.map(|after| (delivery.token, *after)));
                after.is_none()
            });
        }
        // the last one first: whoever receives meanwhile never finds a later one without
        // those before it
        releases.sort_by_key(|(token, _)| std::cmp::Reverse(*token));
        for (token, after) in releases {
            self.settle(token, Fate::Release(after));
        }
    }

    /// Releases everything that is open, delivered or not.
    pub fn release_all(&mut self) {
        self.ready.clear();
        let open = self.held.iter().filter(|(_, held)| held.fate == Fate::Open);
        let open = open.map(|(token, _)| (AckToken(*token), Duration::ZERO)).collect();
        self.release(open);
    }

    /// Up to `max` of what SQS has to be told. Each is to be [answered](Self::answered).
    pub fn next_settling(&mut self, max: usize) -> Vec<Settling> {
        let count = self.settling.len().min(max);
        let tokens: Vec<u64> = self.settling.drain(..count).collect();
        let settling = |token: u64| {
            let Held { receipt, fate, .. } = self.held.get(&token)?;
            Some(Settling { token, receipt: receipt.clone(), fate: *fate })
        };
        tokens.into_iter().filter_map(settling).collect()
    }

    /// Takes note of SQS's answers, given in the order of the questions; returns why some
    /// are to be told again.
    pub fn answered(&mut self, answers: Vec<(Settling, Result<(), Failure>)>) -> Option<Failure> {
        let (mut again, mut why) = (Vec::new(), None);
        for (settling, result) in answers {
            let held = self.held.get(&settling.token);
            if held.is_some_and(|held| held.receipt != settling.receipt) {
                // received again meanwhile: only the newest receipt surely deletes (API reference, DeleteMessage)
                again.push(settling.token);
                continue;
            }
            match result {
                Err(failure) if matches!(failure.kind, Kind::Away | Kind::NoQueue) => {
                    again.push(settling.token);
                    why = Some(failure);
                    continue;
                }
                Err(failure) => tracing::warn!(
                    topic = &*self.topic, fate = ?settling.fate, reason = failure.message,
                    "SQS does not settle a message any more: its invisibility has lapsed, and it \
                     is delivered again"
                ),
                Ok(()) => {}
            }
            self.remove(settling.token);
        }
        again.into_iter().rev().for_each(|token| self.settling.push_front(token));
        why
    }

    fn remove(&mut self, token: u64) {
        if let Some(held) = self.held.remove(&token)
            && self.by_id.get(&held.id) == Some(&token)
        {
            self.by_id.remove(&held.id);
        }
    }

    /// How many there are of whose fate SQS does not know.
    pub fn unsettled(&self) -> usize {
        self.held.len()
    }

    /// When the next extension is due, if anything is open.
    pub fn extend_at(&self) -> Option<Instant> {
        let open = self.held.values().filter(|held| held.fate == Fate::Open);
        open.map(|held| held.extend_at).min()
    }

    /// Tokens and receipts of what is to be extended soon after `now`, so that a batch has
    /// more than one.
    pub fn to_extend(&self, now: Instant) -> Vec<(u64, String)> {
        let soon = now + self.visibility / 8;
        let due = |held: &Held| held.fate == Fate::Open && held.extend_at <= soon;
        let due = self.held.iter().filter(|(_, held)| due(held));
        due.map(|(token, held)| (*token, held.receipt.clone())).collect()
    }

    /// Takes note of what extending at `asked` came to. What could not be extended is tried
    /// again soon, until SQS says that it cannot be.
    pub fn extended(&mut self, asked: Instant, answers: Vec<(u64, Result<(), Failure>)>) {
        let mut lapsed = HashSet::new();
        for (token, result) in answers {
            let Some(held) = self.held.get_mut(&token) else { continue };
            held.extend_at = match result {
                Ok(()) => asked + self.visibility / 2,
                Err(failure) if failure.kind == Kind::Refused => {
                    lapsed.insert(failure.message);
                    // it may be received again, and extended then
                    asked + crate::config::VISIBILITY_MAX
                }
                Err(_) => asked + self.visibility / 8,
            };
        }
        for reason in lapsed {
            tracing::warn!(
                topic = &*self.topic,
                reason,
                "SQS does not keep messages invisible any longer: they are delivered again while they \
                 are handled"
            );
        }
    }
}

/// Now, since the Unix epoch.
fn micros() -> u64 {
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    u64::try_from(now.as_micros()).unwrap_or_default()
}

#[cfg(test)]
#[path = "inflight_tests.rs"]
mod tests;
