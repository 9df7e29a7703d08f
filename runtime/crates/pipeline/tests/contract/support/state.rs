//! The state of the one subscription: what a store makes of its changes.

use std::collections::BTreeMap;

use bytes::Bytes;
use sandbar_core::{
    AckToken, Disposition, Expected, Handled, Outcome, Outgoing, Settlement, SourceError,
    StateChange, StateChanges, StateEntry, StateOp, StateQuota,
};

/// Keys with their values.
#[derive(Debug, Clone, Default)]
pub struct Kept {
    keys: BTreeMap<String, StateEntry>,
    version: u64,
}

impl Kept {
    pub fn entry(&self, key: &str) -> Option<&StateEntry> {
        self.keys.get(key)
    }

    /// The number that `key` holds, 0 where there is none.
    pub fn number(&self, key: &str) -> i64 {
        let text = |e: &StateEntry| String::from_utf8(e.value.to_vec()).unwrap();
        self.keys.get(key).map_or(0, |entry| text(entry).parse().unwrap())
    }

    /// Makes all of `changes` or none.
    pub fn apply(&mut self, changes: &StateChanges) -> Result<(), String> {
        for StateOp { key, only_if, .. } in &changes.ops {
            let version = self.keys.get(key).map(|entry| entry.version);
            let fits = match only_if {
                None => true,
                Some(Expected::Absent) => version.is_none(),
                Some(Expected::Version(expected)) => version == Some(*expected),
            };
            if !fits {
                return Err(format!("{key} has changed"));
            }
        }
        for StateOp { key, change, .. } in &changes.ops {
            let value = match change {
                StateChange::Put { value, .. } => value.clone(),
                StateChange::Add(delta) => Bytes::from((self.number(key) + delta).to_string()),
                StateChange::Delete => {
                    self.keys.remove(key);
                    continue;
                }
            };
            self.version += 1;
            let entry = StateEntry { value, version: self.version, expires_ms: None };
            self.keys.insert(key.clone(), entry);
        }
        Ok(())
    }

    /// Makes the changes of all of `settlements` or none.
    pub fn settle(&mut self, settlements: &[Settlement]) -> Result<(), SourceError> {
        let mut next = self.clone();
        for Settlement { token: AckToken(token), disposition } in settlements {
            let Disposition::Done { state: Some(changes), .. } = disposition else { continue };
            let stale = |reason| SourceError::Stale { token: AckToken(*token), reason };
            next.apply(changes).map_err(stale)?;
        }
        *self = next;
        Ok(())
    }
}

fn changed(op: StateOp, outputs: Vec<Outgoing>) -> Outcome {
    let changes = StateChanges { ops: vec![op], quota: StateQuota::UNLIMITED, at_ms: 0 };
    Ok(Handled { outputs, state: Some(Box::new(changes)) })
}

/// Handled, with `key` increased by one and `outputs` published.
pub fn count(key: &str, outputs: Vec<Outgoing>) -> Outcome {
    changed(StateOp { key: key.into(), only_if: None, change: StateChange::Add(1) }, outputs)
}

/// Handled, with `key` set to `value` if it is still what was `seen`.
pub fn replace(key: &str, seen: Option<&StateEntry>, value: i64) -> Outcome {
    let expected = seen.map_or(Expected::Absent, |entry| Expected::Version(entry.version));
    let value = Bytes::from(value.to_string());
    let change = StateChange::Put { value, expires_ms: None };
    changed(StateOp { key: key.into(), only_if: Some(expected), change }, Vec::new())
}
