//! `sandbar state`

use std::{io::Read as _, sync::Arc, time::Duration};

use anyhow::{Context as _, Result, bail};
use clap::{Args, Subcommand};
use sandbar::{
    client::{Client, ClientError, percent_encoded},
    config::{Config, ConnectionConfig},
    connections,
    event_json::BytesJson,
    plugin_state::{Deleted, Entry, Listing, NewValue, PluginState, ttl_ms},
    side_store::SideStore,
};
use sandbar_core::Connection;

use super::{
    Global, Output, connect,
    dlq::plugins,
    output::{bytes_text, printable},
};

/// Longest value that a list shows, in characters.
const SHOWN: usize = 60;

#[derive(Debug, Subcommand)]
pub enum StateCommand {
    /// List the keys of a plugin's state
    List(ListArgs),
    /// Print the value of a key
    Get(KeyArgs),
    /// Set a key, whatever it holds
    ///
    /// Events that are handled at this moment may change it again.
    Set(SetArgs),
    /// Delete a key, those that begin with a prefix, or all
    Delete(DeleteArgs),
}

/// Whose state, and where it is.
#[derive(Debug, Args)]
struct WhoseArgs {
    /// The plugin; its file may be gone
    plugin: String,
    /// Which connection its events come from, if its settings are gone
    #[arg(long, value_name = "NAME", env = "SANDBAR_CONNECTION")]
    connection: Option<String>,
    /// Its group, if its settings are gone and named one
    #[arg(long, value_name = "GROUP", env = "SANDBAR_STATE_GROUP")]
    group: Option<String>,
}

#[derive(Debug, Args)]
pub struct ListArgs {
    #[command(flatten)]
    whose: WhoseArgs,
    /// Only keys that begin with this
    #[arg(long, value_name = "TEXT", default_value = "", env = "SANDBAR_STATE_PREFIX")]
    prefix: String,
    /// Only keys after this one
    #[arg(long, value_name = "KEY", env = "SANDBAR_STATE_AFTER")]
    after: Option<String>,
    /// So many at most
    #[arg(short = 'n', long, value_name = "N", default_value_t = 100, env = "SANDBAR_STATE_LIMIT")]
    limit: usize,
}

#[derive(Debug, Args)]
pub struct KeyArgs {
    #[command(flatten)]
    whose: WhoseArgs,
    /// The key
    key: String,
}

#[derive(Debug, Args)]
pub struct SetArgs {
    #[command(flatten)]
    key: KeyArgs,
    /// The value; `-` reads it from standard input
    value: String,
    /// Time until it is gone by itself, such as 10m
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration, env = "SANDBAR_STATE_TTL")]
    ttl: Option<Duration>,
}

#[derive(Debug, Args)]
pub struct DeleteArgs {
    #[command(flatten)]
    whose: WhoseArgs,
    #[command(flatten)]
    which: WhichArgs,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct WhichArgs {
    /// The key
    key: Option<String>,
    /// All keys that begin with this
    #[arg(long, value_name = "TEXT")]
    prefix: Option<String>,
    /// All keys
    #[arg(long)]
    all: bool,
}

pub async fn state(command: &StateCommand, global: &Global) -> Result<()> {
    let out = global.out();
    match command {
        StateCommand::List(args) => {
            let place = Place::find(&args.whose, global).await?;
            let listing = place.list(args).await;
            place.close().await;
            print_list(out, &listing?)
        }
        StateCommand::Get(args) => {
            let place = Place::find(&args.whose, global).await?;
            let found = place.get(&args.key).await;
            place.close().await;
            match found? {
                Some(entry) if out.is_json() => out.document(&entry),
                Some(entry) => out.line(bytes_text(&entry.value.0)),
                None => bail!("the state of `{}` has no key `{}`", args.whose.plugin, args.key),
            }
        }
        StateCommand::Set(args) => {
            let new = NewValue {
                value: BytesJson(value(&args.value)?.into()),
                ttl_ms: args.ttl.map(ttl_ms),
            };
            let place = Place::find(&args.key.whose, global).await?;
            let entry = place.set(&args.key.key, new).await;
            place.close().await;
            match out.is_json() {
                true => out.document(&entry?),
                false => entry.map(drop),
            }
        }
        StateCommand::Delete(args) => {
            let place = Place::find(&args.whose, global).await?;
            let deleted = match (&args.which.key, &args.which.prefix) {
                (Some(key), _) => place.delete(key).await,
                (None, Some(prefix)) => place.delete_all(prefix).await,
                (None, None) => place.delete_all("").await,
            };
            place.close().await;
            print_deleted(out, deleted?)
        }
    }
}

fn value(given: &str) -> Result<Vec<u8>> {
    if given != "-" {
        return Ok(given.as_bytes().to_vec());
    }
    let mut value = Vec::new();
    std::io::stdin().read_to_end(&mut value).context("cannot read standard input")?;
    Ok(value)
}

fn print_list(out: Output, listing: &Listing) -> Result<()> {
    if out.is_json() {
        return out.document(listing);
    }
    let row = |entry: &Entry| {
        let whole = bytes_text(&entry.value.0);
        let mut value: String = whole.chars().take(SHOWN).collect();
        if value.len() < whole.len() {
            value.push('…');
        }
        let bytes = entry.value.0.len().to_string();
        let expires = entry.expires_at.clone().unwrap_or_default();
        vec![printable(&entry.key), bytes, value, expires]
    };
    let rows: Vec<_> = listing.entries.iter().map(row).collect();
    out.table(&["KEY", "BYTES", "VALUE", "EXPIRES"], &rows)?;
    let Listing { group, keys, bytes, next, .. } = listing;
    eprintln!("{group}: {keys} keys, {bytes} bytes in all");
    if let Some(next) = next {
        eprintln!("there are more: --after {}", printable(next));
    }
    Ok(())
}

fn print_deleted(out: Output, deleted: Deleted) -> Result<()> {
    match out.is_json() {
        true => out.document(&deleted),
        false => out.line(format_args!("deleted: {}", deleted.deleted)),
    }
}

/// Where the state can be had: from the runtime, or from the file itself.
enum Place {
    Runtime { client: Client, path: String, query: String },
    Here { state: PluginState, connection: Option<Arc<dyn Connection>>, side: SideStore },
}

impl Place {
    async fn find(whose: &WhoseArgs, global: &Global) -> Result<Self> {
        let config = global.config()?;
        if let Some(client) = connect::admin_client(global, &config)? {
            match client.get::<serde_json::Value>("/api/plugins").await {
                Ok(_) => return Ok(Self::in_runtime(client, whose)),
                // left behind by a runtime that was killed, unless the address was given
                Err(ClientError::Unreachable { .. }) if !connect::is_given(global) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Self::here(&config, whose).await
    }

    fn in_runtime(client: Client, whose: &WhoseArgs) -> Self {
        let named = [("connection", &whose.connection), ("group", &whose.group)];
        let named = named.into_iter().filter_map(|(name, value)| Some((name, value.as_ref()?)));
        let query = named.map(|(name, value)| format!("&{name}={}", percent_encoded(value)));
        let path = format!("/api/plugins/{}/state", percent_encoded(&whose.plugin));
        Self::Runtime { client, path, query: query.collect() }
    }

    async fn here(config: &Config, whose: &WhoseArgs) -> Result<Self> {
        let known = plugins(config).remove(&whose.plugin);
        let connection = whose.connection.clone();
        let connection = connection.or_else(|| known.as_ref().map(|k| k.connection.clone()));
        let (name, settings) = config.connection(connection.as_deref())?;
        let group = whose.group.clone().or_else(|| known.as_ref().map(|k| k.group.clone()));
        let group = group.unwrap_or_else(|| format!("{}{}", config.group_prefix, whose.plugin));
        let side = SideStore::new(config.marks.clone());
        let (store, connection) = match settings {
            ConnectionConfig::Log { path, .. } => {
                if !path.exists() {
                    bail!("there is no state yet: {} does not exist", path.display());
                }
                let log = connections::open(name, settings).await?;
                (side.state_of(log.as_ref()).await?, Some(log))
            }
            _ if config.marks.exists() => (side.state_beside(name).await?, None),
            _ => bail!("there is no state yet: {} does not exist", config.marks.display()),
        };
        Ok(Self::Here { state: PluginState::new(store, group), connection, side })
    }

    async fn list(&self, args: &ListArgs) -> Result<Listing> {
        match self {
            Self::Runtime { client, path, query } => {
                let (prefix, limit) = (percent_encoded(&args.prefix), args.limit);
                let after = args.after.as_deref().map(percent_encoded);
                let after = after.map_or_else(String::new, |after| format!("&after={after}"));
                let path = format!("{path}?prefix={prefix}&limit={limit}{after}{query}");
                Ok(client.get(&path).await?)
            }
            Self::Here { state, .. } => {
                Ok(state.list(&args.prefix, args.after.as_deref(), args.limit).await?)
            }
        }
    }

    async fn get(&self, key: &str) -> Result<Option<Entry>> {
        match self {
            Self::Runtime { client, .. } => match client.get(&self.of_key(key)).await {
                Ok(entry) => Ok(Some(entry)),
                Err(ClientError::Refused { status, .. }) if status.as_u16() == 404 => Ok(None),
                Err(error) => Err(error.into()),
            },
            Self::Here { state, .. } => Ok(state.get(key).await?),
        }
    }

    async fn set(&self, key: &str, new: NewValue) -> Result<Entry> {
        match self {
            Self::Runtime { client, .. } => Ok(client.put(&self.of_key(key), &new).await?),
            Self::Here { state, .. } => Ok(state.set(key, new).await?),
        }
    }

    async fn delete(&self, key: &str) -> Result<Deleted> {
        match self {
            Self::Runtime { client, .. } => Ok(client.delete(&self.of_key(key)).await?),
            Self::Here { state, .. } => Ok(state.delete(key).await?),
        }
    }

    async fn delete_all(&self, prefix: &str) -> Result<Deleted> {
        match self {
            Self::Runtime { client, path, query } => {
                let path = format!("{path}?prefix={}{query}", percent_encoded(prefix));
                Ok(client.delete(&path).await?)
            }
            Self::Here { state, .. } => Ok(state.delete_all(prefix).await?),
        }
    }

    /// The address of a key in the runtime.
    fn of_key(&self, key: &str) -> String {
        match self {
            Self::Runtime { path, query, .. } => {
                format!("{path}/{}?{}", percent_encoded(key), query.trim_start_matches('&'))
            }
            Self::Here { .. } => String::new(),
        }
    }

    async fn close(self) {
        if let Self::Here { connection, side, .. } = self {
            if let Some(connection) = connection {
                connection.close().await;
            }
            side.close().await;
        }
    }
}
