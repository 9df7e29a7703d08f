//! What a handler sees of its host in a unit test without Wasm. Each test thread has
//! its own values.
//!
//! State stays as the handler leaves it, also where it returns an error: there is no
//! attempt here that could be undone. `sandbar-test` runs a built plugin with all of that.

mod state;

use std::{cell::RefCell, collections::BTreeMap, time::Duration};

pub use self::state::{advance, clear_state};
pub(crate) use self::state::{delete, get, increment, list, set};
use crate::{
    Outgoing,
    http::{HttpError, Request, Response},
    publisher::PublishError,
};

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

/// Name and labels, these in the order of their names.
type Series = (String, Vec<(String, String)>);
type Answer = Box<dyn FnMut(Request) -> Result<Response, HttpError>>;

thread_local! {
    static SECRETS: RefCell<BTreeMap<String, Vec<u8>>> = const { RefCell::new(BTreeMap::new()) };
    static COUNTED: RefCell<BTreeMap<Series, u64>> = const { RefCell::new(BTreeMap::new()) };
    static OBSERVED: RefCell<BTreeMap<Series, Vec<f64>>> = const { RefCell::new(BTreeMap::new()) };
    static ANSWER: RefCell<Option<Answer>> = const { RefCell::new(None) };
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

/// Replaces all secrets of this thread.
pub fn set_secrets<K: Into<String>, V: Into<Vec<u8>>>(values: impl IntoIterator<Item = (K, V)>) {
    SECRETS.set(values.into_iter().map(|(k, v)| (k.into(), v.into())).collect());
}

/// Answers the requests of this thread from now on; without it every host is
/// [denied](HttpError::Denied).
pub fn on_request(answer: impl FnMut(Request) -> Result<Response, HttpError> + 'static) {
    ANSWER.set(Some(Box::new(answer)));
}

/// What this thread has added to a counter.
pub fn counted(name: &str, labels: &[(&str, &str)]) -> u64 {
    COUNTED.with_borrow(|all| all.get(&series(name, labels)).copied().unwrap_or(0))
}

/// What this thread has added to a histogram, in order.
pub fn observed(name: &str, labels: &[(&str, &str)]) -> Vec<f64> {
    OBSERVED.with_borrow(|all| all.get(&series(name, labels)).cloned().unwrap_or_default())
}

fn series(name: &str, labels: &[(&str, &str)]) -> Series {
    let mut labels: Vec<_> = labels.iter().map(|&(n, v)| (n.to_owned(), v.to_owned())).collect();
    labels.sort();
    (name.to_owned(), labels)
}

pub(crate) fn secret(name: &str) -> Option<Vec<u8>> {
    SECRETS.with_borrow(|all| all.get(name).cloned())
}

pub(crate) fn count(name: &str, delta: u64, labels: &[(&str, &str)]) {
    COUNTED.with_borrow_mut(|all| *all.entry(series(name, labels)).or_default() += delta);
}

pub(crate) fn observe(name: &str, value: f64, labels: &[(&str, &str)]) {
    OBSERVED.with_borrow_mut(|all| all.entry(series(name, labels)).or_default().push(value));
}

pub(crate) fn send(request: Request) -> Result<Response, HttpError> {
    ANSWER.with_borrow_mut(|answer| match answer {
        Some(answer) => answer(request),
        None => Err(HttpError::Denied(request.url)),
    })
}

pub(crate) fn config<T>(read: impl FnOnce(&BTreeMap<String, String>) -> T) -> T {
    CONFIG.with_borrow(read)
}

pub(crate) fn context<T>(read: impl FnOnce(&Context) -> T) -> T {
    CONTEXT.with_borrow(read)
}
