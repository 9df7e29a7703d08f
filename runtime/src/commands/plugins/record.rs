//! `sandbar plugin record`

use std::{
    collections::BTreeMap,
    fs::{self, OpenOptions},
    io::Write as _,
    path::PathBuf,
};

use anyhow::{Context as _, Result};
use clap::Args;
use sandbar::{
    cases::{self, Answer, Case, Kind},
    config::{Config, is_secret},
};
use serde_json::json;

use super::{
    super::{Global, folder, publish::header as pair},
    slice::SliceArgs,
    subject::{SourceArgs, Subject},
};

#[derive(Debug, Args)]
pub struct RecordArgs {
    /// The plugin: a name in the plugins folder, a .wasm file, or a folder of source, which is
    /// built first
    plugin: PathBuf,
    /// Topic to record from
    topic: String,
    /// File to write; `cases/TOPIC.toml` in the plugin's folder, or in the working directory
    /// where the plugin is no folder, by default
    #[arg(long, value_name = "FILE", env = "SANDBAR_RECORD_OUT")]
    out: Option<PathBuf>,
    /// Replace the file
    #[arg(long, env = "SANDBAR_RECORD_FORCE")]
    force: bool,
    /// Value of the plugin's configuration, over what it gets in the plugins folder; may be
    /// given several times
    #[arg(long = "config-value", value_name = "KEY=VALUE", env = "SANDBAR_RECORD_CONFIG_VALUE", value_parser = pair)]
    values: Vec<(String, String)>,
    #[command(flatten)]
    slice: SliceArgs,
    #[command(flatten)]
    source: SourceArgs,
}

pub async fn record(args: &RecordArgs, global: &Global) -> Result<()> {
    let config = global.config()?;
    let topic = &args.topic;
    let out = args.out.clone().unwrap_or_else(|| {
        let folder = if args.plugin.is_dir() { args.plugin.clone() } else { PathBuf::new() };
        folder.join("cases").join(format!("{topic}.toml"))
    });
    // first the cheap ways to fail
    anyhow::ensure!(
        args.force || !out.exists(),
        "{} is there already: --force replaces it",
        out.display()
    );
    let events = args.slice.read(topic, global, &config).await?;
    let subject = Subject::find(&args.plugin, &args.source, &config)?;
    let mut settings = configured(&subject, &config).await?;
    settings.extend(args.values.iter().cloned());
    let runner = subject.runner().await?;

    let mut recorded = Vec::with_capacity(events.len());
    for event in events {
        let case = Case::of_event(event, settings.clone());
        let ran = runner.run(&case).await;
        if let Some(error) = ran.start_error {
            anyhow::bail!("{} does not start: {error}", subject.file.display());
        }
        let events = case.steps.into_iter().map(|step| step.event);
        recorded.extend(events.zip(ran.answers));
    }
    let inspection = runner.inspection();
    let version = inspection.description.as_ref().map_or("of no version", |said| &said.version);
    let heading = format!(
        "Recorded from topic {topic}: what {} {version} ({}) made of {} events.",
        subject.name,
        &inspection.digest[..12],
        recorded.len()
    );
    if let Some(folder) = out.parent() {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    let text = cases::write(&heading, &settings, &recorded);
    let mut options = OpenOptions::new();
    options.write(true).create_new(!args.force).create(args.force).truncate(args.force);
    let mut file = options.open(&out).with_context(|| format!("cannot write {}", out.display()))?;
    file.write_all(text.as_bytes()).with_context(|| format!("cannot write {}", out.display()))?;
    tell(&recorded, &out, global)
}

fn tell<E>(recorded: &[(E, Answer)], file: &std::path::Path, global: &Global) -> Result<()> {
    let mut verdicts: BTreeMap<&str, usize> = BTreeMap::new();
    for (_, answer) in recorded {
        *verdicts.entry(answer.verdict.as_str()).or_default() += 1;
    }
    let out = global.out();
    if out.is_json() {
        return out.document(&json!({
            "file": file, "events": recorded.len(), "verdicts": verdicts,
        }));
    }
    let failed = recorded.iter().filter(|(_, answer)| answer.verdict != Kind::Ok).count();
    let verdicts: Vec<_> = verdicts.iter().map(|(verdict, n)| format!("{n} {verdict}")).collect();
    out.line(format_args!(
        "{}: {} cases ({})",
        file.display(),
        recorded.len(),
        verdicts.join(", ")
    ))?;
    match failed {
        0 => Ok(()),
        _ => out.line("what failed is recorded as it failed: look whether that is what you expect"),
    }
}

/// What a plugin of the plugins folder gets as its configuration, without its secrets.
async fn configured(subject: &Subject, config: &Config) -> Result<BTreeMap<String, String>> {
    if subject.file.parent() != Some(&config.plugins_folder) {
        return Ok(BTreeMap::new());
    }
    let host = folder::host(config)?;
    let settings = subject.file.with_extension("toml");
    let sidecar = match fs::read_to_string(&settings) {
        Ok(text) => Some(config.sidecar(&settings, &text)?),
        Err(_) => None,
    };
    let known =
        folder::inspect(&host, config, &subject.name, subject.wasm.clone(), sidecar.as_ref()).await;
    let mut values = known.ok().and_then(|k| k.config.ok()).map(|c| c.config).unwrap_or_default();
    let secrets: Vec<_> = values.keys().filter(|key| is_secret(key)).cloned().collect();
    for key in secrets {
        values.remove(&key);
        eprintln!(
            "`{key}` looks like a secret and is left out: --config-value {key}=... sets one for the cases"
        );
    }
    Ok(values)
}
