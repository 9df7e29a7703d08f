//! A run from its first event to its verdict.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use futures::future::join_all;
use parking_lot::Mutex;
use rand::{SeedableRng, rngs::StdRng};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    faults::Schedule,
    inject,
    logs::{Logs, Told},
    options::Scenario,
    traffic::Traffic,
    verifier::Verdict,
    world::World,
};

/// How often the logs are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How often it is said how the run is doing.
const SAY_EVERY: Duration = Duration::from_secs(30);
/// In the end everything is handled within this, or it never will be.
const DRAIN: Duration = Duration::from_secs(300);
/// What was written is read within this: longer than a transaction can stay open.
const READ: Duration = Duration::from_secs(150);

/// What a run came to.
pub struct Outcome {
    pub verdict: Verdict,
    pub told: Told,
    /// What went wrong apart from the accounts.
    pub complaints: Vec<String>,
    /// From the first start to the last record read.
    pub took: Duration,
}

/// Complaints, said at once and kept.
#[derive(Default)]
struct Complaints(Mutex<Vec<String>>);

impl Complaints {
    fn note<T>(&self, what: &str, result: Result<T>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(error) => {
                eprintln!("{what}: {error:#}");
                self.0.lock().push(format!("{what}: {error:#}"));
                None
            }
        }
    }
}

/// Runs `world` to its end, which comes early with `enough`.
pub async fn run(world: Arc<World>, enough: CancellationToken) -> Result<Outcome> {
    let began = Instant::now();
    let complaints = Arc::new(Complaints::default());
    world.fleet.start_all().await?;

    let traffic = Traffic::start(&world).await?;
    let over = CancellationToken::new();
    let watching = tokio::spawn(watch(world.clone(), complaints.clone(), over.clone()));
    let acting = async {
        act(&world, &complaints, &enough).await;
        enough.cancel();
    };
    let (sent, ()) = tokio::join!(traffic.send(enough.clone()), acting);
    let sent = sent?;

    eprintln!("all is sent; waiting until all is handled");
    complaints.note("starting all runtimes", world.fleet.start_all().await);
    let drained =
        timeout(DRAIN, traffic.drained(&sent)).await.context("not all events are handled");
    complaints.note("draining", drained);
    let read = timeout(READ, traffic.read_to_the_end()).await;
    complaints.note("reading", read.context("not read to the end").flatten());
    for runtime in 0..world.fleet.size() {
        complaints.note("stopping", world.fleet.terminate(runtime).await);
    }
    over.cancel();
    let told = watching.await?;
    let verdict = world.verifier.close(&sent);
    let complaints = std::mem::take(&mut *complaints.0.lock());
    Ok(Outcome { verdict, told, complaints, took: began.elapsed() })
}

/// Does what the scenario says for as long as events are to be sent. A fault that could not be
/// done as it should is complained of, and the next one follows.
async fn act(world: &World, complaints: &Complaints, enough: &CancellationToken) {
    let options = &world.options;
    if options.scenario == Scenario::Storm {
        let random = StdRng::seed_from_u64(options.seed);
        complaints
            .note("the storm", inject::storm(world, options.duration(), random, enough).await);
        return;
    }
    let end = Instant::now() + options.duration();
    let mut schedule = Schedule::new(&options.faults, options.seed);
    while Instant::now() < end && !enough.is_cancelled() {
        let step = schedule.next();
        sleep(step.calm).await;
        let faults = step.faults.into_iter();
        for done in join_all(faults.map(|(kind, random)| inject::inject(world, kind, random))).await
        {
            complaints.note("a fault", done);
        }
        for runtime in 0..world.fleet.size() {
            complaints.note("starting a runtime", world.fleet.start(runtime).await);
        }
    }
}

/// Follows the logs, starts runtimes again that ended by themselves, says how it goes.
async fn watch(world: Arc<World>, complaints: Arc<Complaints>, over: CancellationToken) -> Told {
    let mut files = world.fleet.logs().await;
    files.extend(world.broker.as_ref().map(|broker| broker.process().log()));
    let plugins = world.subscriptions.iter().map(|s| s.name.clone()).collect();
    let mut logs = Logs::new(files, plugins);
    let (began, mut say_at) = (Instant::now(), SAY_EVERY);
    loop {
        let last = over.is_cancelled();
        let told = complaints.note("the logs", logs.follow(&world.verifier).map_err(Into::into));
        if last {
            return told.unwrap_or_default();
        }
        complaints.note("a runtime", world.fleet.revive().await);
        if began.elapsed() >= say_at {
            say_at += SAY_EVERY;
            let (sent, done) = world.verifier.progress();
            eprintln!("{:.0?}: {sent} sent, {done:?} done", began.elapsed());
        }
        tokio::select! {
            () = over.cancelled() => {}
            () = sleep(LOOK_EVERY) => {}
        }
    }
}
