//! Marks of handled events (contract I1 to I3): a table by event, which is asked, and one
//! by expiry, from which the oldest go in slices as part of retention.

use std::borrow::Cow;

use async_trait::async_trait;
use redb::{ReadableTable, Table};
use sandbar_core::{Mark, Marks, SourceError};

use crate::{
    Log,
    schema::{EXPIRIES, MARKS},
    storage,
    transaction::Transaction,
    writer::Work,
};

/// Longest id that is kept as it is.
const LONGEST_ID: usize = 64;
/// Begins the key of a longer one: no text contains this byte.
const HASHED: u8 = 0xff;
/// Expired marks that one transaction removes at most, so that appends never wait long
/// for it. Each may lie in a page of its own.
const SLICE: usize = 1024;

/// What stands for `id` in the tables. A short id stands for itself: two are never taken
/// for one, and ids that rise, as positions and time-ordered ones do, lie side by side,
/// so that the marks of one commit touch few pages. A long one is hashed, which bounds
/// what a mark takes.
fn key(id: &str) -> Cow<'_, [u8]> {
    if id.len() <= LONGEST_ID {
        return Cow::Borrowed(id.as_bytes());
    }
    let mut key = vec![HASHED];
    key.extend_from_slice(blake3::hash(id.as_bytes()).as_bytes());
    Cow::Owned(key)
}

/// The tables of a write transaction.
pub(crate) struct MarkTables<'tx> {
    by_event: Table<'tx, (&'static str, &'static [u8]), u64>,
    by_expiry: Table<'tx, (u64, &'static str, &'static [u8]), ()>,
}

impl<'tx> Transaction<'_, 'tx> {
    fn mark_tables(&mut self) -> Result<&mut MarkTables<'tx>, redb::Error> {
        if self.marks.is_none() {
            let by_event = self.tx.open_table(MARKS)?;
            let by_expiry = self.tx.open_table(EXPIRIES)?;
            self.marks = Some(MarkTables { by_event, by_expiry });
        }
        self.marks.as_mut().ok_or_else(|| redb::Error::Corrupted("no tables of marks".into()))
    }

    /// Marks an event, or lets its mark live longer.
    pub(crate) fn mark(&mut self, group: &str, mark: &Mark) -> Result<(), redb::Error> {
        let (key, expires_ms) = (&*key(&mark.id), mark.expires_ms);
        let tables = self.mark_tables()?;
        let known = tables.by_event.get((group, key))?.map(|expiry| expiry.value());
        match known {
            Some(later) if later >= expires_ms => return Ok(()),
            Some(sooner) => drop(tables.by_expiry.remove((sooner, group, key))?),
            None => {}
        }
        tables.by_event.insert((group, key), expires_ms)?;
        tables.by_expiry.insert((expires_ms, group, key), ())?;
        self.changed = true;
        Ok(())
    }

    /// Removes one slice of the marks that have expired; returns how many these were and
    /// whether there may be more.
    pub(crate) fn expire_marks(&mut self) -> Result<(u64, bool), redb::Error> {
        let now_ms = self.now_ms;
        let tables = self.mark_tables()?;
        let mut expired = Vec::new();
        // up to and without the first key of the next millisecond
        let until = (now_ms.saturating_add(1), "", [].as_slice());
        for row in tables.by_expiry.range(..until)?.take(SLICE) {
            let (row, _) = row?;
            let (expires_ms, group, event) = row.value();
            expired.push((expires_ms, group.to_owned(), event.to_owned()));
        }
        for (expires_ms, group, event) in &expired {
            tables.by_event.remove((&**group, &**event))?;
            tables.by_expiry.remove((*expires_ms, &**group, &**event))?;
        }
        self.changed |= !expired.is_empty();
        Ok((expired.len() as u64, expired.len() == SLICE))
    }
}

#[async_trait]
impl Marks for Log {
    async fn seen(
        &self,
        group: &str,
        ids: &[String],
        now_ms: u64,
    ) -> Result<Vec<bool>, SourceError> {
        let (shared, group) = (self.shared().clone(), group.to_owned());
        let keys: Vec<_> = ids.iter().map(|id| key(id).into_owned()).collect();
        let look_up = move || {
            shared.storage.read(|tx| {
                let marks = tx.open_table(MARKS)?;
                let seen = |key: &Vec<u8>| {
                    let expiry = marks.get((&*group, &**key))?;
                    Ok(expiry.is_some_and(|expiry| expiry.value() > now_ms))
                };
                keys.iter().map(seen).collect()
            })
        };
        Ok(storage::blocking(look_up).await?)
    }

    async fn mark(&self, group: &str, marks: &[Mark]) -> Result<(), SourceError> {
        if !marks.is_empty() {
            let (group, marks) = (group.to_owned(), marks.to_vec());
            self.writer().call(Work::Mark { group, marks }).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i1_two_ids_never_share_a_key() {
        let long = "x".repeat(LONGEST_ID + 1);
        let ids = ["", "a", "orders/0/7", "orders/0/70", &long, &long.replacen('x', "y", 1)];
        let keys: std::collections::HashSet<_> = ids.iter().map(|id| key(id)).collect();
        assert_eq!(keys.len(), ids.len());
        assert!(keys.iter().all(|k| k.len() <= LONGEST_ID));
        assert!(std::str::from_utf8(&key(&long)).is_err(), "it could be another event's id");
    }
}
