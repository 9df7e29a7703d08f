//! Stand-ins for the imports, so that handlers run in unit tests.

use std::time::Duration;

use crate::{
    Outgoing,
    http::{HttpError, Request, Response},
    publisher::PublishError,
    state::{Entry, StateError, Version},
    testing::{self, config, context},
};

pub(crate) fn config_get(key: &str) -> Result<Option<String>, String> {
    Ok(config(|values| values.get(key).cloned()))
}

pub(crate) fn config_all() -> Result<Vec<(String, String)>, String> {
    Ok(config(|values| values.iter().map(|(k, v)| (k.clone(), v.clone())).collect()))
}

pub(crate) fn plugin_name() -> String {
    context(|c| c.plugin_name.clone())
}

pub(crate) fn plugin_version() -> String {
    context(|c| c.plugin_version.clone())
}

pub(crate) fn connection() -> String {
    context(|c| c.connection.clone())
}

pub(crate) fn remaining() -> Duration {
    context(|c| c.remaining)
}

pub(crate) fn publish(events: Vec<Outgoing>) -> Result<(), PublishError> {
    testing::publish(events)
}

fn check(key: &str) -> Result<(), StateError> {
    match key {
        "" => Err(StateError::Other("a key may not be empty".into())),
        _ => Ok(()),
    }
}

pub(crate) fn state_get(key: &str) -> Result<Option<Entry>, StateError> {
    check(key)?;
    Ok(testing::get(key))
}

pub(crate) fn state_set(key: &str, value: &[u8], ttl: Option<Duration>) -> Result<(), StateError> {
    check(key)?;
    testing::set(key, value, ttl);
    Ok(())
}

pub(crate) fn state_compare_and_set(
    key: &str,
    value: &[u8],
    expected: Option<Version>,
    ttl: Option<Duration>,
) -> Result<(), StateError> {
    check(key)?;
    if testing::get(key).map(|entry| entry.version) != expected {
        return Err(StateError::Conflict);
    }
    testing::set(key, value, ttl);
    Ok(())
}

pub(crate) fn state_increment(key: &str, delta: i64) -> Result<i64, StateError> {
    check(key)?;
    testing::increment(key, delta)
}

pub(crate) fn state_delete(key: &str) -> Result<(), StateError> {
    check(key)?;
    testing::delete(key);
    Ok(())
}

pub(crate) fn state_list(
    prefix: &str,
    after: Option<&str>,
    limit: u32,
) -> Result<Vec<String>, StateError> {
    Ok(testing::list(prefix, after, limit as usize))
}

pub(crate) fn secret(name: &str) -> Option<Vec<u8>> {
    testing::secret(name)
}

pub(crate) fn count(name: &str, delta: u64, labels: &[(&str, &str)]) {
    testing::count(name, delta, labels);
}

pub(crate) fn observe(name: &str, value: f64, labels: &[(&str, &str)]) {
    testing::observe(name, value, labels);
}

pub(crate) fn send(request: Request) -> Result<Response, HttpError> {
    testing::send(request)
}
