//! Faults, done. Each ends by healing what it broke; what remains is for the runtimes to
//! make good.

use std::{fs, time::Duration};

use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use rand::{RngExt, rngs::StdRng};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::{
    broker::Broker,
    faults::Kind,
    proxy::Weather,
    timeline::Millis,
    world::{LOG_FILE, SESSION, World},
};

/// A fault that is not made good within this has its recovery left open, and the run goes on.
const PATIENCE: Duration = Duration::from_secs(180);
/// How often it is looked whether it is.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Does what `kind` says and waits until all is well again.
pub async fn inject(world: &World, kind: Kind, mut random: StdRng) -> Result<()> {
    let target = random.random_range(0..world.fleet.size());
    let what = kind.hits_a_runtime().then(|| format!("runtime {target}"));
    eprintln!("{} {}", kind.name(), what.as_deref().unwrap_or_default());
    let fault = world.timeline.begin(kind, what);
    disturb(world, kind, target, &mut random).await.with_context(|| kind.name())?;
    let healed = world.timeline.healed(fault);
    match recovered(world, healed).await {
        true => world.timeline.recovered(fault),
        false => eprintln!("{}: no recovery within {PATIENCE:?}", kind.name()),
    }
    Ok(())
}

/// Waits until an event sent at `healed` or later is through on every partition.
async fn recovered(world: &World, healed: Millis) -> bool {
    let deadline = Instant::now() + PATIENCE;
    while !world.verifier.has_reached(healed) {
        if Instant::now() >= deadline {
            return false;
        }
        sleep(LOOK_EVERY).await;
    }
    true
}

async fn disturb(world: &World, kind: Kind, target: usize, random: &mut StdRng) -> Result<()> {
    match kind {
        Kind::Kill => {
            world.fleet.kill(target).await?;
            sleep(some(random, 0, 3000)).await;
            world.fleet.start(target).await
        }
        Kind::Broker => {
            let process = broker(world)?.process();
            process.kill()?;
            let outage = some(random, 0, 5000);
            sleep(world.options.outage.map_or(outage, Into::into)).await;
            process.restart().await
        }
        Kind::Pause => pause(world, target, some(random, 500, 2500)).await,
        Kind::Zombie => pause(world, target, SESSION + some(random, 2000, 6000)).await,
        Kind::Rebalances => rebalances(world, target, random).await,
        Kind::Delay => {
            let by = some(random, 20, 300);
            weather(world, [Weather::Delayed(by)], some(random, 3000, 8000)).await
        }
        Kind::Cut => {
            let times = random.random_range(3..10);
            let apart = some(random, 200, 1000);
            weather(world, std::iter::repeat_n(Weather::Cut, times), apart).await
        }
        Kind::HalfClose => weather(world, [Weather::HalfClosed], some(random, 2000, 8000)).await,
        Kind::DlqDenied => {
            let (broker, topics) = (broker(world)?, world.dead_letter_topics());
            broker.deny_writes(&topics, true).await?;
            sleep(some(random, 4000, 10_000)).await;
            broker.deny_writes(&topics, false).await
        }
        Kind::Reload => {
            for version in 1..=random.random_range(5..12) {
                world.fleet.reload(version, random.random()).await?;
                sleep(Duration::from_secs(1)).await;
            }
            Ok(())
        }
        Kind::DiskFull => {
            let file = world.fleet.folder(target).await.join("data").join(LOG_FILE);
            let size = fs::metadata(&file).with_context(|| file.display().to_string())?.len();
            // pages that lie further behind cannot be written any more, nor any be added
            world.fleet.limit_files(target, Some(size / 4)).await?;
            sleep(some(random, 1000, 5000)).await;
            world.fleet.limit_files(target, None).await
        }
    }
}

/// A time between two bounds in milliseconds.
fn some(random: &mut StdRng, least: u64, most: u64) -> Duration {
    Duration::from_millis(random.random_range(least..=most))
}

fn broker(world: &World) -> Result<&dyn Broker> {
    world.broker.as_deref().context("there is no such fault on the embedded log")
}

async fn pause(world: &World, target: usize, time: Duration) -> Result<()> {
    world.fleet.signal(target, Signal::SIGSTOP).await?;
    sleep(time).await;
    world.fleet.signal(target, Signal::SIGCONT).await
}

async fn weather(
    world: &World,
    all: impl IntoIterator<Item = Weather>,
    each: Duration,
) -> Result<()> {
    let proxy = broker(world)?.process().proxy();
    for weather in all {
        proxy.set(weather);
        sleep(each).await;
    }
    proxy.set(Weather::Clear);
    Ok(())
}

/// Runtimes leave in good order and come back, some before the last rebalance is through.
async fn rebalances(world: &World, first: usize, random: &mut StdRng) -> Result<()> {
    let turns = random.random_range(2..5);
    for turn in 0..turns {
        let runtime = (first + turn) % world.fleet.size();
        world.fleet.terminate(runtime).await?;
        sleep(some(random, 0, 1500)).await;
        world.fleet.start(runtime).await?;
        sleep(some(random, 0, 2000)).await;
    }
    Ok(())
}

/// Runtimes join and leave every few seconds for `time`, one of them always being there.
pub async fn storm(
    world: &World,
    time: Duration,
    mut random: StdRng,
    enough: &CancellationToken,
) -> Result<()> {
    let fault = world.timeline.begin(Kind::Rebalances, None);
    let end = Instant::now() + time;
    let size = world.fleet.size();
    while Instant::now() < end && !enough.is_cancelled() {
        sleep(some(&mut random, 1000, 4000)).await;
        let runtime = random.random_range(0..size);
        let mut running = 0;
        for n in 0..size {
            running += usize::from(world.fleet.is_running(n).await);
        }
        if !world.fleet.is_running(runtime).await {
            world.fleet.start(runtime).await?;
        } else if running > 1 {
            world.fleet.terminate(runtime).await?;
        }
    }
    world.fleet.start_all().await?;
    let healed = world.timeline.healed(fault);
    if recovered(world, healed).await {
        world.timeline.recovered(fault);
    }
    Ok(())
}
