//! `sandbar run`

mod idle;

use std::{
    io::{self, IsTerminal as _},
    path::PathBuf,
};

use anyhow::{Context as _, Result};
use clap::Args;
use sandbar::{
    app::{App, PluginSummary, Summary},
    config::{Config, LogFormat, Logging, Overrides},
};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use tracing::{info, warn};
use tracing_subscriber::EnvFilter;

use super::{Failed, Global, Output};

#[derive(Debug, Args)]
pub struct RunArgs {
    /// Stop when every event that there is has been handled; fail if a plugin cannot go on
    #[arg(long, env = "SANDBAR_UNTIL_IDLE")]
    until_idle: bool,
    /// Level of the runtime's log, or a filter such as info,sandbar_pipeline=debug
    #[arg(long, value_name = "LEVEL", env = "SANDBAR_LOG_LEVEL")]
    log_level: Option<String>,
    /// Form of the runtime's log, on standard error
    #[arg(long, value_name = "FORM", env = "SANDBAR_LOG_FORMAT")]
    log_format: Option<LogFormat>,
}

pub fn run(args: &RunArgs, global: &Global) -> Result<()> {
    let overrides = Overrides {
        log_level: args.log_level.clone(),
        log_format: args.log_format,
        ..global.overrides()
    };
    let config = Config::load(global.config.as_deref(), &overrides)?;
    log(&config.logging)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(serve(args, config, global.out()));
    // everything is closed: a client library that still waits for its broker must not hold us
    runtime.shutdown_background();
    result
}

async fn serve(args: &RunArgs, config: Config, out: Output) -> Result<()> {
    // before anything is opened: a signal that comes early must not kill us half-way
    let signals = Signals::new()?;
    let file = config.file.clone().unwrap_or_else(|| PathBuf::from("built-in defaults"));
    info!(version = env!("CARGO_PKG_VERSION"), config = %file.display(), "sandbar starts");
    let app = App::start(config).await?;
    let stop = CancellationToken::new();
    let _signals =
        AbortOnDropHandle::new(tokio::spawn(signals.watch(stop.clone(), app.abort_token())));
    let until_idle =
        args.until_idle.then(|| idle::wait(app.supervisor().clone(), app.connections().clone()));
    let idle = async {
        match until_idle {
            Some(idle) => idle.await,
            None => std::future::pending().await,
        }
    };
    let mut stuck = Vec::new();
    let shutdown = async {
        tokio::select! {
            () = stop.cancelled() => {}
            plugins = idle => stuck = plugins,
        }
    };
    let summary = app.run(shutdown).await?;
    if args.until_idle || out.is_json() {
        print(out, &summary)?;
    }
    for plugin in &stuck {
        eprintln!("plugin {} did not finish: {}", plugin.name, plugin.reason);
    }
    if stuck.is_empty() { Ok(()) } else { Err(Failed.into()) }
}

/// SIGTERM and SIGINT, from the moment on that this is made.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> Result<Self> {
        let listen = |kind| signal(kind).context("cannot listen to signals");
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }

    /// The first signal stops, the second one lets go of what is in work.
    async fn watch(mut self, stop: CancellationToken, abort: CancellationToken) {
        let signal = self.next().await;
        info!(signal, "stopping; a second signal does not wait for what is in work");
        stop.cancel();
        let signal = self.next().await;
        warn!(signal, "letting go of what is in work; it will be delivered again");
        abort.cancel();
    }
}

fn log(logging: &Logging) -> Result<()> {
    let filter = EnvFilter::try_new(&logging.level)
        .with_context(|| format!("`{}` is no log level or filter", logging.level))?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    match logging.format {
        LogFormat::Json => lines.json().flatten_event(true).init(),
        LogFormat::Text => {
            let no_colour = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty());
            lines.with_ansi(io::stderr().is_terminal() && !no_colour).init();
        }
    }
    Ok(())
}

fn print(out: Output, summary: &Summary) -> Result<()> {
    if out.is_json() {
        return out.document(summary);
    }
    let row = |plugin: &PluginSummary| {
        let c = &plugin.counts;
        let numbers = [
            c.received,
            c.handled,
            c.skipped,
            c.retried,
            c.dead_lettered,
            c.dropped,
            c.published,
            plugin.reloads,
        ];
        let mut row = vec![plugin.name.clone()];
        row.extend(numbers.map(|n| n.to_string()));
        row
    };
    let headings = [
        "PLUGIN",
        "RECEIVED",
        "HANDLED",
        "SKIPPED",
        "RETRIED",
        "DEAD",
        "DROPPED",
        "PUBLISHED",
        "RELOADS",
    ];
    out.table(&headings, &summary.plugins.iter().map(row).collect::<Vec<_>>())
}
