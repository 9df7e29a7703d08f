//! `sandbar plugins list` and `inspect`; the others in files of their own

pub mod build;
mod call;
mod dev;
mod diff;
pub mod new;
mod record;
mod slice;
mod subject;
mod test;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use clap::{Args, Subcommand};
use sandbar::{
    api,
    client::ClientError,
    config::{Config, HttpConfig, redacted},
    plugin_file,
};
use sandbar_wasm::Grant;
use serde_json::{Value, json};

use super::{
    Global, connect, folder,
    output::{Output, count_text},
};

#[derive(Debug, Subcommand)]
pub enum PluginsCommand {
    /// List the plugins of the running runtime, or those of the folder when none runs
    List,
    /// Show what a plugin file imports, what it says of itself, and the settings it gets
    Inspect(InspectArgs),
    /// Begin a plugin: a folder with a handler, a test and what its build needs
    New(new::NewArgs),
    /// Build a plugin from source, with the toolchain of its language
    Build(build::BuildArgs),
    /// Run a plugin's cases on the production engine, without a broker
    Test(test::TestArgs),
    /// Build on save, reload into a running runtime, and show events as they flow
    Dev(dev::DevArgs),
    /// Record a slice of a topic as cases, with what a plugin makes of it
    Record(record::RecordArgs),
    /// Show where two versions of a plugin make different things of the same events
    Diff(diff::DiffArgs),
    /// Give a plugin events, one a line, and print what it makes of each
    Call(call::CallArgs),
}

#[derive(Debug, Args)]
pub struct InspectArgs {
    /// A plugin of the folder, or a .wasm file
    plugin: String,
}

pub async fn plugins(command: &PluginsCommand, global: &Global) -> Result<()> {
    match command {
        PluginsCommand::List => list(global).await,
        PluginsCommand::Inspect(args) => inspect(args, global).await,
        PluginsCommand::New(args) => new::new(args, global),
        PluginsCommand::Build(args) => build::build(args, global),
        PluginsCommand::Test(args) => test::test(args, global).await,
        PluginsCommand::Dev(args) => dev::dev(args, global).await,
        PluginsCommand::Record(args) => record::record(args, global).await,
        PluginsCommand::Diff(args) => diff::diff(args, global).await,
        PluginsCommand::Call(args) => call::call(args, global).await,
    }
}

async fn list(global: &Global) -> Result<()> {
    let config = global.config()?;
    if let Some(client) = connect::admin_client(global, &config)? {
        match client.get::<api::Plugins>("/api/plugins").await {
            Ok(plugins) => return print_running(global.out(), &plugins),
            // left behind by a runtime that was killed, unless the address was given
            Err(ClientError::Unreachable { .. }) if !connect::is_given(global) => {}
            Err(e) => return Err(e.into()),
        }
    }
    list_folder(&config, global.out()).await
}

fn print_running(out: Output, answer: &api::Plugins) -> Result<()> {
    if out.is_json() {
        return out.document(&json!({ "running": true, "plugins": answer.plugins }));
    }
    let row = |p: &api::Plugin| {
        let lag = p.subscriptions.iter().map(|s| s.lag).sum::<Option<u64>>();
        let halted: u64 = p.subscriptions.iter().map(|s| s.halted_keys).sum();
        let halted = (halted > 0).then(|| format!("{halted} keys wait behind a dead letter"));
        vec![
            p.name.clone(),
            p.state.as_str().to_owned(),
            p.version.clone().unwrap_or_else(|| "-".into()),
            p.reloads.to_string(),
            p.counts.handled.to_string(),
            p.counts.retried.to_string(),
            p.counts.dead_lettered.to_string(),
            count_text(lag.filter(|_| !p.subscriptions.is_empty())),
            p.last_error.clone().or_else(|| p.reason.clone()).or(halted).unwrap_or_default(),
        ]
    };
    let headings =
        ["PLUGIN", "STATE", "VERSION", "RELOADS", "HANDLED", "RETRIED", "DEAD", "LAG", "REASON"];
    out.table(&headings, &answer.plugins.iter().map(row).collect::<Vec<_>>())
}

async fn list_folder(config: &Config, out: Output) -> Result<()> {
    let host = folder::host(config)?;
    let mut found = Vec::new();
    for (name, file) in folder::plugins(&config.plugins_folder)? {
        let inspected = match plugin_file::read(&file) {
            Ok(contents) => host.inspect(contents.wasm).await.map_err(|e| e.to_string()),
            Err(e) => Err(e.to_string()),
        };
        found.push((name, file, inspected));
    }
    if out.is_json() {
        let plugins = found.iter().map(|(name, file, inspected)| {
            json!({
                "name": name,
                "file": file.wasm,
                "inspection": inspected.as_ref().ok(),
                "error": inspected.as_ref().err(),
            })
        });
        return out.document(&json!({ "running": false, "plugins": plugins.collect::<Vec<_>>() }));
    }
    let rows: Vec<_> = found
        .iter()
        .map(|(name, _, inspected)| {
            let said = inspected.as_ref().ok().and_then(|i| i.description.as_ref());
            let topics = said.map(|d| {
                d.subscriptions
                    .iter()
                    .flat_map(|s| s.topics.iter().cloned())
                    .collect::<Vec<_>>()
                    .join(",")
            });
            vec![
                name.clone(),
                said.map(|d| d.version.clone()).unwrap_or_default(),
                inspected.as_ref().map_or_else(|_| "-".into(), |i| i.size.to_string()),
                topics.unwrap_or_default(),
                inspected.as_ref().err().cloned().unwrap_or_default(),
            ]
        })
        .collect();
    eprintln!("no runtime is running here; plugins in {}:", config.plugins_folder.display());
    out.table(&["PLUGIN", "VERSION", "BYTES", "TOPICS", "ERROR"], &rows)
}

async fn inspect(args: &InspectArgs, global: &Global) -> Result<()> {
    let config = global.config()?;
    let path = plugin_path(&args.plugin, &config.plugins_folder);
    let name = plugin_file::plugin_of(&path)
        .with_context(|| format!("{} is no name of a plugin file", path.display()))?;
    let wasm = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let settings = path.with_extension("toml");
    let sidecar = match std::fs::read_to_string(&settings) {
        Ok(text) => Some(config.sidecar(&settings, &text)?),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => None,
        Err(e) => bail!("cannot read {}: {e}", settings.display()),
    };
    let host = folder::host(&config)?;
    let known = folder::inspect(&host, &config, &name, wasm.into(), sidecar.as_ref())
        .await
        .with_context(|| format!("{} is no plugin that can be loaded", path.display()))?;
    let has_state = known.config.as_ref().is_ok_and(|c| c.grants.contains(&Grant::State));
    let settings = match &known.config {
        Ok(c) => json!({
            "enabled": c.enabled,
            "connection": c.connection,
            "topics": c.topics,
            "publish": c.publish,
            "output-connection": c.output_connection,
            "group": c.group,
            "ordering": c.ordering,
            "delivery": c.delivery,
            "dedup-window": c.dedup.map(|window| humantime::format_duration(window).to_string()),
            "concurrency": c.concurrency,
            "isolation": c.isolation,
            "max-in-flight": c.max_in_flight,
            "grants": c.grants,
            "secrets": c.secrets.iter().map(|(name, source)| (name, source.to_string())).collect::<BTreeMap<_, _>>(),
            "http": c.http.as_ref().map(HttpConfig::shown),
            "config": redacted(&c.config),
            "dead-letter-topic": c.dead_letter_topic(),
            "max-attempts": c.retry.max_attempts,
            "memory": c.limits.memory,
            "state-keys": has_state.then_some(c.limits.state_keys),
            "state-bytes": has_state.then_some(c.limits.state_bytes),
        }),
        Err(e) => json!({ "error": e.to_string() }),
    };
    let inspection = known.plugin.inspection();
    let missing = known.config.as_ref().map(|c| inspection.missing(&c.grants)).unwrap_or_default();
    let mut shown = serde_json::to_value(inspection)?;
    shown["name"] = name.clone().into();
    shown["file"] = path.display().to_string().into();
    shown["world"] = inspection.world().into();
    shown["missing_grants"] = json!(missing);
    shown["settings"] = settings;
    match global.out().is_json() {
        true => global.out().document(&shown)?,
        false => print_tree(global.out(), &shown, 0)?,
    }
    if !missing.is_empty() {
        let missing: Vec<_> = missing.iter().map(|grant| grant.as_str()).collect();
        eprintln!(
            "it does not start: grant it {} in {name}.toml, with what it has",
            missing.join(", ")
        );
    }
    Ok(())
}

/// `NAME` in the folder, or the file itself where it is one.
fn plugin_path(plugin: &str, folder: &Path) -> PathBuf {
    let path = Path::new(plugin);
    let is_file = path.extension().is_some_and(|e| e == "wasm") || path.components().count() > 1;
    if is_file { path.to_owned() } else { folder.join(format!("{plugin}.wasm")) }
}

/// Keys and values, one a line, without what is empty.
fn print_tree(out: Output, value: &Value, depth: usize) -> Result<()> {
    let indent = "  ".repeat(depth);
    for (key, value) in value.as_object().into_iter().flatten() {
        match value {
            Value::Null => {}
            Value::Object(fields) if fields.is_empty() => {}
            Value::Array(items) if items.is_empty() => {}
            Value::Object(_) => {
                out.line(format_args!("{indent}{key}:"))?;
                print_tree(out, value, depth + 1)?;
            }
            Value::Array(items) if items.iter().all(Value::is_string) => {
                let items: Vec<_> = items.iter().filter_map(Value::as_str).collect();
                out.line(format_args!("{indent}{key}: {}", items.join(", ")))?;
            }
            Value::Array(items) => {
                out.line(format_args!("{indent}{key}:"))?;
                for item in items {
                    print_tree(out, item, depth + 1)?;
                }
            }
            Value::String(text) => {
                out.line(format_args!("{indent}{key}: {}", super::output::printable(text)))?;
            }
            other => out.line(format_args!("{indent}{key}: {other}"))?,
        }
    }
    Ok(())
}
