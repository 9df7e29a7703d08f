//! A store of state, as the host's tests need one.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use async_trait::async_trait;
use parking_lot::Mutex;
use sandbar_core::{
    Outcome, SourceError, StateChange, StateChanges, StateEntry, StateSize, StateStore, StateWrite,
};
use sandbar_wasm::StateSource;

/// Keys in memory, and the time.
#[derive(Default)]
pub struct Kept {
    pub keys: Mutex<BTreeMap<String, StateEntry>>,
    versions: AtomicU64,
    pub now_ms: AtomicU64,
    pub away: Mutex<bool>,
}

impl Kept {
    pub fn source(self: &Arc<Self>) -> StateSource {
        let kept = self.clone();
        let now_ms = Arc::new(move || kept.now_ms.load(Ordering::Relaxed));
        StateSource { store: self.clone(), group: "g".into(), now_ms }
    }

    fn check(&self) -> Result<(), SourceError> {
        match *self.away.lock() {
            true => Err(SourceError::Unavailable("disk on fire".into())),
            false => Ok(()),
        }
    }

    /// Makes the changes of a call that is acknowledged.
    pub fn acknowledge(&self, outcome: &Outcome) {
        let Some(StateChanges { ops, .. }) = outcome.as_ref().ok().and_then(|h| h.state.as_deref())
        else {
            return;
        };
        let mut keys = self.keys.lock();
        for op in ops {
            let old = keys.get(&op.key).cloned();
            let (value, expires_ms) = match &op.change {
                StateChange::Put { value, expires_ms } => (value.clone(), *expires_ms),
                StateChange::Delete => {
                    keys.remove(&op.key);
                    continue;
                }
                StateChange::Add(delta) => {
                    let text = old.as_ref().map_or("0".into(), |e| e.value.to_vec());
                    let number: i64 = String::from_utf8(text).unwrap().parse().unwrap();
                    ((number + delta).to_string().into(), old.and_then(|e| e.expires_ms))
                }
            };
            let version = self.versions.fetch_add(1, Ordering::Relaxed) + 1;
            keys.insert(op.key.clone(), StateEntry { value, version, expires_ms });
        }
    }
}

#[async_trait]
impl StateStore for Kept {
    async fn get(
        &self,
        group: &str,
        key: &str,
        now_ms: u64,
    ) -> Result<Option<StateEntry>, SourceError> {
        assert_eq!(group, "g");
        self.check()?;
        let entry = self.keys.lock().get(key).cloned();
        Ok(entry.filter(|entry| entry.expires_ms.is_none_or(|at| at > now_ms)))
    }

    async fn list(
        &self,
        _: &str,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
        _: u64,
    ) -> Result<Vec<(String, StateEntry)>, SourceError> {
        self.check()?;
        let keys = self.keys.lock();
        let keys = keys.iter().filter(|(key, _)| key.starts_with(prefix));
        let keys = keys.filter(|(key, _)| after.is_none_or(|after| key.as_str() > after));
        // a store may give less at a time than it is asked for
        Ok(keys.take(limit.min(2)).map(|(key, entry)| (key.clone(), entry.clone())).collect())
    }

    async fn size(&self, _: &str) -> Result<StateSize, SourceError> {
        self.check()?;
        let keys = self.keys.lock();
        let bytes = keys.iter().map(|(key, entry)| (key.len() + entry.value.len()) as u64).sum();
        Ok(StateSize { keys: keys.len() as u64, bytes })
    }

    async fn write(
        &self,
        _: &str,
        _: &[StateWrite],
    ) -> Result<Vec<Result<(), String>>, SourceError> {
        unreachable!("the host only reads")
    }
}
