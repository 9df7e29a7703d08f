//! What a handler sees of its host in a unit test without Wasm. Each test thread has
//! its own values.
//!
//! State stays as the handler leaves it, also where it returns an error: there is no
//! attempt here that could be undone. `sandbar-test` runs a built plugin with all of that.

mod state;

use std::{cell::RefCell, collections::BTreeMap, time::Duration};

pub use self::state::{advance, clear_state};
pub(crate) use self::state::{delete, get, increment, list, set};
use crate::{Outgoing, publisher::PublishError};

/// What [`context`](crate::context) answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Context {
    /// See [`plugin_name`](crate::context::plugin_name).
    pub plugin_name: String,
    /// See [`plugin_version`](crate::context::plugin_version).
    pub plugin_version: String,
    /// See [`connection`](crate::context::connection).
    pub connection: String,
    /// See [`remaining`](crate::context::remaining).
    pub remaining: Duration,
}

impl Default for Context {
    fn default() -> Self {
        Self {
            plugin_name: "test".to_owned(),
            plugin_version: "0.0.0".to_owned(),
            connection: "test".to_owned(),
            remaining: Duration::from_secs(10),
        }
    }
}

thread_local! {
    static CONFIG: RefCell<BTreeMap<String, String>> = const { RefCell::new(BTreeMap::new()) };
    static CONTEXT: RefCell<Context> = RefCell::default();
    static PUBLISHED: RefCell<Vec<Outgoing>> = const { RefCell::new(Vec::new()) };
    static REFUSAL: RefCell<Option<PublishError>> = const { RefCell::new(None) };
}

/// What was published through [`publisher`](crate::publisher) since this was asked last.
pub fn published() -> Vec<Outgoing> {
    PUBLISHED.take()
}

/// Lets [`publisher`](crate::publisher) fail with `error` from now on, or succeed again.
pub fn refuse_publishing(error: impl Into<Option<PublishError>>) {
    REFUSAL.set(error.into());
}

pub(crate) fn publish(events: Vec<Outgoing>) -> Result<(), PublishError> {
    match REFUSAL.with_borrow(Clone::clone) {
        Some(error) => Err(error),
        None => {
            PUBLISHED.with_borrow_mut(|published| published.extend(events));
            Ok(())
        }
    }
}

/// Replaces the whole configuration of this thread.
pub fn set_config<K: Into<String>, V: Into<String>>(values: impl IntoIterator<Item = (K, V)>) {
    let values = values.into_iter().map(|(k, v)| (k.into(), v.into())).collect();
    CONFIG.set(values);
}

/// Replaces the context of this thread.
pub fn set_context(context: Context) {
    CONTEXT.set(context);
}

pub(crate) fn config<T>(read: impl FnOnce(&BTreeMap<String, String>) -> T) -> T {
    CONFIG.with_borrow(read)
}

pub(crate) fn context<T>(read: impl FnOnce(&Context) -> T) -> T {
    CONTEXT.with_borrow(read)
}
