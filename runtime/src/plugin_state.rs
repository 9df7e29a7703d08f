//! The state of one plugin as an operator looks at it and changes it, in the runtime or
//! in a command while none runs.

use std::{sync::Arc, time::Duration};

use sandbar_core::{
    SourceError, StateChange, StateChanges, StateEntry, StateOp, StateQuota, StateSize, StateStore,
    StateWrite,
};
use sandbar_pipeline::Environment;
use serde::{Deserialize, Serialize};

use crate::event_json::{BytesJson, time_text};

/// Most keys in one answer.
pub const MOST: usize = 1000;

/// The state of one plugin.
pub struct PluginState {
    store: Arc<dyn StateStore>,
    group: String,
    now_ms: Arc<dyn Fn() -> u64 + Send + Sync>,
}

/// Some of the keys, in byte order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listing {
    /// Whose state it is: the group, which it shares with the plugin's cursor.
    pub group: String,
    /// Keys in all, those that have just expired included.
    pub keys: u64,
    /// Bytes in all, keys and values.
    pub bytes: u64,
    /// The keys that were asked for.
    pub entries: Vec<Entry>,
    /// The last of them, where there are more after it: what to ask `after`.
    pub next: Option<String>,
}

/// One key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// Its value; a counter is a decimal number.
    pub value: BytesJson,
    /// Changes with each change of the key.
    pub version: u64,
    /// When it is gone by itself, RFC 3339.
    pub expires_at: Option<String>,
}

/// What a key is to hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewValue {
    /// The value.
    pub value: BytesJson,
    /// Milliseconds until it is gone by itself; for ever where there are none.
    #[serde(default)]
    pub ttl_ms: Option<u64>,
}

/// How many keys were deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deleted {
    /// Keys that were there.
    pub deleted: u64,
}

impl PluginState {
    /// What `store` holds of `group`.
    pub fn new(store: Arc<dyn StateStore>, group: impl Into<String>) -> Self {
        Self { store, group: group.into(), now_ms: Environment::default().wall_ms }
    }

    /// Up to `limit` keys that begin with `prefix`, after `after`.
    ///
    /// # Errors
    /// While the store does not answer.
    pub async fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Listing, SourceError> {
        let (limit, now_ms) = (limit.clamp(1, MOST), (self.now_ms)());
        let page = self.store.list(&self.group, prefix, after, limit, now_ms).await?;
        let more = match page.last() {
            Some((last, _)) => {
                let next = self.store.list(&self.group, prefix, Some(last), 1, now_ms).await?;
                !next.is_empty()
            }
            None => false,
        };
        let next = page.last().filter(|_| more).map(|(key, _)| key.clone());
        let StateSize { keys, bytes } = self.store.size(&self.group).await?;
        let entries = page.into_iter().map(|(key, entry)| Entry::new(key, entry)).collect();
        Ok(Listing { group: self.group.clone(), keys, bytes, entries, next })
    }

    /// One key, if it is there.
    ///
    /// # Errors
    /// While the store does not answer.
    pub async fn get(&self, key: &str) -> Result<Option<Entry>, SourceError> {
        let found = self.store.get(&self.group, key, (self.now_ms)()).await?;
        Ok(found.map(|entry| Entry::new(key.to_owned(), entry)))
    }

    /// Sets one key, whatever it holds. No quota keeps an operator from that.
    ///
    /// # Errors
    /// While the store does not answer.
    pub async fn set(&self, key: &str, new: NewValue) -> Result<Entry, SourceError> {
        let expires_ms = new.ttl_ms.map(|ttl| (self.now_ms)().saturating_add(ttl));
        let change = StateChange::Put { value: new.value.0.clone(), expires_ms };
        self.write(vec![StateOp { key: key.to_owned(), only_if: None, change }]).await?;
        let entry = StateEntry { value: new.value.0, version: 0, expires_ms };
        // gone already where its time is over
        Ok(self.get(key).await?.unwrap_or_else(|| Entry::new(key.to_owned(), entry)))
    }

    /// Deletes one key.
    ///
    /// # Errors
    /// While the store does not answer.
    pub async fn delete(&self, key: &str) -> Result<Deleted, SourceError> {
        let deleted = u64::from(self.get(key).await?.is_some());
        self.write(vec![delete(key.to_owned())]).await?;
        Ok(Deleted { deleted })
    }

    /// Deletes the keys that begin with `prefix`.
    ///
    /// # Errors
    /// While the store does not answer; some may be deleted then.
    pub async fn delete_all(&self, prefix: &str) -> Result<Deleted, SourceError> {
        let (mut deleted, mut after) = (0, None);
        loop {
            // what has expired and is not swept away yet goes, too
            let page = self.store.list(&self.group, prefix, after.as_deref(), MOST, 0).await?;
            let Some((last, _)) = page.last() else { return Ok(Deleted { deleted }) };
            after = Some(last.clone());
            deleted += page.len() as u64;
            self.write(page.into_iter().map(|(key, _)| delete(key)).collect()).await?;
        }
    }

    async fn write(&self, ops: Vec<StateOp>) -> Result<(), SourceError> {
        let changes = StateChanges { ops, quota: StateQuota::UNLIMITED, at_ms: (self.now_ms)() };
        let write = StateWrite { changes, mark: None };
        for answer in self.store.write(&self.group, &[write]).await? {
            answer.map_err(SourceError::Fatal)?;
        }
        Ok(())
    }
}

fn delete(key: String) -> StateOp {
    StateOp { key, only_if: None, change: StateChange::Delete }
}

impl Entry {
    fn new(key: String, entry: StateEntry) -> Self {
        let StateEntry { value, version, expires_ms } = entry;
        Self { key, value: BytesJson(value), version, expires_at: expires_ms.map(time_text) }
    }
}

/// A time to live, in the unit of [`NewValue`].
pub fn ttl_ms(ttl: Duration) -> u64 {
    u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX)
}
