//! What one call has written, over what the store holds.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    time::Duration,
};

use bytes::Bytes;
use sandbar_core::{
    Expected, StateChange, StateChanges, StateEntry, StateOp, StateQuota, StateSize,
};

use super::StateAccess;

/// Longest key, in bytes.
const LONGEST_KEY: usize = 1024;
/// Longest value, in bytes.
const LONGEST_VALUE: usize = 1 << 20;
/// Set in versions that are known to this call alone.
const OWN: u64 = 1 << 63;

/// Why an operation on state did not succeed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Trouble {
    Conflict,
    Quota(String),
    Unavailable(String),
    Other(String),
}

/// What one call has written.
#[derive(Debug, Default)]
pub(crate) struct Overlay {
    /// Whether there is an event whose acknowledgement would make it true.
    has_event: bool,
    /// The time that the call lives in, since it asked first.
    at_ms: Option<u64>,
    keys: BTreeMap<String, Written>,
    /// How much there is, once the call has written.
    sizes: Option<Sizes>,
    /// Versions given out.
    versions: u64,
}

#[derive(Debug, Clone, Copy)]
struct Sizes {
    /// What there was when the call wrote first.
    before: StateSize,
    /// What there would be now.
    now: StateSize,
    /// Keys that the call has written and that are not there. The quota knows nothing of
    /// them, but the host keeps them until the call is over: there is an end of these, too.
    gone: StateSize,
}

impl Sizes {
    /// Where a key that is there, or one that is not, counts.
    fn of(&mut self, is_there: bool) -> &mut StateSize {
        if is_there { &mut self.now } else { &mut self.gone }
    }

    fn add(&mut self, key: &str, value: Option<usize>) {
        let size = self.of(value.is_some());
        size.keys += 1;
        size.bytes += length(key, value);
    }

    fn remove(&mut self, key: &str, value: Option<usize>) {
        let size = self.of(value.is_some());
        size.keys = size.keys.saturating_sub(1);
        size.bytes = size.bytes.saturating_sub(length(key, value));
    }
}

fn length(key: &str, value: Option<usize>) -> u64 {
    (key.len() + value.unwrap_or(0)) as u64
}

/// A key that was written.
#[derive(Debug)]
struct Written {
    /// What the store held: version and length of the value.
    base: Option<(u64, usize)>,
    only_if: Option<Expected>,
    change: StateChange,
    /// As the call sees it.
    now: Option<StateEntry>,
}

/// What a call knows of a key before it changes it.
struct Seen {
    base: Option<(u64, usize)>,
    only_if: Option<Expected>,
    change: Option<StateChange>,
    now: Option<StateEntry>,
}

impl Seen {
    /// The condition for a change that relies on what was seen.
    fn as_seen(&self) -> Option<Expected> {
        match self.change {
            // it is of the call's own making
            Some(StateChange::Put { .. } | StateChange::Delete) => self.only_if,
            Some(StateChange::Add(_)) | None => Some(match self.base {
                Some((version, _)) => Expected::Version(version),
                None => Expected::Absent,
            }),
        }
    }
}

impl Overlay {
    /// Forgets everything, for a call that handles an event.
    pub(crate) fn reset(&mut self) {
        *self = Self { has_event: true, ..Self::default() };
    }

    /// What the call has changed, if anything; nothing of it stays here.
    pub(crate) fn take(&mut self, access: &StateAccess) -> Option<Box<StateChanges>> {
        let Self { at_ms, keys, .. } = std::mem::take(self);
        let op = |(key, written): (String, Written)| {
            let Written { only_if, change, .. } = written;
            StateOp { key, only_if, change }
        };
        let at_ms = at_ms.filter(|_| !keys.is_empty())?;
        let ops = keys.into_iter().map(op).collect();
        Some(Box::new(StateChanges { ops, quota: access.quota, at_ms }))
    }

    /// Time stands still for a call from its first look on.
    pub(super) fn begin(&mut self, now_ms: impl Fn() -> u64) {
        self.at_ms.get_or_insert_with(now_ms);
    }

    fn at_ms(&self) -> u64 {
        self.at_ms.unwrap_or_default()
    }

    pub(super) async fn get(
        &self,
        access: &StateAccess,
        key: &str,
    ) -> Result<Option<StateEntry>, Trouble> {
        check_key(key)?;
        match self.keys.get(key) {
            Some(written) => Ok(written.now.clone()),
            None => Ok(access.get(key, self.at_ms()).await?),
        }
    }

    pub(super) async fn set(
        &mut self,
        access: &StateAccess,
        key: String,
        value: Bytes,
        ttl: Option<Duration>,
    ) -> Result<(), Trouble> {
        let seen = self.see(access, &key).await?;
        let only_if = seen.only_if;
        self.put(access, key, seen, only_if, value, self.expiry(ttl)).await
    }

    pub(super) async fn compare_and_set(
        &mut self,
        access: &StateAccess,
        key: String,
        value: Bytes,
        expected: Option<u64>,
        ttl: Option<Duration>,
    ) -> Result<(), Trouble> {
        let seen = self.see(access, &key).await?;
        if seen.now.as_ref().map(|entry| entry.version) != expected {
            return Err(Trouble::Conflict);
        }
        let only_if = seen.as_seen();
        self.put(access, key, seen, only_if, value, self.expiry(ttl)).await
    }

    pub(super) async fn increment(
        &mut self,
        access: &StateAccess,
        key: String,
        delta: i64,
    ) -> Result<i64, Trouble> {
        let seen = self.see(access, &key).await?;
        let number = |entry: &StateEntry| std::str::from_utf8(&entry.value).ok()?.parse().ok();
        let before: i64 = match &seen.now {
            None => 0,
            Some(entry) => number(entry)
                .ok_or_else(|| Trouble::Other(format!("the value of `{key}` is no number")))?,
        };
        let too_large = || Trouble::Other(format!("`{key}` would exceed a signed 64-bit number"));
        let sum = before.checked_add(delta).ok_or_else(too_large)?;
        let value = Bytes::from(sum.to_string());
        let expires_ms = seen.now.as_ref().and_then(|entry| entry.expires_ms);
        let change = match &seen.change {
            // what others add meanwhile is added, too
            None => StateChange::Add(delta),
            Some(StateChange::Add(so_far)) => {
                StateChange::Add(so_far.checked_add(delta).ok_or_else(too_large)?)
            }
            Some(StateChange::Put { .. } | StateChange::Delete) => {
                StateChange::Put { value: value.clone(), expires_ms }
            }
        };
        let now = Some(StateEntry { value, version: self.version(), expires_ms });
        let written = Written { base: seen.base, only_if: seen.only_if, change, now };
        self.write(access, key, written).await?;
        Ok(sum)
    }

    pub(super) async fn delete(
        &mut self,
        access: &StateAccess,
        key: String,
    ) -> Result<(), Trouble> {
        let Seen { base, only_if, .. } = self.see(access, &key).await?;
        let written = Written { base, only_if, change: StateChange::Delete, now: None };
        self.write(access, key, written).await
    }

    pub(super) async fn list(
        &self,
        access: &StateAccess,
        prefix: &str,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<Vec<String>, Trouble> {
        let from = match cursor.filter(|cursor| *cursor >= prefix) {
            Some(cursor) => Bound::Excluded(cursor),
            None => Bound::Included(prefix),
        };
        let own = self.keys.range::<str, _>((from, Bound::Unbounded));
        let own = own.take_while(|(key, _)| key.starts_with(prefix));
        let there = own.filter(|(_, written)| written.now.is_some());
        let mut keys: BTreeSet<String> = there.map(|(key, _)| key.clone()).take(limit).collect();
        let (mut after, mut found) = (cursor.map(str::to_owned), 0);
        while found < limit {
            let page = access.list(prefix, after.as_deref(), limit, self.at_ms()).await?;
            let Some((last, _)) = page.last() else { break };
            after = Some(last.clone());
            let others = page.into_iter().map(|(key, _)| key);
            let others: Vec<_> = others.filter(|key| !self.keys.contains_key(key)).collect();
            found += others.len();
            keys.extend(others);
        }
        Ok(keys.into_iter().take(limit).collect())
    }

    async fn see(&self, access: &StateAccess, key: &str) -> Result<Seen, Trouble> {
        check_key(key)?;
        if !self.has_event {
            let reason = "state can be written only while an event is handled";
            return Err(Trouble::Other(reason.into()));
        }
        if let Some(Written { base, only_if, change, now }) = self.keys.get(key) {
            let (base, only_if, now) = (*base, *only_if, now.clone());
            return Ok(Seen { base, only_if, change: Some(change.clone()), now });
        }
        let now = access.get(key, self.at_ms()).await?;
        let base = now.as_ref().map(|entry| (entry.version, entry.value.len()));
        Ok(Seen { base, only_if: None, change: None, now })
    }

    async fn put(
        &mut self,
        access: &StateAccess,
        key: String,
        seen: Seen,
        only_if: Option<Expected>,
        value: Bytes,
        expires_ms: Option<u64>,
    ) -> Result<(), Trouble> {
        if value.len() > LONGEST_VALUE {
            let length = value.len();
            let reason =
                format!("a value of {length} bytes: one may have {LONGEST_VALUE} bytes at most");
            return Err(Trouble::Quota(reason));
        }
        let at_ms = self.at_ms();
        let entry = StateEntry { value: value.clone(), version: self.version(), expires_ms };
        // one that expires at once is not there
        let (now, change) = match expires_ms.is_none_or(|at| at > at_ms) {
            true => (Some(entry), StateChange::Put { value, expires_ms }),
            false => (None, StateChange::Delete),
        };
        self.write(access, key, Written { base: seen.base, only_if, change, now }).await
    }

    /// Notes what was written, if there is room for it.
    async fn write(
        &mut self,
        access: &StateAccess,
        key: String,
        written: Written,
    ) -> Result<(), Trouble> {
        let old = match self.sizes {
            Some(sizes) => sizes,
            None => {
                let before = access.size().await?;
                Sizes { before, now: before, gone: StateSize::default() }
            }
        };
        let value = |entry: &Option<StateEntry>| entry.as_ref().map(|entry| entry.value.len());
        let mut new = old;
        match (self.keys.get(&key), written.base) {
            (Some(before), _) => new.remove(&key, value(&before.now)),
            (None, Some((_, value))) => new.remove(&key, Some(value)),
            (None, None) => {}
        }
        new.add(&key, value(&written.now));
        within(access.quota, new.now, old.now, "")?;
        within(access.quota, new.gone, old.before, " deleted by one event")?;
        self.sizes = Some(new);
        self.keys.insert(key, written);
        Ok(())
    }

    fn expiry(&self, ttl: Option<Duration>) -> Option<u64> {
        let ms = |ttl: Duration| u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
        ttl.map(|ttl| self.at_ms().saturating_add(ms(ttl)))
    }

    fn version(&mut self) -> u64 {
        self.versions += 1;
        OWN | self.versions
    }
}

/// Whether there is room for `new`. What was more than the quota already may stay.
fn within(quota: StateQuota, new: StateSize, old: StateSize, what: &str) -> Result<(), Trouble> {
    let (keys, bytes) = (quota.keys, quota.bytes);
    if new.keys > keys.max(old.keys) {
        return Err(Trouble::Quota(format!("more than {keys} keys{what} (limits.state-keys)")));
    }
    if new.bytes > bytes.max(old.bytes) {
        return Err(Trouble::Quota(format!("more than {bytes} bytes{what} (limits.state-bytes)")));
    }
    Ok(())
}

fn check_key(key: &str) -> Result<(), Trouble> {
    match key.len() {
        0 => Err(Trouble::Other("a key may not be empty".into())),
        1..=LONGEST_KEY => Ok(()),
        length => Err(Trouble::Other(format!(
            "a key of {length} bytes: one may have {LONGEST_KEY} bytes at most"
        ))),
    }
}
