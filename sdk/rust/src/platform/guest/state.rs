//! `sandbar:events/state`.

use std::time::Duration;

use super::base::sandbar::events::state::{self as host, StateError as Trouble};
use crate::{
    failure::millis,
    state::{Entry, StateError, Version},
};

fn error(trouble: Trouble) -> StateError {
    match trouble {
        Trouble::Conflict => StateError::Conflict,
        Trouble::QuotaExceeded(what) => StateError::QuotaExceeded(what),
        Trouble::Unavailable(reason) => StateError::Unavailable(reason),
        Trouble::Other(reason) => StateError::Other(reason),
    }
}

pub(crate) fn state_get(key: &str) -> Result<Option<Entry>, StateError> {
    let entry = |entry: host::Entry| Entry { value: entry.value, version: Version(entry.version) };
    host::get(key).map(|found| found.map(entry)).map_err(error)
}

pub(crate) fn state_set(key: &str, value: &[u8], ttl: Option<Duration>) -> Result<(), StateError> {
    host::set(key, value, ttl.map(millis)).map_err(error)
}

pub(crate) fn state_compare_and_set(
    key: &str,
    value: &[u8],
    expected: Option<Version>,
    ttl: Option<Duration>,
) -> Result<(), StateError> {
    let expected = expected.map(|Version(version)| version);
    host::compare_and_set(key, value, expected, ttl.map(millis)).map_err(error)
}

pub(crate) fn state_increment(key: &str, delta: i64) -> Result<i64, StateError> {
    host::increment(key, delta).map_err(error)
}

pub(crate) fn state_delete(key: &str) -> Result<(), StateError> {
    host::delete(key).map_err(error)
}

pub(crate) fn state_list(
    prefix: &str,
    after: Option<&str>,
    limit: u32,
) -> Result<Vec<String>, StateError> {
    host::list_keys(prefix, after, limit).map_err(error)
}
