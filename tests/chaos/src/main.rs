//! `sandbar-chaos`: runtimes against a real broker while processes, network and disk fail.
//!
//! A producer numbers the events of each key, plugins do what the events ask for, faults come in
//! an order that the seed decides, and an independent reader accounts for every event from the
//! topics alone. What must hold, and where, is `docs/contract.md`.

mod broker;
mod embedded;
mod faults;
mod fleet;
mod inject;
mod kafka;
mod logs;
mod nats;
mod options;
mod outbox;
mod overlaps;
mod process;
mod proxy;
mod rabbitmq;
mod report;
mod run;
mod script;
mod sequence;
#[cfg(feature = "sqs")]
mod sqs;
mod timeline;
mod traffic;
mod verifier;
mod world;

use std::{fs, path::Path, process::ExitCode, sync::Arc};

use anyhow::{Context, Result, anyhow};
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::{options::Options, report::Report, world::World};

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let options = Options::parse().checked()?;
    let (folder, temporary) = match &options.folder {
        Some(folder) => (folder.clone(), None),
        None => {
            let temporary = tempfile::Builder::new().prefix("sandbar-chaos-").tempdir()?;
            (temporary.path().to_owned(), Some(temporary))
        }
    };
    fs::create_dir_all(&folder)?;
    let folder = folder.canonicalize()?;
    let enough = CancellationToken::new();
    let report = tokio::select! {
        report = play(&options, &folder, enough.clone()) => report,
        error = interrupted(enough) => Err(error),
    };
    let well = report.as_ref().is_ok_and(|report| report.violations.is_empty());
    if let Some(temporary) = temporary.filter(|_| !well) {
        eprintln!("logs and data are kept in {}", temporary.keep().display());
    }
    let report = report?;
    println!("{}", report.markdown());
    write(options.report.as_deref(), &report.markdown())?;
    write(options.json.as_deref(), &serde_json::to_string_pretty(&report)?)?;
    Ok(if well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The first signal ends the sending early, with all that follows; the second one ends all.
async fn interrupted(enough: CancellationToken) -> anyhow::Error {
    let signals =
        signal(SignalKind::terminate()).and_then(|t| Ok((t, signal(SignalKind::interrupt())?)));
    let (mut terminate, mut interrupt) = match signals {
        Ok(signals) => signals,
        Err(error) => return error.into(),
    };
    for _ in 0..2 {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        eprintln!("a signal: no more is sent; another one ends this at once");
        enough.cancel();
    }
    anyhow!("interrupted")
}

async fn play(options: &Options, folder: &Path, enough: CancellationToken) -> Result<Report> {
    eprintln!("seed {}, in {}", options.seed, folder.display());
    let world = Arc::new(World::new(options.clone(), folder).await?);
    let outcome = run::run(world.clone(), enough).await?;
    Ok(Report::new(&world, &outcome))
}

fn write(file: Option<&Path>, text: &str) -> Result<()> {
    let Some(file) = file else { return Ok(()) };
    fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
}
