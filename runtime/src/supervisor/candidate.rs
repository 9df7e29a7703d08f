//! From a plugin's files to a version that could serve. Nothing that runs is touched.

use std::sync::Arc;

use sandbar_wasm::Generation;
use tokio::{sync::OwnedSemaphorePermit, time::Instant};

use super::{Shared, Version, plugin::Counters, running, setback::Setback};
use crate::{
    config::{Declared, PluginConfig},
    plugin_file::{self, Contents, PluginFile},
};

/// What tells one content of a plugin's files from another.
#[derive(Clone, PartialEq)]
pub(super) struct Fingerprint {
    wasm: blake3::Hash,
    settings: Option<String>,
}

/// The files as they were read.
pub(super) struct Found {
    contents: Contents,
    pub(super) fingerprint: Fingerprint,
    begun: Instant,
}

/// A version that loaded and does not serve yet.
pub(super) struct Candidate {
    pub(super) generation: Arc<Generation>,
    pub(super) config: Arc<PluginConfig>,
    pub(super) version: Version,
    pub(super) fingerprint: Fingerprint,
}

/// Reads the files, away from the async threads.
pub(super) async fn read(file: PluginFile) -> Result<Found, Setback> {
    let begun = Instant::now();
    let reading = tokio::task::spawn_blocking(move || {
        let contents = plugin_file::read(&file)?;
        let wasm = blake3::hash(&contents.wasm);
        let fingerprint = Fingerprint { wasm, settings: contents.settings.clone() };
        Ok(Found { contents, fingerprint, begun })
    });
    reading.await.map_err(|panic| Setback::Refused(format!("reading failed: {panic}")))?
}

impl Candidate {
    /// Compiles the plugin, asks it what it is, merges that with the settings, and
    /// tries it. `None` where the settings switch it off.
    pub(super) async fn load(
        shared: &Shared,
        name: &str,
        file: &PluginFile,
        found: Found,
        turn: Option<OwnedSemaphorePermit>,
        counters: &Counters,
    ) -> Result<Option<Self>, Setback> {
        let Shared { config, host, .. } = shared;
        let Found { contents: Contents { wasm, settings }, fingerprint, begun } = found;
        let sidecar = settings.map(|text| config.sidecar(&file.settings, &text)).transpose()?;
        if !config.is_enabled(name, sidecar.as_ref()) {
            return Ok(None);
        }
        let size = wasm.len();
        let examined = host.examine(wasm).await?;
        // it is compiled; its `init` may take long and must not keep others waiting
        drop(turn);
        let declared = match &examined.inspection().description {
            Some(description) => Declared::new(name, description)?,
            None => Declared::default(),
        };
        let config = Arc::new(config.plugin(name, &declared, sidecar.as_ref())?);
        let spec = running::load_spec(shared, &config, counters).await?;
        let generation = host.load_examined(examined, spec).await?;
        let version = Version::new(&generation, size, begun.elapsed());
        Ok(Some(Self { generation, config, version, fingerprint }))
    }
}
