//! `sandbar dlq redrive`

use std::{
    io::{self, IsTerminal as _, Write as _},
    num::NonZeroU32,
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow};
use clap::Args;
use sandbar::{
    client::{Client, percent_encoded},
    redrive::{Job, JobState, Jobs, Progress, RedriveRequest, Rehearsed, Routes, Target as Inbox},
};

use super::{
    filter::FilterArgs,
    list::unclear,
    settings,
    target::{Target, TargetArgs},
};
use crate::commands::{Failed, Global, Output, connect::Found, output::printable};

/// How often progress is looked at.
const EVERY: Duration = Duration::from_millis(200);

#[derive(Debug, Args)]
pub struct RedriveArgs {
    #[command(flatten)]
    target: TargetArgs,
    /// Send nothing, and show what would go where
    #[arg(long)]
    dry_run: bool,
    /// Letters a second, at most
    #[arg(long, value_name = "N", env = "SANDBAR_DLQ_RATE")]
    rate: Option<NonZeroU32>,
    /// Leave letters alone that were redriven so often; by default what the plugin's settings say
    #[arg(long, value_name = "N", env = "SANDBAR_DLQ_MAX_REDRIVES")]
    max_redrives: Option<u32>,
    /// Name that the place to go on from is kept under; by default one that follows from the filter
    #[arg(long, value_name = "NAME", env = "SANDBAR_DLQ_JOB")]
    job: Option<String>,
    /// Begin with the oldest letter again: what was sent is sent once more
    #[arg(long)]
    restart: bool,
    /// Send in transactions, so that not even a kill sends a letter twice; the embedded log always
    /// does
    #[arg(long, env = "SANDBAR_DLQ_EXACTLY_ONCE")]
    exactly_once: bool,
    /// Pass over letters that the broker refuses, instead of stopping there
    #[arg(long)]
    skip_refused: bool,
    #[command(flatten)]
    filter: FilterArgs,
}

pub async fn redrive(args: &RedriveArgs, global: &Global) -> Result<()> {
    // first of all: a mistake in the filter should not wait for a broker
    let criteria = args.filter.criteria(None)?;
    let config = global.config()?;
    let target = args.target.find(global, &config).await?;
    let request = RedriveRequest {
        filter: sandbar::redrive::Criteria { plugin: target.plugin.clone(), ..criteria },
        job: args.job.clone(),
        rate: args.rate,
        max_redrives: args.max_redrives,
        skip_refused: args.skip_refused,
        exactly_once: args.exactly_once,
        restart: args.restart,
        dry_run: args.dry_run,
    };
    let Target { found, topic, group, .. } = target;
    let (name, jobs) = (request.name(), Jobs::default());
    let (begun, place) = match &found {
        Found::Here(connection) => {
            let mut routes = Routes::new(connection.clone());
            settings::add_routes(&mut routes, &topic, global, &config).await?;
            let redrive = request.redrive(&topic, &group, routes).map_err(anyhow::Error::msg)?;
            let job = jobs.start(&name, redrive)?;
            (job, Place::Here(&jobs))
        }
        Found::InRuntime { client, name } => {
            let path = format!("/api/dead-letters/{}/redrive", percent_encoded(&topic));
            let connection = percent_encoded(name);
            let job = client.post(&format!("{path}?connection={connection}"), &request).await?;
            (job, Place::InRuntime { client, path, connection })
        }
    };
    let ended = follow(&place, begun, global.out()).await;
    jobs.stop().await;
    found.connection().close().await;
    report(global.out(), &ended?)
}

/// Where the job runs.
enum Place<'a> {
    Here(&'a Jobs),
    InRuntime { client: &'a Client, path: String, connection: String },
}

impl Place<'_> {
    async fn look(&self, job: &Job) -> Result<Job> {
        match self {
            Self::Here(jobs) => jobs.get(&job.connection, &job.topic, &job.job),
            Self::InRuntime { client, path, connection } => {
                let path = format!("{path}/{}?connection={connection}", percent_encoded(&job.job));
                let answer = client.get(&path).await;
                return answer.context(
                    "the redrive was lost sight of; the same command goes on where it is",
                );
            }
        }
        .ok_or_else(|| anyhow!("the redrive is gone, which is a bug"))
    }

    async fn cancel(&self, job: &Job) -> Result<Job> {
        match self {
            Self::Here(jobs) => jobs.cancel(&job.connection, &job.topic, &job.job).await,
            Self::InRuntime { client, path, connection } => {
                let path = format!("{path}/{}?connection={connection}", percent_encoded(&job.job));
                return Ok(client.delete(&path).await?);
            }
        }
        .ok_or_else(|| anyhow!("the redrive is gone, which is a bug"))
    }
}

/// Shows progress until the end, or until the user has enough.
async fn follow(place: &Place<'_>, mut job: Job, out: Output) -> Result<Job> {
    let mut meter = Meter::new(out);
    let mut interrupted = std::pin::pin!(tokio::signal::ctrl_c());
    while job.state == JobState::Running {
        tokio::select! {
            signal = &mut interrupted => {
                signal.context("cannot listen to signals")?;
                job = place.cancel(&job).await?;
            }
            () = tokio::time::sleep(EVERY) => job = place.look(&job).await?,
        }
        meter.show(&job.progress);
    }
    meter.end();
    Ok(job)
}

/// One line on standard error that is written again and again, where that is a terminal.
struct Meter {
    live: bool,
    waiting: Option<String>,
    width: usize,
}

impl Meter {
    fn new(out: Output) -> Self {
        Self { live: !out.is_json() && io::stderr().is_terminal(), waiting: None, width: 0 }
    }

    fn show(&mut self, progress: &Progress) {
        if progress.waiting != self.waiting {
            self.waiting.clone_from(&progress.waiting);
            if let Some(why) = &progress.waiting {
                self.clear();
                eprintln!("waiting: {}", printable(why));
            }
        }
        if self.live {
            let line = format!("{} sent, {} left", progress.sent, progress.left);
            self.clear();
            eprint!("\r{line}");
            self.width = line.len();
            // shown late at worst
            let _ = io::stderr().flush();
        }
    }

    fn clear(&mut self) {
        if self.width > 0 {
            eprint!("\r{:width$}\r", "", width = std::mem::take(&mut self.width));
        }
    }

    fn end(&mut self) {
        self.clear();
    }
}

fn report(out: Output, job: &Job) -> Result<()> {
    let Job { state, error, progress, .. } = job;
    if out.is_json() {
        out.document(job)?;
        return if *state == JobState::Done { Ok(()) } else { Err(Failed.into()) };
    }
    print(out, job)?;
    if let Some(example) = &progress.unclear_example {
        eprintln!("{}", unclear(progress.unclear, example));
    }
    let unread = progress.targets.iter().filter(|inbox| !inbox.known);
    for Inbox { plugin, inbox, connection, .. } in unread {
        eprintln!(
            "no plugin that is configured here reads {inbox} on {connection}: letters of {plugin} \
             wait there for one"
        );
    }
    match (state, error) {
        (JobState::Failed, Some(why)) => {
            Err(anyhow!("{why}; what was sent stays sent, and the same command goes on from there"))
        }
        (JobState::Done, _) => Ok(()),
        _ => {
            eprintln!("stopped; the same command goes on from there");
            Err(Failed.into())
        }
    }
}

fn print(out: Output, job: &Job) -> Result<()> {
    let Job { job: name, topic, dry_run, progress, .. } = job;
    let Progress { matched, sent, quarantined, refused, skipped, foreign, left, .. } = progress;
    let mut parts = match dry_run {
        true => vec![format!("{} letters would be sent", matched - quarantined)],
        false => vec![format!("{sent} letters sent")],
    };
    for (count, what) in [
        (quarantined, "quarantined: redriven too often already"),
        (refused, "refused by the broker and passed over"),
        (skipped, "did not match"),
        (&progress.unclear, "unclear"),
        (foreign, "no dead letters of sandbar's"),
        (left, "left"),
    ] {
        if *count > 0 {
            parts.push(format!("{count} {what}"));
        }
    }
    out.line(format_args!("redrive `{name}` of {topic}: {}", parts.join("; ")))?;
    if !progress.targets.is_empty() {
        let row = |t: &Inbox| {
            vec![printable(&t.plugin), t.letters.to_string(), t.inbox.clone(), t.connection.clone()]
        };
        out.line("")?;
        let headings = ["PLUGIN", "LETTERS", "INBOX", "CONNECTION"];
        out.table(&headings, &progress.targets.iter().map(row).collect::<Vec<_>>())?;
    }
    if !progress.letters.is_empty() {
        let row = |letter: &Rehearsed| {
            let Rehearsed { letter, event, code, inbox } = letter;
            vec![letter.clone(), printable(code), printable(event), inbox.clone()]
        };
        out.line("")?;
        let headings = ["LETTER", "CODE", "EVENT", "INBOX"];
        out.table(&headings, &progress.letters.iter().map(row).collect::<Vec<_>>())?;
    }
    Ok(())
}
