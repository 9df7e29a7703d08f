//! What the broker in memory keeps of the state of groups. Nothing expires there, and nobody
//! has a quota.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use sandbar_core::{
    Expected, SourceError, StateChange, StateChanges, StateEntry, StateOp, StateSize, StateStore,
    StateWrite,
};

use crate::fake::Broker;

/// All of it, by group and key.
#[derive(Clone, Default)]
pub struct Kept {
    entries: BTreeMap<(String, String), StateEntry>,
    version: u64,
}

impl Kept {
    /// Makes all of `changes`, or none of them and says why.
    pub fn change(&mut self, group: &str, changes: &StateChanges) -> Result<(), String> {
        let mut next = self.clone();
        for StateOp { key, only_if, change } in &changes.ops {
            let at = (group.to_owned(), key.clone());
            let current = next.entries.get(&at);
            let as_expected = match only_if {
                None => true,
                Some(Expected::Absent) => current.is_none(),
                Some(Expected::Version(version)) => current.is_some_and(|e| e.version == *version),
            };
            if !as_expected {
                return Err(format!("{key} has changed"));
            }
            let value = match change {
                StateChange::Put { value, .. } => value.clone(),
                StateChange::Add(delta) => {
                    let sum = current.map_or(0, |entry| number(&entry.value)) + delta;
                    Bytes::from(sum.to_string())
                }
                StateChange::Delete => {
                    next.entries.remove(&at);
                    continue;
                }
            };
            next.version += 1;
            let entry = StateEntry { value, version: next.version, expires_ms: None };
            next.entries.insert(at, entry);
        }
        *self = next;
        Ok(())
    }

    fn of(&self, group: &str) -> impl Iterator<Item = (&str, &StateEntry)> {
        let entries = self.entries.iter().filter(move |((of, _), _)| of == group);
        entries.map(|((_, key), entry)| (key.as_str(), entry))
    }
}

fn number(value: &[u8]) -> i64 {
    std::str::from_utf8(value).unwrap().parse().unwrap()
}

/// The state that a broker keeps.
pub struct KeptBy(pub Arc<Broker>);

#[async_trait]
impl StateStore for KeptBy {
    async fn get(&self, group: &str, key: &str, _: u64) -> Result<Option<StateEntry>, SourceError> {
        let found =
            |kept: &mut Kept| kept.of(group).find(|(k, _)| *k == key).map(|(_, e)| e.clone());
        self.0.with_kept(found)
    }

    async fn list(
        &self,
        group: &str,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
        _: u64,
    ) -> Result<Vec<(String, StateEntry)>, SourceError> {
        let wanted = |key: &str| key.starts_with(prefix) && after.is_none_or(|after| key > after);
        self.0.with_kept(|kept| {
            let page = kept.of(group).filter(|(key, _)| wanted(key)).take(limit);
            page.map(|(key, entry)| (key.to_owned(), entry.clone())).collect()
        })
    }

    async fn size(&self, group: &str) -> Result<StateSize, SourceError> {
        self.0.with_kept(|kept| {
            let mut size = StateSize::default();
            for (key, entry) in kept.of(group) {
                size.keys += 1;
                size.bytes += (key.len() + entry.value.len()) as u64;
            }
            size
        })
    }

    async fn write(
        &self,
        group: &str,
        writes: &[StateWrite],
    ) -> Result<Vec<Result<(), String>>, SourceError> {
        self.0.with_kept(|kept| writes.iter().map(|w| kept.change(group, &w.changes)).collect())
    }
}
