//! `sandbar:events/state`: what a plugin remembers from event to event.
//!
//! A call reads the store and writes into an [`Overlay`] of its own. Once it has returned
//! well, the overlay becomes [`StateChanges`] that travel with its outcome and are made
//! with the acknowledgement of its event; in every other case it is dropped.

mod overlay;

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use sandbar_core::{SourceError, StateEntry, StateQuota, StateSize, StateStore};
use wasmtime::component::{HasData, Linker};

pub(crate) use self::overlay::Overlay;
use self::overlay::Trouble;
use crate::{
    bindings::sandbar::events::state::{self, Entry, Host, StateError},
    state::State,
};

/// Keys listed at once.
const MOST_LISTED: usize = 1000;

/// Where a plugin keeps its state.
#[derive(Clone)]
pub struct StateSource {
    /// Keeps it.
    pub store: Arc<dyn StateStore>,
    /// Whose it is there.
    pub group: String,
    /// The time of day, milliseconds since the Unix epoch: what expires, expires by it.
    pub now_ms: Arc<dyn Fn() -> u64 + Send + Sync>,
}

impl fmt::Debug for StateSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StateSource").field("group", &self.group).finish_non_exhaustive()
    }
}

/// The state of one plugin, and how much there may be.
#[derive(Debug)]
pub(crate) struct StateAccess {
    pub(crate) source: StateSource,
    pub(crate) quota: StateQuota,
}

impl StateAccess {
    async fn get(&self, key: &str, now_ms: u64) -> Result<Option<StateEntry>, Trouble> {
        let StateSource { store, group, .. } = &self.source;
        Ok(store.get(group, key, now_ms).await?)
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
        now_ms: u64,
    ) -> Result<Vec<(String, StateEntry)>, Trouble> {
        let StateSource { store, group, .. } = &self.source;
        Ok(store.list(group, prefix, after, limit, now_ms).await?)
    }

    async fn size(&self) -> Result<StateSize, Trouble> {
        let StateSource { store, group, .. } = &self.source;
        Ok(store.size(group).await?)
    }
}

/// The state that one call sees, borrowed for one host call.
pub(crate) struct StateView<'a> {
    access: Option<&'a StateAccess>,
    overlay: &'a mut Overlay,
}

struct Kept;

impl HasData for Kept {
    type Data<'a> = StateView<'a>;
}

pub(crate) fn add_to_linker(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    state::add_to_linker::<State, Kept>(linker, |state| StateView {
        access: state.facts.state.as_ref(),
        overlay: &mut state.overlay,
    })
}

impl<'a> StateView<'a> {
    fn open(&mut self) -> Result<(&'a StateAccess, &mut Overlay), Trouble> {
        let nowhere = || Trouble::Unavailable("this host keeps no state".into());
        let access = self.access.ok_or_else(nowhere)?;
        self.overlay.begin(access.source.now_ms.as_ref());
        Ok((access, &mut *self.overlay))
    }
}

impl Host for StateView<'_> {
    async fn get(&mut self, key: String) -> wasmtime::Result<Result<Option<Entry>, StateError>> {
        let get = async {
            let (access, overlay) = self.open()?;
            overlay.get(access, &key).await
        };
        Ok(get.await.map(|found| found.map(entry)).map_err(error))
    }

    async fn set(
        &mut self,
        key: String,
        value: Vec<u8>,
        ttl_ms: Option<u64>,
    ) -> wasmtime::Result<Result<(), StateError>> {
        let set = async {
            let (access, overlay) = self.open()?;
            overlay.set(access, key, Bytes::from(value), ttl_ms.map(Duration::from_millis)).await
        };
        Ok(set.await.map_err(error))
    }

    async fn compare_and_set(
        &mut self,
        key: String,
        value: Vec<u8>,
        expected: Option<u64>,
        ttl_ms: Option<u64>,
    ) -> wasmtime::Result<Result<(), StateError>> {
        let set = async {
            let (access, overlay) = self.open()?;
            let (value, ttl) = (Bytes::from(value), ttl_ms.map(Duration::from_millis));
            overlay.compare_and_set(access, key, value, expected, ttl).await
        };
        Ok(set.await.map_err(error))
    }

    async fn increment(
        &mut self,
        key: String,
        delta: i64,
    ) -> wasmtime::Result<Result<i64, StateError>> {
        let increment = async {
            let (access, overlay) = self.open()?;
            overlay.increment(access, key, delta).await
        };
        Ok(increment.await.map_err(error))
    }

    async fn delete(&mut self, key: String) -> wasmtime::Result<Result<(), StateError>> {
        let delete = async {
            let (access, overlay) = self.open()?;
            overlay.delete(access, key).await
        };
        Ok(delete.await.map_err(error))
    }

    async fn list_keys(
        &mut self,
        prefix: String,
        cursor: Option<String>,
        limit: u32,
    ) -> wasmtime::Result<Result<Vec<String>, StateError>> {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX).min(MOST_LISTED);
        let list = async {
            let (access, overlay) = self.open()?;
            overlay.list(access, &prefix, cursor.as_deref(), limit).await
        };
        Ok(list.await.map_err(error))
    }
}

fn entry(entry: StateEntry) -> Entry {
    Entry { value: entry.value.to_vec(), version: entry.version }
}

fn error(trouble: Trouble) -> StateError {
    match trouble {
        Trouble::Conflict => StateError::Conflict,
        Trouble::Quota(reason) => StateError::QuotaExceeded(reason),
        Trouble::Unavailable(reason) => StateError::Unavailable(reason),
        Trouble::Other(reason) => StateError::Other(reason),
    }
}

impl From<SourceError> for Trouble {
    fn from(error: SourceError) -> Self {
        match error {
            SourceError::Unavailable(reason) => Self::Unavailable(reason),
            other => Self::Other(other.to_string()),
        }
    }
}
