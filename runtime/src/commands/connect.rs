//! Connections for commands: the broker itself, or the runtime that holds the log.

use std::{net::SocketAddr, sync::Arc};

use anyhow::{Context as _, Result, anyhow, bail};
use sandbar::{
    client::{Client, RemoteLog},
    config::{Config, ConnectionConfig},
    connections,
};
use sandbar_core::Connection;
use sandbar_store::LogError;

use super::Global;

/// Where a connection can be had.
pub enum Found {
    /// Opened by this process.
    Here(Arc<dyn Connection>),
    /// A log that is open in a running runtime.
    InRuntime {
        /// Its admin API.
        client: Client,
        /// Name of the connection.
        name: String,
    },
}

impl Found {
    /// The connection itself, wherever it is.
    pub fn connection(&self) -> Arc<dyn Connection> {
        match self {
            Self::Here(connection) => connection.clone(),
            Self::InRuntime { client, name } => Arc::new(RemoteLog::new(name, *client)),
        }
    }
}

/// The connection called `name`, by default the default one.
///
/// # Errors
/// Where it cannot be had, and why.
pub async fn open(
    global: &Global,
    config: &Config,
    name: Option<&str>,
) -> Result<Arc<dyn Connection>> {
    Ok(find(global, config, name).await?.connection())
}

async fn find(global: &Global, config: &Config, name: Option<&str>) -> Result<Found> {
    let (name, settings) = config.connection(name)?;
    if let ConnectionConfig::Log { path, .. } = settings
        && let Some(folder) = path.parent()
    {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("cannot make the data folder {}", folder.display()))?;
    }
    match connections::open(name, settings).await {
        Err(e) if is_in_use(&e) => match admin_client(global, config)? {
            Some(client) => Ok(Found::InRuntime { client, name: name.to_owned() }),
            None => Err(e.context(format!(
                "{} is missing, so there is no runtime to talk to: its admin listener may be off",
                config.admin_address_file().display()
            ))),
        },
        opened => opened.map(Found::Here),
    }
}

/// As [`open`], for commands that only look: makes no log.
///
/// # Errors
/// Also where there is no log yet.
pub async fn open_existing(
    global: &Global,
    config: &Config,
    name: Option<&str>,
) -> Result<Arc<dyn Connection>> {
    Ok(find_existing(global, config, name).await?.connection())
}

/// As [`open_existing`], for commands that a runtime may have to carry out.
///
/// # Errors
/// As there.
pub async fn find_existing(global: &Global, config: &Config, name: Option<&str>) -> Result<Found> {
    if let (name, ConnectionConfig::Log { path, .. }) = config.connection(name)?
        && !path.exists()
    {
        bail!(
            "connection `{name}` has no log yet: {} does not exist; `sandbar run` or `sandbar publish` makes it",
            path.display()
        );
    }
    find(global, config, name).await
}

/// Whether the connection works.
///
/// # Errors
/// Why it does not.
pub async fn probe(global: &Global, config: &Config, name: &str) -> Result<()> {
    // a log that is not there yet will be made, so only its folder could be wrong
    if let ConnectionConfig::Log { path, .. } = config.connection(Some(name))?.1
        && !path.exists()
    {
        return Ok(());
    }
    let connection = open(global, config, Some(name)).await?;
    connections::answers(connection.as_ref()).await?;
    connection.close().await;
    Ok(())
}

/// A client of the runtime that works on this data folder, if one says it does.
///
/// Never the configured address alone: another runtime may listen there.
///
/// # Errors
/// Where the file with its address cannot be read.
pub fn admin_client(global: &Global, config: &Config) -> Result<Option<Client>> {
    if let Some(address) = global.admin {
        return Ok(Some(Client::new(address)));
    }
    let file = config.admin_address_file();
    match std::fs::read_to_string(&file) {
        Ok(text) => {
            let address: SocketAddr =
                text.trim().parse().map_err(|_| anyhow!("{} holds no address", file.display()))?;
            Ok(Some(Client::new(address)))
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e).with_context(|| format!("cannot read {}", file.display())),
    }
}

/// Whether the user named a runtime to talk to.
pub fn is_given(global: &Global) -> bool {
    global.admin.is_some()
}

fn is_in_use(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(LogError::InUse { .. }))
}
