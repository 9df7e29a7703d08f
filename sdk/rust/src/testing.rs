//! What a handler sees of its host in a unit test without Wasm. Each test thread has
//! its own values.

use std::{cell::RefCell, collections::BTreeMap, time::Duration};

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
