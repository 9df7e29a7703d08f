//! The configuration: `sandbar.toml`, and `NAME.toml` beside `NAME.wasm`.
//!
//! [`settings`] is what may be written, [`document`] reads it with the place of
//! every mistake, and [`Config`] is what the runtime works with: complete,
//! checked, with all paths resolved. What a single plugin gets is made by
//! [`Config::plugin`] when the plugin is known.

mod complete;
mod connections;
mod document;
mod env;
mod error;
mod layers;
mod plugin;
mod reach;
mod redact;
mod route;
mod secret;
pub mod settings;
pub mod units;

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    num::NonZeroU32,
    path::{Path, PathBuf},
    time::Duration,
};

pub use connections::{ConnectionConfig, EMBEDDED, LOCAL};
pub use error::{ConfigError, Text};
pub use layers::{Declared, SidecarFile};
pub use plugin::{DeadLetters, PluginConfig};
pub use reach::{HttpConfig, InjectConfig};
pub use redact::{Secret, is_secret, redacted};
pub use route::{ROUTE, Rename, RouteConfig};
pub use secret::{SecretError, SecretSource};
pub use settings::{DeliveryMode, LogFormat, RetryThrough, WatchMode};

pub(crate) use complete::limits;
use connections::known_connection;
pub(crate) use document::literal;
use env::Lookup;
pub(crate) use error::suggestion;
pub(crate) use layers::known_grant;
use settings::{FileSettings, PluginSettings};
use toml::Spanned;

/// The file that is read when none is named.
pub const FILE_NAME: &str = "sandbar.toml";

/// Enough for 1,000 plugins with their `describe` and a few busy ones; 8 TiB of address space.
const MAX_INSTANCES: u32 = 2000;

/// A checked configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// The file that it was read from; `None`: the built-in defaults.
    pub file: Option<PathBuf>,
    /// Folder of the plugins.
    pub plugins_folder: PathBuf,
    /// Folder of the embedded log, the cache of compiled plugins and `admin.addr`.
    pub data_folder: PathBuf,
    /// The file that remembers handled events of connections that cannot do so themselves.
    pub marks: PathBuf,
    /// How long events in work may take to finish at shutdown.
    pub shutdown_timeout: Duration,
    /// What a plugin's name is prefixed with to make its group.
    pub group_prefix: String,
    /// The connection of plugins that name none; a key of `connections`.
    pub default_connection: String,
    /// Address of the admin listener, `None` where it is off.
    pub admin: Option<SocketAddr>,
    /// The runtime's own log.
    pub logging: Logging,
    /// How the plugins folder is watched.
    pub watch: Watch,
    /// Instances that may live at once, all plugins together.
    pub max_instances: u32,
    /// The brokers, by name; never empty.
    pub connections: BTreeMap<String, ConnectionConfig>,
    /// What is passed on from one connection to another without a plugin.
    pub routes: Vec<RouteConfig>,
    /// What `defaults` and `plugins` were read from, for the place of mistakes that show
    /// only when a plugin's settings are put together.
    text: Text,
    defaults: PluginSettings,
    plugins: BTreeMap<String, PluginSettings>,
}

/// The runtime's own log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logging {
    /// Level or filter, in the syntax of `tracing-subscriber`'s `EnvFilter`.
    pub level: String,
    /// Form of the lines.
    pub format: LogFormat,
}

/// How the plugins folder is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watch {
    /// Notifications of the operating system, or polling.
    pub mode: WatchMode,
    /// Time between two looks when polling.
    pub interval: Duration,
    /// How long a file must be left alone before it is read.
    pub debounce: Duration,
}

/// What the command line says over the file.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// Folder of the plugins, relative to the working directory.
    pub plugins: Option<PathBuf>,
    /// Data folder, relative to the working directory.
    pub data: Option<PathBuf>,
    /// Address of the admin listener.
    pub admin: Option<SocketAddr>,
    /// Level or filter of the runtime's log.
    pub log_level: Option<String>,
    /// Form of the runtime's log.
    pub log_format: Option<LogFormat>,
}

impl Config {
    /// Reads the file at `path`; without one, `sandbar.toml` in the working
    /// directory if it exists, else the built-in defaults.
    ///
    /// # Errors
    /// The first mistake found, or that the file cannot be read.
    pub fn load(path: Option<&Path>, overrides: &Overrides) -> Result<Self, ConfigError> {
        let (path, required) = path.map_or((Path::new(FILE_NAME), false), |p| (p, true));
        match std::fs::read_to_string(path) {
            Ok(text) => {
                let folder = path.parent().unwrap_or_else(|| Path::new(""));
                let text = Text::new(path.display().to_string(), text);
                let mut config = Self::parse(&text, folder, overrides, &env::process)?;
                config.file = Some(path.to_owned());
                Ok(config)
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && !required => {
                Self::parse(&Text::new(FILE_NAME, ""), Path::new(""), overrides, &env::process)
            }
            Err(e) => Err(ConfigError::unreadable(path, &e)
                .with_help("`sandbar init` writes a file to begin with")),
        }
    }

    /// Checks the text of a `sandbar.toml` that lies in `folder`.
    ///
    /// # Errors
    /// The first mistake found.
    pub fn parse(
        text: &Text,
        folder: &Path,
        overrides: &Overrides,
        lookup: &Lookup<'_>,
    ) -> Result<Self, ConfigError> {
        let mut settings = document::file(text, lookup)?;
        let in_folder = |given: &Option<PathBuf>, default: &str| {
            folder.join(given.as_deref().unwrap_or_else(|| Path::new(default)))
        };
        let data_folder =
            overrides.data.clone().unwrap_or_else(|| in_folder(&settings.data, "data"));
        let plugins_folder =
            overrides.plugins.clone().unwrap_or_else(|| in_folder(&settings.plugins, "plugins"));
        let mut connections = connections::resolved(&settings, folder, &data_folder);
        let default_connection = connections::default_connection(text, &settings, &connections)?;
        connections::add_local(
            text,
            &settings,
            &data_folder,
            &default_connection,
            &mut connections,
        )?;
        for plugin in settings.plugin.values().chain([&settings.defaults]) {
            layers::check(text, plugin, &connections)?;
        }
        for plugin in settings.plugin.values_mut().chain([&mut settings.defaults]) {
            reach::resolve(plugin, folder);
        }
        let marks = marks(text, &settings, &data_folder, &connections)?;
        let admin =
            settings.admin.listen.map_or((Ipv4Addr::LOCALHOST, 7070).into(), |address| address.0);
        let level = logging_level(text, settings.logging.level.as_ref())?;
        let mut config = Self {
            file: None,
            plugins_folder,
            data_folder,
            marks,
            shutdown_timeout: settings.shutdown_timeout.map_or(Duration::from_secs(30), |p| p.0),
            group_prefix: settings.group_prefix.map_or_else(|| "sandbar.".into(), |p| p.0),
            default_connection,
            admin: overrides
                .admin
                .or_else(|| settings.admin.enabled.unwrap_or(true).then_some(admin)),
            logging: Logging {
                level: overrides.log_level.clone().unwrap_or(level),
                format: overrides.log_format.or(settings.logging.format).unwrap_or_default(),
            },
            watch: Watch {
                mode: settings.watch.mode.unwrap_or_default(),
                interval: settings.watch.interval.map_or(Duration::from_millis(500), |p| p.0),
                debounce: settings.watch.debounce.map_or(Duration::from_millis(200), |p| p.0),
            },
            max_instances: settings.engine.max_instances.map_or(MAX_INSTANCES, NonZeroU32::get),
            connections,
            text: text.clone(),
            defaults: settings.defaults,
            plugins: settings.plugin,
            routes: Vec::new(),
        };
        config.routes = route::all(&config, text, settings.route)?;
        Ok(config)
    }

    /// The file in which a running runtime leaves the address of its admin listener.
    pub fn admin_address_file(&self) -> PathBuf {
        self.data_folder.join("admin.addr")
    }

    /// Names of the plugins that have a `[plugin.NAME]` of their own.
    pub fn configured_plugins(&self) -> impl Iterator<Item = &str> {
        self.plugins.keys().map(String::as_str)
    }
}

/// The file of marks, which no connection may have as its own.
fn marks(
    text: &Text,
    settings: &FileSettings,
    data: &Path,
    connections: &BTreeMap<String, ConnectionConfig>,
) -> Result<PathBuf, ConfigError> {
    let written = settings.marks.as_ref();
    let marks = data.join(written.map_or(Path::new("marks.redb"), |path| path.get_ref()));
    let is_taken = |(_, connection): &(&String, &ConnectionConfig)| matches!(connection, ConnectionConfig::Log { path, .. } if *path == marks);
    match connections.iter().find(is_taken) {
        None => Ok(marks),
        Some((name, _)) => Err(text
            .error(
                written.map_or(0..0, Spanned::span),
                format!("{} is the file of connection `{name}`", marks.display()),
                "marks need a file of their own",
            )
            .with_help("name another file as `marks`, above the first table")),
    }
}

fn logging_level(text: &Text, written: Option<&Spanned<String>>) -> Result<String, ConfigError> {
    let Some(level) = written else { return Ok("info".to_owned()) };
    tracing_subscriber::EnvFilter::try_new(level.get_ref()).map_err(|e| {
        text.error(
            level.span(),
            format!("`{}` is no log level or filter", level.get_ref()),
            e.to_string(),
        )
        .with_help("write error, warn, info, debug, trace, or `info,sandbar_pipeline=debug`")
    })?;
    Ok(level.get_ref().clone())
}

#[cfg(test)]
mod brokers_tests;
#[cfg(test)]
mod delivery_tests;
#[cfg(test)]
mod mistakes;
#[cfg(test)]
mod reach_tests;
#[cfg(test)]
mod tests;
