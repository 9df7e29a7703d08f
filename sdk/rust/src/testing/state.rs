//! State in memory, with a clock that the test moves.

use std::{cell::RefCell, collections::BTreeMap, time::Duration};

use crate::state::{Entry, StateError, Version};

#[derive(Debug, Default)]
struct Kept {
    keys: BTreeMap<String, (Entry, Option<Duration>)>,
    versions: u64,
    now: Duration,
}

thread_local! {
    static KEPT: RefCell<Kept> = RefCell::default();
}

/// Forgets all state of this thread.
pub fn clear_state() {
    KEPT.take();
}

/// Lets so much time go by for what [`state`](crate::state) keeps for a while.
pub fn advance(time: Duration) {
    KEPT.with_borrow_mut(|kept| kept.now += time);
}

impl Kept {
    fn get(&self, key: &str) -> Option<&(Entry, Option<Duration>)> {
        self.keys.get(key).filter(|(_, expires)| expires.is_none_or(|at| at > self.now))
    }

    fn set(&mut self, key: &str, value: &[u8], expires: Option<Duration>) {
        self.versions += 1;
        let entry = Entry { value: value.to_vec(), version: Version(self.versions) };
        self.keys.insert(key.to_owned(), (entry, expires));
    }
}

pub(crate) fn get(key: &str) -> Option<Entry> {
    KEPT.with_borrow(|kept| kept.get(key).map(|(entry, _)| entry.clone()))
}

pub(crate) fn set(key: &str, value: &[u8], ttl: Option<Duration>) {
    KEPT.with_borrow_mut(|kept| {
        let expires = ttl.map(|ttl| kept.now.saturating_add(ttl));
        kept.set(key, value, expires);
    });
}

pub(crate) fn increment(key: &str, delta: i64) -> Result<i64, StateError> {
    KEPT.with_borrow_mut(|kept| {
        let (before, expires) = match kept.get(key) {
            None => (0, None),
            Some((entry, expires)) => {
                let number = str::from_utf8(&entry.value).ok().and_then(|text| text.parse().ok());
                let no_number = || StateError::Other(format!("the value of `{key}` is no number"));
                (number.ok_or_else(no_number)?, *expires)
            }
        };
        let too_large =
            || StateError::Other(format!("`{key}` would exceed a signed 64-bit number"));
        let sum = i64::checked_add(before, delta).ok_or_else(too_large)?;
        kept.set(key, sum.to_string().as_bytes(), expires);
        Ok(sum)
    })
}

pub(crate) fn delete(key: &str) {
    KEPT.with_borrow_mut(|kept| kept.keys.remove(key));
}

pub(crate) fn list(prefix: &str, after: Option<&str>, limit: usize) -> Vec<String> {
    KEPT.with_borrow(|kept| {
        let keys = kept.keys.keys().filter(|key| key.starts_with(prefix));
        let keys = keys.filter(|key| after.is_none_or(|after| key.as_str() > after));
        keys.filter(|key| kept.get(key).is_some()).take(limit).cloned().collect()
    })
}

#[cfg(test)]
mod tests {
    use crate::{
        state::{self, StateError},
        testing,
    };

    use super::*;

    #[test]
    fn what_is_kept_for_a_while_goes_by_itself() {
        state::set_for("a", "1", Duration::from_secs(10)).unwrap();
        assert_eq!(state::increment("a", 1).unwrap(), 2);
        testing::advance(Duration::from_secs(9));
        assert_eq!(state::get("a").unwrap().unwrap(), b"2", "a counter keeps its time");
        testing::advance(Duration::from_secs(1));
        assert_eq!(state::get("a").unwrap(), None);
        assert_eq!(state::increment("a", 1).unwrap(), 1);
    }

    #[test]
    fn a_stale_version_is_a_conflict() {
        state::compare_and_set("a", "1", None).unwrap();
        assert_eq!(state::compare_and_set("a", "2", None), Err(StateError::Conflict));
        let seen = state::entry("a").unwrap().unwrap();
        state::compare_and_set("a", "2", Some(seen.version)).unwrap();
        assert_eq!(state::compare_and_set("a", "3", Some(seen.version)), Err(StateError::Conflict));
        state::delete("a").unwrap();
        state::set("a", "1").unwrap();
        let again = state::entry("a").unwrap().unwrap();
        assert_ne!(again.version, seen.version, "it was gone in between");
    }

    #[test]
    fn errors_name_the_key_and_what_is_wrong() {
        state::set("n", "many").unwrap();
        let no_number = state::increment("n", 1).unwrap_err();
        assert_eq!(no_number.to_string(), "state: the value of `n` is no number");
        let no_json = state::get_json::<u32>("n").unwrap_err();
        assert!(no_json.to_string().starts_with("state `n`: "), "{no_json}");
        assert!(matches!(crate::Failure::from(no_json), crate::Failure::Reject { .. }));
        assert!(state::set("", "x").is_err());
        testing::clear_state();
        assert_eq!(state::get("n").unwrap(), None);
    }

    #[test]
    fn more_keys_than_a_page_are_listed_in_order() {
        for n in 0..600 {
            state::set(&format!("k/{n:03}"), "").unwrap();
        }
        let keys: Vec<_> = state::keys("k/").map(Result::unwrap).collect();
        assert_eq!(keys.len(), 600);
        assert!(keys.is_sorted());
        assert_eq!(state::keys("k/59").count(), 10);
    }
}
