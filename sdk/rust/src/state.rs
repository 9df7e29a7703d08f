//! What the plugin remembers from event to event: durable keys and values of its own,
//! shared by its instances and kept over reloads. Needs the grant `state`.
//!
//! A call sees what it writes at once. Others see it when the event is acknowledged, and
//! never if the attempt fails: a retry starts from clean state.
//!
//! ```
//! use std::time::Duration;
//! use sandbar_sdk::{Failure, state};
//!
//! #[derive(serde::Serialize, serde::Deserialize, Default)]
//! struct Delays {
//!     flights: u32,
//!     minutes: i64,
//! }
//!
//! fn note(tail: &str, minutes: i64) -> Result<(), Failure> {
//!     // events of one key are handled one after the other: nobody comes in between
//!     let mut delays: Delays = state::get_json(tail)?.unwrap_or_default();
//!     delays.flights += 1;
//!     delays.minutes += minutes;
//!     state::set_json(tail, &delays)?;
//!     // a key that events of many keys change: counters add up, whoever comes first
//!     state::increment("flights", 1)?;
//!     // gone by itself after a day
//!     state::set_for("last", tail, Duration::from_secs(86_400))?;
//!     Ok(())
//! }
//!
//! // in a unit test state is in memory, each test thread has its own
//! note("N14228", 7)?;
//! note("N14228", 3)?;
//! let delays: Delays = state::get_json("N14228")?.unwrap();
//! assert_eq!((delays.flights, delays.minutes), (2, 10));
//! assert_eq!(state::get("flights")?.as_deref(), Some(&b"2"[..]));
//! # Ok::<(), Failure>(())
//! ```

use std::{collections::VecDeque, fmt, time::Duration};

use serde::{Serialize, de::DeserializeOwned};

use crate::{Failure, platform};

/// Keys asked for at once.
const PAGE: u32 = 256;
/// Attempts of [`update_json`]: another event may come between a read and its write.
const UPDATES: usize = 10;

/// Why state could not be read or written.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum StateError {
    /// The key is not what was expected.
    Conflict,
    /// More keys or bytes than the plugin may keep. Says which, and the limit.
    QuotaExceeded(String),
    /// The store does not answer now.
    Unavailable(String),
    /// The value is no JSON of the type that was asked for, or cannot become one.
    Json {
        /// Which key.
        key: String,
        /// What is wrong with it, and where.
        reason: String,
    },
    /// A key that cannot be, a value that is no number, ...
    Other(String),
}

impl fmt::Display for StateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Conflict => f.write_str("state: the key is not what was expected"),
            Self::QuotaExceeded(what) => write!(f, "state: {what}"),
            Self::Unavailable(reason) => write!(f, "state is away: {reason}"),
            Self::Json { key, reason } => write!(f, "state `{key}`: {reason}"),
            Self::Other(reason) => write!(f, "state: {reason}"),
        }
    }
}

impl std::error::Error for StateError {}

/// Worth a retry, but for a value that cannot be read.
impl From<StateError> for Failure {
    fn from(error: StateError) -> Self {
        match error {
            StateError::Json { .. } => Self::reject("state-json", error.to_string()),
            _ => Self::retry(error.to_string()),
        }
    }
}

/// The version of a key: a new one after each change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Version(pub(crate) u64);

/// The value of a key and its version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The value.
    pub value: Vec<u8>,
    /// For [`compare_and_set`].
    pub version: Version,
}

impl Entry {
    /// The value as JSON.
    ///
    /// # Errors
    /// [`StateError::Json`], with `key` as the key's name.
    pub fn json<T: DeserializeOwned>(&self, key: &str) -> Result<T, StateError> {
        serde_json::from_slice(&self.value)
            .map_err(|error| StateError::Json { key: key.to_owned(), reason: error.to_string() })
    }
}

/// The value of `key`, where there is one.
///
/// # Errors
/// [`StateError`].
pub fn get(key: &str) -> Result<Option<Vec<u8>>, StateError> {
    Ok(entry(key)?.map(|entry| entry.value))
}

/// The value of `key` as JSON, where there is one.
///
/// # Errors
/// [`StateError`].
pub fn get_json<T: DeserializeOwned>(key: &str) -> Result<Option<T>, StateError> {
    entry(key)?.map(|entry| entry.json(key)).transpose()
}

/// The value of `key` and its version, where there is one.
///
/// # Errors
/// [`StateError`].
pub fn entry(key: &str) -> Result<Option<Entry>, StateError> {
    platform::state_get(key)
}

/// Sets `key`, until somebody changes it.
///
/// # Errors
/// [`StateError`].
pub fn set(key: &str, value: impl AsRef<[u8]>) -> Result<(), StateError> {
    platform::state_set(key, value.as_ref(), None)
}

/// Sets `key`; it is gone by itself after `ttl`.
///
/// # Errors
/// [`StateError`].
pub fn set_for(key: &str, value: impl AsRef<[u8]>, ttl: Duration) -> Result<(), StateError> {
    platform::state_set(key, value.as_ref(), Some(ttl))
}

/// Sets `key` to a value as JSON.
///
/// # Errors
/// [`StateError`].
pub fn set_json<T: Serialize + ?Sized>(key: &str, value: &T) -> Result<(), StateError> {
    set(key, to_json(key, value)?)
}

/// Sets `key` to a value as JSON; it is gone by itself after `ttl`.
///
/// # Errors
/// [`StateError`].
pub fn set_json_for<T: Serialize + ?Sized>(
    key: &str,
    value: &T,
    ttl: Duration,
) -> Result<(), StateError> {
    set_for(key, to_json(key, value)?, ttl)
}

/// Sets `key` if its version is `expected`; `None` means that it must not exist. If
/// another event changes it before this one is acknowledged, the host handles this event
/// again from clean state.
///
/// # Errors
/// [`StateError::Conflict`] where it is something else already.
pub fn compare_and_set(
    key: &str,
    value: impl AsRef<[u8]>,
    expected: Option<Version>,
) -> Result<(), StateError> {
    platform::state_compare_and_set(key, value.as_ref(), expected, None)
}

/// As [`compare_and_set`]; the key is gone by itself after `ttl`.
///
/// # Errors
/// As there.
pub fn compare_and_set_for(
    key: &str,
    value: impl AsRef<[u8]>,
    expected: Option<Version>,
    ttl: Duration,
) -> Result<(), StateError> {
    platform::state_compare_and_set(key, value.as_ref(), expected, Some(ttl))
}

/// Changes `key` so that no change of another event is lost, whatever its key: what
/// `change` makes of the value as JSON (`None` where there is none) becomes the value.
/// Returns it.
///
/// ```
/// use sandbar_sdk::state;
///
/// let longest = state::update_json("longest", |so_far: Option<u32>| so_far.unwrap_or(0).max(7))?;
/// assert_eq!(longest, 7);
/// # Ok::<(), state::StateError>(())
/// ```
///
/// # Errors
/// [`StateError`].
pub fn update_json<T: Serialize + DeserializeOwned>(
    key: &str,
    mut change: impl FnMut(Option<T>) -> T,
) -> Result<T, StateError> {
    for _ in 0..UPDATES {
        let entry = entry(key)?;
        let expected = entry.as_ref().map(|entry| entry.version);
        let new = change(entry.map(|entry| entry.json(key)).transpose()?);
        match compare_and_set(key, to_json(key, &new)?, expected) {
            Ok(()) => return Ok(new),
            Err(StateError::Conflict) => {}
            Err(error) => return Err(error),
        }
    }
    Err(StateError::Conflict)
}

/// Adds to a counter, which is 0 where there is none, and returns the sum as this call
/// sees it. What concurrent events add is added, too. Its value is a decimal number.
///
/// # Errors
/// [`StateError`].
pub fn increment(key: &str, delta: i64) -> Result<i64, StateError> {
    platform::state_increment(key, delta)
}

/// Deletes `key`, whether it is there or not.
///
/// # Errors
/// [`StateError`].
pub fn delete(key: &str) -> Result<(), StateError> {
    platform::state_delete(key)
}

/// The keys that begin with `prefix`, in byte order. They are read in pages while they
/// are asked for.
///
/// ```
/// use sandbar_sdk::state;
///
/// for key in ["b/1", "a/2", "a/1"] {
///     state::set(key, "")?;
/// }
/// let keys: Vec<String> = state::keys("a/").collect::<Result<_, _>>()?;
/// assert_eq!(keys, ["a/1", "a/2"]);
/// # Ok::<(), state::StateError>(())
/// ```
pub fn keys(prefix: impl Into<String>) -> Keys {
    Keys { prefix: prefix.into(), page: VecDeque::new(), last: None, ended: false }
}

/// Keys in byte order: see [`keys`].
#[derive(Debug)]
pub struct Keys {
    prefix: String,
    page: VecDeque<String>,
    last: Option<String>,
    ended: bool,
}

impl Iterator for Keys {
    type Item = Result<String, StateError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.page.is_empty() && !self.ended {
            match platform::state_list(&self.prefix, self.last.as_deref(), PAGE) {
                Ok(page) => self.page = page.into(),
                Err(error) => {
                    self.ended = true;
                    return Some(Err(error));
                }
            }
            self.ended = self.page.is_empty();
        }
        let key = self.page.pop_front()?;
        self.last = Some(key.clone());
        Some(Ok(key))
    }
}

fn to_json<T: Serialize + ?Sized>(key: &str, value: &T) -> Result<Vec<u8>, StateError> {
    serde_json::to_vec(value)
        .map_err(|error| StateError::Json { key: key.to_owned(), reason: error.to_string() })
}
