//! The plugins folder as it is now, for commands that look at it once.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use sandbar::{
    config::{Config, ConfigError, Declared, PluginConfig, SidecarFile},
    plugin_file::{self, PluginFile},
};
use sandbar_pipeline::Environment;
use sandbar_store::{Log, LogConfig};
use sandbar_wasm::{Examined, Grant, Host, HostConfig, LoadSpec, StateSource};
use std::sync::Arc;

/// The plugins of a folder, by name.
///
/// # Errors
/// Where the folder cannot be read.
pub fn plugins(folder: &Path) -> Result<BTreeMap<String, PluginFile>> {
    let listing = plugin_file::list(folder)
        .with_context(|| format!("cannot read the plugins folder {}", folder.display()))?;
    let file = |(name, stamps): (String, _)| {
        let path = |ending| folder.join(format!("{name}.{ending}"));
        let file = PluginFile { wasm: path("wasm"), settings: path("toml"), stamps, revision: 0 };
        (name, file)
    };
    Ok(listing.plugins.into_iter().map(file).collect())
}

/// A host that shares its cache of compiled plugins with `sandbar run`.
///
/// # Errors
/// Where the host cannot be made.
pub fn host(config: &Config) -> Result<Arc<Host>> {
    let cache = config.data_folder.join("cache");
    // looking at plugins must not leave a data folder behind
    let cache_dir = config.data_folder.exists().then_some(cache);
    Ok(Host::new(HostConfig { cache_dir, ..HostConfig::default() })?)
}

/// What is known of a plugin without running it.
pub struct Known {
    pub plugin: Examined,
    /// Its complete settings, or why there are none.
    pub config: Result<PluginConfig, ConfigError>,
}

/// Compiles a plugin, asks it what it is, and merges its settings.
///
/// # Errors
/// Where the file is no plugin.
pub async fn inspect(
    host: &Host,
    config: &Config,
    name: &str,
    wasm: Bytes,
    sidecar: Option<&SidecarFile>,
) -> Result<Known> {
    let plugin = host.examine(wasm).await?;
    let declared = match &plugin.inspection().description {
        Some(description) => Declared::new(name, description),
        None => Ok(Declared::default()),
    };
    let config = declared.and_then(|declared| config.plugin(name, &declared, sidecar));
    Ok(Known { plugin, config })
}

/// Loads the plugin as `sandbar run` would, its `init` included.
///
/// # Errors
/// Where it does not load with what it is granted.
pub async fn load(host: &Host, plugin: Examined, config: &PluginConfig) -> Result<()> {
    // whatever its `init` remembers is forgotten
    let nowhere = Log::in_memory(LogConfig::default())?;
    let state = StateSource {
        store: Arc::new(nowhere),
        group: config.group.clone(),
        now_ms: Environment::default().wall_ms,
    };
    let spec = LoadSpec {
        state: config.grants.contains(&Grant::State).then_some(state),
        ..config.load_spec()?
    };
    host.load_examined(plugin, spec).await?;
    Ok(())
}
