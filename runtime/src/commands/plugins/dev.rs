//! `sandbar plugin dev`

mod screen;
mod sources;
mod tap;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use bytesize::ByteSize;
use clap::Args;
use sandbar::{
    app::App,
    config::{Config, Text},
    supervisor::{Status, Supervisor},
};
use sandbar_toolchain::{BuildError, BuildRequest, Built};
use sandbar_wasm::Grant;
use serde_json::json;
use tempfile::TempDir;
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use self::{screen::Screen, sources::Sources};
use super::super::{
    Global,
    publish::{
        header as pair,
        line::{Form, LineParser, pointer},
    },
};

/// Time between two looks whether a new version serves.
const LOOK: Duration = Duration::from_millis(2);
/// How long a version may take to be loaded: the largest ones compile for seconds.
const PATIENCE: Duration = Duration::from_secs(120);

#[derive(Debug, Args)]
pub struct DevArgs {
    /// The plugin's folder
    #[arg(default_value = ".")]
    dir: PathBuf,
    /// File with events, one a line as for `sandbar publish`: published after each build
    #[arg(long, value_name = "FILE", env = "SANDBAR_DEV_PUBLISH")]
    publish: Option<PathBuf>,
    /// Topic to publish them to; the first that the plugin subscribes to by default
    #[arg(long, value_name = "NAME", env = "SANDBAR_DEV_TOPIC", requires = "publish")]
    topic: Option<String>,
    /// Where the key is in their JSON payload, e.g. /repository/full_name
    #[arg(long, value_name = "JSON POINTER", env = "SANDBAR_DEV_KEY", requires = "publish", value_parser = pointer)]
    key: Option<String>,
    /// They are whole events, as `tail -o json` prints them
    #[arg(long, env = "SANDBAR_DEV_ENVELOPE", requires = "publish", conflicts_with = "key")]
    envelope: bool,
    /// Value of the plugin's configuration; may be given several times
    #[arg(long = "config-value", value_name = "KEY=VALUE", env = "SANDBAR_DEV_CONFIG_VALUE", value_parser = pair)]
    values: Vec<(String, String)>,
    /// Capability that the plugin gets; may be given several times. All but `http` and `secrets` by default
    #[arg(long = "grant", value_name = "NAME", env = "SANDBAR_DEV_GRANT")]
    grants: Vec<Grant>,
    /// Rust: cargo profile
    #[arg(
        long,
        value_name = "NAME",
        env = "SANDBAR_BUILD_PROFILE",
        default_value = "dev",
        help_heading = "Rust"
    )]
    profile: String,
    /// Folder for the build's intermediate files
    #[arg(long, value_name = "DIR", env = "SANDBAR_BUILD_TARGET_DIR")]
    target_dir: Option<PathBuf>,
}

pub async fn dev(args: &DevArgs, global: &Global) -> Result<()> {
    let screen = Screen::new(global.out());
    let mut sources = Sources::watch(&args.dir)
        .with_context(|| format!("cannot watch {}", args.dir.display()))?;
    // gone when this ends, save where the user named another one
    let (own, data) = match &global.data {
        Some(data) => (None, data.clone()),
        None => {
            let own = TempDir::with_prefix("sandbar-dev-").context("cannot make a data folder")?;
            let path = own.path().to_owned();
            (Some(own), path)
        }
    };
    screen::log(screen);
    let plugins = data.join("plugins");
    let app = App::start(config(args, global, &data, &plugins)?).await?;
    let supervisor = app.supervisor().clone();
    let log = app.connections().get(app.connections().default_name()).cloned();
    let log = log.context("there is no embedded log, which is a bug")?;
    let tapping = tap::follow(log.clone(), supervisor.clone(), screen);
    let tap = AbortOnDropHandle::new(tokio::spawn(tapping));
    let place = data.display();
    screen.say(
        "ready",
        json!({ "data": data }),
        format_args!("from another terminal: sandbar publish TOPIC --data {place}"),
    );
    let session = Session { args, supervisor: &supervisor, screen, plugins: &plugins };
    let stop = CancellationToken::new();
    let work = async {
        let rounds = async {
            let mut saved = Instant::now();
            loop {
                if session.round(saved).await? {
                    session.publish(log.as_ref()).await;
                }
                saved = sources.changed().await?;
            }
        };
        let ended: Result<()> = tokio::select! {
            ended = rounds => ended,
            stopping = stop_signal() => stopping,
        };
        drop(tap);
        stop.cancel();
        ended
    };
    let (summary, ended) = tokio::join!(app.run(stop.cancelled()), work);
    drop(own);
    ended?;
    summary.map(drop)
}

/// A runtime on an embedded log of its own.
fn config(args: &DevArgs, global: &Global, data: &Path, plugins: &Path) -> Result<Config> {
    // the others have settings of their own, which say more than a name
    let by_name = || Grant::ALL.into_iter().filter(|grant| grant.setting().is_none()).collect();
    let grants = if args.grants.is_empty() { by_name() } else { args.grants.clone() };
    let names: Vec<_> = grants.iter().map(|grant| grant.as_str()).collect();
    let values: toml::Table =
        args.values.iter().map(|(k, v)| (k.clone(), v.replace("${", "$${").into())).collect();
    let mut defaults = toml::Table::new();
    defaults.insert("grants".into(), names.into());
    defaults.insert("config".into(), values.into());
    let mut written = toml::Table::new();
    // a build is renamed into place: there is nothing to wait for
    written.insert("watch".into(), toml::toml! { debounce = "1ms" }.into());
    written.insert("defaults".into(), defaults.into());
    // the command line's values are no references to variables
    let text = Text::new("the command line", toml::to_string(&written)?);
    let mut overrides = global.overrides();
    overrides.data = Some(data.to_owned());
    overrides.plugins = Some(plugins.to_owned());
    overrides.admin = overrides.admin.or(Some(([127, 0, 0, 1], 0).into()));
    Ok(Config::parse(&text, data, &overrides, &|_| None)?)
}

async fn stop_signal() -> Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen to signals")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen to signals")?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

/// What a round of build and reload needs.
struct Session<'a> {
    args: &'a DevArgs,
    supervisor: &'a Arc<Supervisor>,
    screen: Screen,
    plugins: &'a Path,
}

impl Session<'_> {
    /// Builds, and waits until the new version serves; whether it does. `saved` is when the
    /// source changed.
    async fn round(&self, saved: Instant) -> Result<bool> {
        let began = Instant::now();
        let before = self.status().map_or(0, |status| status.refusals);
        let built = match self.build().await? {
            Ok(built) => built,
            Err(error) => {
                let goes_on = match self.status().and_then(|status| status.version) {
                    Some(version) => format!("; version {} goes on", version.version),
                    None => String::new(),
                };
                let message = format!("{error}{goes_on}");
                self.screen.say("failed", json!({ "error": error.to_string() }), message);
                return Ok(false);
            }
        };
        let build_time = began.elapsed();
        let size = ByteSize(built.size).display().si();
        if !built.changed && self.status().is_some() {
            let text = format!("{} is the same as before", built.name);
            self.screen.say("built", json!({ "plugin": built.name, "changed": false }), text);
            return Ok(false);
        }
        let wasm = fs::read(&built.path)
            .with_context(|| format!("cannot read {}", built.path.display()))?;
        let digest = blake3::hash(&wasm).to_hex().to_string();
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.status() {
                Some(status) if is_served(&status, &digest) => {
                    let (all, build) = (saved.elapsed().as_millis(), build_time.as_millis());
                    self.screen.say(
                        "live",
                        json!({ "plugin": built.name, "ms": all, "build_ms": build, "size": built.size }),
                        format_args!("{} ({size}) live in {all} ms, {build} ms of it the build", built.name),
                    );
                    return Ok(true);
                }
                Some(status) if status.refusals > before => {
                    let why = status.last_error.or(status.reason).unwrap_or_default();
                    self.screen.say("refused", json!({ "error": why }), why);
                    return Ok(false);
                }
                _ if Instant::now() > deadline => {
                    bail!("{} was not loaded within {PATIENCE:?}", built.path.display());
                }
                _ => tokio::time::sleep(LOOK).await,
            }
        }
    }

    async fn build(&self) -> Result<Result<Built, BuildError>> {
        let request = BuildRequest {
            profile: self.args.profile.clone(),
            target_dir: self.args.target_dir.clone(),
            ..BuildRequest::new(&self.args.dir, self.plugins)
        };
        let built = tokio::task::spawn_blocking(move || sandbar_toolchain::build(&request)).await?;
        match built {
            Err(error) => Ok(Err(error)),
            Ok(mut plugins) if plugins.len() == 1 => Ok(Ok(plugins.remove(0))),
            Ok(plugins) => {
                let names: Vec<_> = plugins.into_iter().map(|plugin| plugin.name).collect();
                bail!("the folder holds several plugins ({}): name that of one", names.join(", "))
            }
        }
    }

    fn status(&self) -> Option<Status> {
        self.supervisor.plugins().first().map(|plugin| plugin.status())
    }

    /// Publishes the samples, each time from the file as it is now.
    async fn publish(&self, log: &dyn sandbar_core::Connection) {
        let Some(file) = &self.args.publish else { return };
        match self.samples(file).await {
            Ok(samples) => {
                let topics: Vec<_> = samples.iter().map(|s| s.topic.to_string()).take(1).collect();
                if let Err(error) = log.ensure_topics(&topics).await {
                    self.screen.say("failed", json!({ "error": error.to_string() }), error);
                    return;
                }
                for result in log.sink().publish(&samples).await {
                    if let Err(error) = result {
                        self.screen.say("failed", json!({ "error": error.to_string() }), error);
                    }
                }
            }
            Err(error) => {
                let error = format!("{error:#}");
                self.screen.say("failed", json!({ "error": error }), error);
            }
        }
    }

    async fn samples(&self, file: &Path) -> Result<Vec<sandbar_core::Outgoing>> {
        let topic = match &self.args.topic {
            Some(topic) => topic.clone(),
            None => {
                let topics = self.status().and_then(|s| s.config).map(|c| c.topics.clone());
                let exact = topics.into_iter().flatten().find(|topic| !topic.contains('*'));
                exact.context("the plugin subscribes to patterns only: name a --topic")?
            }
        };
        let form = match (&self.args.key, self.args.envelope) {
            (_, true) => Form::Envelope,
            (key, false) => Form::Payload { key: key.clone(), optional: false },
        };
        let parser = LineParser::of(&topic, form);
        let text = tokio::fs::read(file)
            .await
            .with_context(|| format!("cannot read {}", file.display()))?;
        let mut samples = Vec::new();
        for (at, line) in text.split(|byte| *byte == b'\n').enumerate() {
            let event = parser.event(line).map_err(anyhow::Error::msg);
            samples.extend(event.with_context(|| format!("{}:{}", file.display(), at + 1))?);
        }
        Ok(samples)
    }
}

fn is_served(status: &Status, digest: &str) -> bool {
    status.version.as_ref().is_some_and(|version| version.digest == digest)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: DevArgs,
        #[command(flatten)]
        global: Global,
    }

    fn config_of(arguments: &[&str]) -> Result<Config> {
        let cli = Cli::parse_from([&["dev"], arguments].concat());
        config(&cli.args, &cli.global, Path::new("data"), Path::new("plugins"))
    }

    #[test]
    fn by_default_a_plugin_gets_what_can_be_granted_by_name() {
        config_of(&[]).expect("starts without a word");
        config_of(&["--grant", "state"]).expect("starts with one");
    }
}
