//! `sandbar validate`

use std::collections::BTreeMap;

use anyhow::Result;
use clap::Args;
use sandbar::{
    config::{Config, ConfigError, PluginConfig},
    plugin_file::{self, PluginFile},
};
use serde::Serialize;
use serde_json::Value;

use super::{
    Failed, Global, connect,
    folder::{self, Known},
    output::{Output, config_error_json, config_error_text},
};

#[derive(Debug, Args)]
pub struct ValidateArgs {
    /// Ask every connection whether it is there
    #[arg(long, env = "SANDBAR_VALIDATE_CONNECT")]
    connect: bool,
}

/// All that was found.
#[derive(Serialize)]
struct Report {
    config: Option<std::path::PathBuf>,
    plugins: Vec<PluginReport>,
    connections: Vec<ConnectionReport>,
    warnings: Vec<String>,
    problems: usize,
}

#[derive(Serialize)]
struct PluginReport {
    name: String,
    status: &'static str,
    version: Option<String>,
    connection: Option<String>,
    topics: Vec<String>,
    publish: Vec<String>,
    problem: Option<Value>,
    /// The problem as people see it.
    #[serde(skip)]
    text: Option<String>,
}

#[derive(Serialize)]
struct ConnectionReport {
    name: String,
    problem: Option<String>,
}

pub async fn validate(args: &ValidateArgs, global: &Global) -> Result<()> {
    let config = global.config()?;
    let mut report = Report {
        config: config.file.clone(),
        plugins: Vec::new(),
        connections: Vec::new(),
        warnings: Vec::new(),
        problems: 0,
    };
    check_plugins(&config, &mut report).await?;
    if args.connect {
        for name in config.connections.keys() {
            let problem =
                connect::probe(global, &config, name).await.err().map(|e| format!("{e:#}"));
            report.connections.push(ConnectionReport { name: name.clone(), problem });
        }
    }
    report.problems = report.plugins.iter().filter(|p| p.problem.is_some()).count()
        + report.connections.iter().filter(|c| c.problem.is_some()).count();
    print(global.out(), &report)?;
    match report.problems {
        0 => Ok(()),
        _ => Err(Failed.into()),
    }
}

async fn check_plugins(config: &Config, report: &mut Report) -> Result<()> {
    let plugins_folder = &config.plugins_folder;
    let plugins = match plugins_folder.exists() {
        true => folder::plugins(plugins_folder)?,
        false => {
            let warning = format!("the plugins folder {} does not exist", plugins_folder.display());
            report.warnings.push(warning);
            BTreeMap::new()
        }
    };
    for name in config.configured_plugins().filter(|name| !plugins.contains_key(*name)) {
        report.warnings.push(format!("[plugin.{name}] has no {name}.wasm in the plugins folder"));
    }
    let host = folder::host(config)?;
    let mut groups: BTreeMap<(String, String), String> = BTreeMap::new();
    for (name, file) in plugins {
        let mut plugin = PluginReport::new(&name);
        match check(config, &host, &name, &file, &mut plugin).await {
            Ok(None) => plugin.status = "disabled",
            Ok(Some(settings)) => {
                plugin.status = "ok";
                let warnings = settings.warnings().into_iter();
                report.warnings.extend(warnings.map(|w| format!("plugin `{name}`: {w}")));
                let cursor = (settings.connection.clone(), settings.group.clone());
                if let Some(other) = groups.insert(cursor, name) {
                    plugin.fail(&anyhow::anyhow!(
                        "plugin `{other}` has the same group `{}`: they would take each other's events",
                        settings.group
                    ));
                }
            }
            Err(error) => plugin.fail(&error),
        }
        report.plugins.push(plugin);
    }
    Ok(())
}

/// The plugin's settings if all of it holds, `None` where it is switched off.
async fn check(
    config: &Config,
    host: &std::sync::Arc<sandbar_wasm::Host>,
    name: &str,
    file: &PluginFile,
    report: &mut PluginReport,
) -> Result<Option<PluginConfig>> {
    if !plugin_file::is_valid_name(name) {
        anyhow::bail!(
            "`{name}` cannot be part of a group's name: use letters, digits, `.`, `_`, `-`, and not \
             `route.` first"
        );
    }
    let contents = plugin_file::read(file)?;
    let sidecar = contents.settings.as_deref().map(|text| config.sidecar(&file.settings, text));
    let sidecar = sidecar.transpose()?;
    if !config.is_enabled(name, sidecar.as_ref()) {
        return Ok(None);
    }
    let Known { plugin, config } =
        folder::inspect(host, config, name, contents.wasm, sidecar.as_ref()).await?;
    let description = plugin.inspection().description.as_ref();
    report.version = description.map(|d| d.version.clone());
    let config = config?;
    report.connection = Some(config.connection.clone());
    report.topics.clone_from(&config.topics);
    report.publish.clone_from(&config.publish);
    folder::load(host, plugin, &config).await?;
    Ok(Some(config))
}

impl PluginReport {
    fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            status: "failed",
            version: None,
            connection: None,
            topics: Vec::new(),
            publish: Vec::new(),
            problem: None,
            text: None,
        }
    }

    fn fail(&mut self, error: &anyhow::Error) {
        self.status = "failed";
        let (problem, text) = match error.downcast_ref::<ConfigError>() {
            Some(mistake) => (config_error_json(mistake), config_error_text(mistake)),
            None => {
                let message = format!("{error:#}");
                (serde_json::json!({ "error": message }), format!("  {message}\n"))
            }
        };
        self.problem = Some(problem);
        self.text = Some(text);
    }
}

fn print(out: Output, report: &Report) -> Result<()> {
    if out.is_json() {
        return out.document(report);
    }
    match &report.config {
        Some(file) => out.line(format_args!("{}: ok", file.display()))?,
        None => out.line("no configuration file: built-in defaults")?,
    }
    if !report.plugins.is_empty() {
        let row = |p: &PluginReport| {
            vec![
                p.name.clone(),
                p.status.to_owned(),
                p.version.clone().unwrap_or_default(),
                p.connection.clone().unwrap_or_default(),
                p.topics.join(","),
                p.publish.join(","),
            ]
        };
        let rows: Vec<_> = report.plugins.iter().map(row).collect();
        out.line("")?;
        out.table(&["PLUGIN", "STATUS", "VERSION", "CONNECTION", "TOPICS", "PUBLISHES"], &rows)?;
    }
    for connection in &report.connections {
        match &connection.problem {
            None => out.line(format_args!("connection {}: ok", connection.name))?,
            Some(problem) => {
                out.line(format_args!("connection {}: failed", connection.name))?;
                eprintln!("\nconnection {}:\n  {problem}", connection.name);
            }
        }
    }
    for warning in &report.warnings {
        eprintln!("warning: {warning}");
    }
    for plugin in &report.plugins {
        if let Some(text) = &plugin.text {
            eprint!("\nplugin {}:\n{text}", plugin.name);
        }
    }
    Ok(())
}
