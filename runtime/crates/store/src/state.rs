//! The state of groups: a table by key, one by expiry, from which the oldest go in slices as
//! part of retention, and one with the size of each group's.

use std::{collections::BTreeMap, ops::Bound};

use async_trait::async_trait;
use bytes::Bytes;
use redb::{ReadTransaction, ReadableTable, Table};
use sandbar_core::{
    Expected, SourceError, StateChange, StateChanges, StateEntry, StateOp, StateQuota, StateSize,
    StateStore, StateWrite,
};

use crate::{
    Log,
    schema::{STATE, STATE_EXPIRIES, STATE_SIZES},
    storage,
    transaction::Transaction,
    writer::Work,
};

/// Expired keys that one transaction removes at most.
const SLICE: usize = 1024;
/// Bytes of values that are listed at once, unless one alone is larger.
const PAGE_BYTES: usize = 1 << 20;
/// In the place of an expiry: none.
const NEVER: u64 = u64::MAX;
/// Bytes of a row before its value.
const HEAD: usize = 16;

/// The value of a key as it is stored: version, expiry, value.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Row {
    version: u64,
    expires_ms: u64,
    value: Bytes,
}

impl Row {
    fn encode(&self) -> Vec<u8> {
        let mut row = Vec::with_capacity(HEAD + self.value.len());
        row.extend_from_slice(&self.version.to_le_bytes());
        row.extend_from_slice(&self.expires_ms.to_le_bytes());
        row.extend_from_slice(&self.value);
        row
    }

    fn decode(row: &[u8]) -> Result<Self, redb::Error> {
        let number = |at: usize| Some(u64::from_le_bytes(*row.get(at..)?.first_chunk()?));
        let head = number(0).zip(number(8));
        let (version, expires_ms) =
            head.ok_or_else(|| redb::Error::Corrupted("a row of state is malformed".into()))?;
        Ok(Self { version, expires_ms, value: Bytes::copy_from_slice(&row[HEAD..]) })
    }

    fn is_alive(&self, now_ms: u64) -> bool {
        self.expires_ms > now_ms
    }

    fn entry(self) -> StateEntry {
        let expires_ms = (self.expires_ms != NEVER).then_some(self.expires_ms);
        StateEntry { value: self.value, version: self.version, expires_ms }
    }
}

fn bytes(key: &str, row: &Row) -> u64 {
    (key.len() + row.value.len()) as u64
}

/// The tables of a write transaction.
pub(crate) struct StateTables<'tx> {
    by_key: Table<'tx, (&'static str, &'static str), &'static [u8]>,
    by_expiry: Table<'tx, (u64, &'static str, &'static str), ()>,
    sizes: Table<'tx, &'static str, (u64, u64, u64)>,
}

/// The state of one group while changes are made to it: nothing of it is in the tables
/// before all of them fit.
pub(crate) struct Draft {
    group: String,
    size: StateSize,
    /// The newest version that was given out.
    version: u64,
    keys: BTreeMap<String, Slot>,
}

/// A key that was looked at.
struct Slot {
    /// Expiry of what is in the tables, if anything is.
    stored: Option<u64>,
    now: Option<Row>,
    changed: bool,
}

impl Draft {
    /// Makes the changes of one event, or none of them and says why.
    fn apply(
        &mut self,
        tables: &StateTables<'_>,
        changes: &StateChanges,
    ) -> Result<Result<(), String>, redb::Error> {
        let StateChanges { ops, quota, at_ms } = changes;
        let mut size = self.size;
        let mut next = Vec::with_capacity(ops.len());
        for op in ops {
            let current = self.look(tables, &op.key)?;
            let row = match after(op, current.filter(|row| row.is_alive(*at_ms))) {
                Ok(row) => row,
                Err(reason) => return Ok(Err(reason)),
            };
            if let Some(row) = current {
                size.keys -= 1;
                size.bytes -= bytes(&op.key, row);
            }
            if let Some(row) = &row {
                size.keys += 1;
                size.bytes += bytes(&op.key, row);
            }
            next.push(row);
        }
        if let Some(reason) = excess(self.size, size, *quota) {
            return Ok(Err(reason));
        }
        self.size = size;
        for (op, row) in ops.iter().zip(next) {
            self.version += 1;
            // `look` has put it there
            if let Some(slot) = self.keys.get_mut(&op.key) {
                slot.now = row.map(|row| Row { version: self.version, ..row });
                slot.changed = true;
            }
        }
        Ok(Ok(()))
    }

    fn look(&mut self, tables: &StateTables<'_>, key: &str) -> Result<Option<&Row>, redb::Error> {
        if !self.keys.contains_key(key) {
            let row = tables.by_key.get((self.group.as_str(), key))?;
            let now = row.map(|row| Row::decode(row.value())).transpose()?;
            let stored = now.as_ref().map(|row| row.expires_ms);
            self.keys.insert(key.to_owned(), Slot { stored, now, changed: false });
        }
        Ok(self.keys.get(key).and_then(|slot| slot.now.as_ref()))
    }
}

/// What becomes of a key by `op`; the version is not its own yet.
fn after(op: &StateOp, current: Option<&Row>) -> Result<Option<Row>, String> {
    let key = &op.key;
    let as_expected = match op.only_if {
        None => true,
        Some(Expected::Absent) => current.is_none(),
        Some(Expected::Version(version)) => current.is_some_and(|row| row.version == version),
    };
    if !as_expected {
        return Err(format!("key `{key}` has changed since it was read"));
    }
    match &op.change {
        StateChange::Put { value, expires_ms } => {
            let expires_ms = expires_ms.unwrap_or(NEVER);
            Ok(Some(Row { version: 0, expires_ms, value: value.clone() }))
        }
        StateChange::Delete => Ok(None),
        StateChange::Add(delta) => {
            let number = current.map_or(Some(0), |row| number(&row.value));
            let number = number.ok_or_else(|| format!("key `{key}` is no longer a number"))?;
            let sum = number.checked_add(*delta);
            let sum = sum.ok_or_else(|| format!("key `{key}` has grown beyond a 64-bit number"))?;
            let expires_ms = current.map_or(NEVER, |row| row.expires_ms);
            Ok(Some(Row { version: 0, expires_ms, value: sum.to_string().into() }))
        }
    }
}

fn number(value: &[u8]) -> Option<i64> {
    std::str::from_utf8(value).ok()?.parse().ok()
}

/// Why a state may not grow from `old` to `new`.
fn excess(old: StateSize, new: StateSize, quota: StateQuota) -> Option<String> {
    if new.keys > quota.keys.max(old.keys) {
        return Some(format!("the state is full: it may have {} keys", quota.keys));
    }
    (new.bytes > quota.bytes.max(old.bytes))
        .then(|| format!("the state is full: it may have {} bytes", quota.bytes))
}

impl<'tx> Transaction<'_, 'tx> {
    fn state_tables(&mut self) -> Result<&mut StateTables<'tx>, redb::Error> {
        if self.state.is_none() {
            let by_key = self.tx.open_table(STATE)?;
            let by_expiry = self.tx.open_table(STATE_EXPIRIES)?;
            let sizes = self.tx.open_table(STATE_SIZES)?;
            self.state = Some(StateTables { by_key, by_expiry, sizes });
        }
        self.state.as_mut().ok_or_else(|| redb::Error::Corrupted("no tables of state".into()))
    }

    /// The state of `group`, to be changed.
    pub(crate) fn draft(&mut self, group: &str) -> Result<Draft, redb::Error> {
        let row = self.state_tables()?.sizes.get(group)?.map(|row| row.value());
        let (keys, bytes, version) = row.unwrap_or_default();
        let size = StateSize { keys, bytes };
        Ok(Draft { group: group.to_owned(), size, version, keys: BTreeMap::new() })
    }

    /// Makes the changes of one event in `draft`, or none of them and says why.
    pub(crate) fn change(
        &mut self,
        draft: &mut Draft,
        changes: &StateChanges,
    ) -> Result<Result<(), String>, redb::Error> {
        draft.apply(self.state_tables()?, changes)
    }

    /// Writes what `draft` has become.
    pub(crate) fn put_state(&mut self, draft: Draft) -> Result<(), redb::Error> {
        let Draft { group, size, version, keys } = draft;
        let tables = self.state_tables()?;
        let mut changed = false;
        for (key, slot) in keys.into_iter().filter(|(_, slot)| slot.changed) {
            changed = true;
            if let Some(expires_ms) = slot.stored.filter(|at| *at != NEVER) {
                tables.by_expiry.remove((expires_ms, group.as_str(), key.as_str()))?;
            }
            match slot.now {
                None => drop(tables.by_key.remove((group.as_str(), key.as_str()))?),
                Some(row) => {
                    tables
                        .by_key
                        .insert((group.as_str(), key.as_str()), row.encode().as_slice())?;
                    if row.expires_ms != NEVER {
                        tables
                            .by_expiry
                            .insert((row.expires_ms, group.as_str(), key.as_str()), ())?;
                    }
                }
            }
        }
        if changed {
            tables.sizes.insert(group.as_str(), (size.keys, size.bytes, version))?;
            self.changed = true;
        }
        Ok(())
    }

    /// Makes changes outside of a settlement, each with its mark.
    pub(crate) fn write_state(
        &mut self,
        group: &str,
        writes: &[StateWrite],
    ) -> Result<Vec<Result<(), String>>, redb::Error> {
        let mut draft = self.draft(group)?;
        let mut answers = Vec::with_capacity(writes.len());
        for StateWrite { changes, mark } in writes {
            let answer = self.change(&mut draft, changes)?;
            if let (Ok(()), Some(mark)) = (&answer, mark) {
                self.mark(group, mark)?;
            }
            answers.push(answer);
        }
        self.put_state(draft)?;
        Ok(answers)
    }

    /// Removes one slice of the keys that have expired; returns how many these were and
    /// whether there may be more.
    pub(crate) fn expire_state(&mut self) -> Result<(u64, bool), redb::Error> {
        let now_ms = self.now_ms;
        let tables = self.state_tables()?;
        let mut expired = Vec::new();
        // up to and without the first key of the next millisecond
        for row in tables.by_expiry.range(..(now_ms.saturating_add(1), "", ""))?.take(SLICE) {
            let (row, _) = row?;
            let (expires_ms, group, key) = row.value();
            expired.push((expires_ms, group.to_owned(), key.to_owned()));
        }
        for (expires_ms, group, key) in &expired {
            tables.by_expiry.remove((*expires_ms, group.as_str(), key.as_str()))?;
            let row = tables.by_key.remove((group.as_str(), key.as_str()))?;
            let Some(row) = row.map(|row| Row::decode(row.value())).transpose()? else { continue };
            let size = tables.sizes.get(group.as_str())?.map(|row| row.value());
            let (keys, all, version) = size.unwrap_or_default();
            let left = (keys.saturating_sub(1), all.saturating_sub(bytes(key, &row)), version);
            tables.sizes.insert(group.as_str(), left)?;
        }
        self.changed |= !expired.is_empty();
        Ok((expired.len() as u64, expired.len() == SLICE))
    }
}

/// Reads a page of the keys of `group`.
fn page(
    tx: &ReadTransaction,
    group: &str,
    prefix: &str,
    after: Option<&str>,
    limit: usize,
    now_ms: u64,
) -> Result<Vec<(String, StateEntry)>, redb::Error> {
    let table = tx.open_table(STATE)?;
    let from = match after.filter(|after| *after >= prefix) {
        Some(after) => Bound::Excluded((group, after)),
        None => Bound::Included((group, prefix)),
    };
    let (mut page, mut bytes) = (Vec::new(), 0);
    for row in table.range::<(&str, &str)>((from, Bound::Unbounded))? {
        if page.len() >= limit || bytes >= PAGE_BYTES {
            break;
        }
        let (at, row) = row?;
        let (its_group, key) = at.value();
        if its_group != group || !key.starts_with(prefix) {
            break;
        }
        let row = Row::decode(row.value())?;
        if row.is_alive(now_ms) {
            bytes += row.value.len();
            page.push((key.to_owned(), row.entry()));
        }
    }
    Ok(page)
}

#[async_trait]
impl StateStore for Log {
    async fn get(
        &self,
        group: &str,
        key: &str,
        now_ms: u64,
    ) -> Result<Option<StateEntry>, SourceError> {
        let shared = self.shared().clone();
        let (group, key) = (group.to_owned(), key.to_owned());
        let look_up = move || {
            shared.storage.read(|tx| {
                let row = tx.open_table(STATE)?.get((&*group, &*key))?;
                let row = row.map(|row| Row::decode(row.value())).transpose()?;
                Ok(row.filter(|row| row.is_alive(now_ms)).map(Row::entry))
            })
        };
        Ok(storage::blocking(look_up).await?)
    }

    async fn list(
        &self,
        group: &str,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
        now_ms: u64,
    ) -> Result<Vec<(String, StateEntry)>, SourceError> {
        let shared = self.shared().clone();
        let (group, prefix) = (group.to_owned(), prefix.to_owned());
        let after = after.map(str::to_owned);
        let list = move || {
            let after = after.as_deref();
            shared.storage.read(|tx| page(tx, &group, &prefix, after, limit, now_ms))
        };
        Ok(storage::blocking(list).await?)
    }

    async fn size(&self, group: &str) -> Result<StateSize, SourceError> {
        let (shared, group) = (self.shared().clone(), group.to_owned());
        let look_up = move || {
            shared.storage.read(|tx| {
                let row = tx.open_table(STATE_SIZES)?.get(&*group)?.map(|row| row.value());
                let (keys, bytes, _) = row.unwrap_or_default();
                Ok(StateSize { keys, bytes })
            })
        };
        Ok(storage::blocking(look_up).await?)
    }

    async fn write(
        &self,
        group: &str,
        writes: &[StateWrite],
    ) -> Result<Vec<Result<(), String>>, SourceError> {
        if writes.is_empty() {
            return Ok(Vec::new());
        }
        let (group, writes) = (group.to_owned(), writes.to_vec());
        Ok(self.writer().call(Work::Write { group, writes }).await?.written)
    }
}
