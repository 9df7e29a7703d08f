//! State that lasts as long as a test.

use std::{collections::BTreeMap, sync::Arc};

use anyhow::{Result, anyhow};
use bytes::Bytes;
use sandbar_core::{SourceError, StateChange, StateChanges, StateOp, StateQuota, StateWrite};
use sandbar_store::{Log, LogConfig};
use sandbar_wasm::StateSource;

/// Keys read at a time.
const READ: usize = 1000;

/// A store in memory, with these keys in the state of `group`.
pub(crate) async fn store(
    group: String,
    now_ms: Arc<dyn Fn() -> u64 + Send + Sync>,
    keys: BTreeMap<String, Bytes>,
) -> Result<StateSource> {
    let store = Arc::new(Log::in_memory(LogConfig::default())?);
    let source = StateSource { store, group, now_ms };
    let put = |(key, value)| StateOp {
        key,
        only_if: None,
        change: StateChange::Put { value, expires_ms: None },
    };
    let ops: Vec<_> = keys.into_iter().map(put).collect();
    if !ops.is_empty() {
        let (quota, at_ms) = (StateQuota::UNLIMITED, (source.now_ms)());
        write(&source, StateChanges { ops, quota, at_ms }).await.map_err(|e| anyhow!(e))?;
    }
    Ok(source)
}

/// Makes the changes of an acknowledged event, or says why not.
pub(crate) async fn write(source: &StateSource, changes: StateChanges) -> Result<(), String> {
    let write = StateWrite { changes, mark: None };
    let written = source.store.write(&source.group, &[write]).await.map_err(|e| e.to_string())?;
    written.into_iter().collect()
}

/// All keys and values that are there now.
pub(crate) async fn all(source: &StateSource) -> Result<BTreeMap<String, Bytes>, SourceError> {
    let StateSource { store, group, now_ms } = source;
    let (mut all, mut after) = (BTreeMap::new(), None);
    loop {
        let page = store.list(group, "", after.as_deref(), READ, now_ms()).await?;
        let Some((last, _)) = page.last() else { return Ok(all) };
        after = Some(last.clone());
        all.extend(page.into_iter().map(|(key, entry)| (key, entry.value)));
    }
}
