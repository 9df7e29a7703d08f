//! What goes in and what comes out, on either broker.

use std::{sync::Arc, time::Duration};

use anyhow::{Result, bail};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::{
    runtime::Handle,
    sync::Mutex,
    task::{JoinHandle, spawn_blocking},
    time::{Instant, MissedTickBehavior, interval, sleep},
};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{
    broker::{Reading, Sender},
    embedded::{self, Follower},
    timeline::now_ms,
    world::{INPUT, World},
};

/// How often events are sent.
const TICK: Duration = Duration::from_millis(50);
/// Pause before something is asked again that a broker or a runtime could not answer.
const AGAIN: Duration = Duration::from_millis(200);
/// Clocks and batches: what is this much older than a request was not written by it.
const BEFORE: u64 = 2000;

type Readers = Mutex<Vec<JoinHandle<Result<()>>>>;

/// The producer and the readers of a run.
pub struct Traffic {
    world: Arc<World>,
    /// `None` on the embedded log.
    sender: Option<Arc<dyn Sender>>,
    /// Of what the broker keeps.
    readers: Readers,
    /// Nothing more is written there.
    written: CancellationToken,
    /// Of what the runtimes keep.
    followers: Readers,
    /// Nothing more is written there.
    kept: CancellationToken,
    /// Nobody waits for the readers any more.
    _dropped: DropGuard,
}

impl Traffic {
    /// Starts the readers.
    pub async fn start(world: &Arc<World>) -> Result<Self> {
        let (written, kept) = (CancellationToken::new(), CancellationToken::new());
        let dropped = CancellationToken::new();
        let (sender, readers) = match &world.broker {
            Some(broker) => {
                let (written, dropped) = (written.clone(), dropped.clone());
                let reading = Reading { verifier: world.verifier.clone(), written, dropped };
                let sender = broker.sender(INPUT, &world.verifier).await?;
                (Some(sender), broker.read(world.on_broker(), reading))
            }
            None => (None, Vec::new()),
        };
        let follow = |of| {
            let (world, handle, follower) = (world.clone(), Handle::current(), Follower::new(of));
            let (kept, dropped) = (kept.clone(), dropped.clone());
            spawn_blocking(move || follow(&world, follower, &handle, &kept, &dropped))
        };
        let followers = world.in_runtimes().into_iter().map(follow).collect();
        Ok(Self {
            world: world.clone(),
            sender,
            readers: Mutex::new(readers),
            written,
            followers: Mutex::new(followers),
            kept,
            _dropped: dropped.drop_guard(),
        })
    }

    /// Sends events until `enough`. Returns how many there are of each key.
    pub async fn send(&self, enough: CancellationToken) -> Result<Vec<u64>> {
        let options = &self.world.options;
        let script = options.script();
        let mut random = StdRng::seed_from_u64(options.seed);
        let mut next = vec![0; options.keys as usize];
        let (began, mut due, mut sent) = (Instant::now(), interval(TICK), 0u64);
        due.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !enough.is_cancelled() {
            due.tick().await;
            let wanted = (began.elapsed().as_secs_f64() * options.rate()) as u64;
            // what could not be sent while the runtime was down is not made up for at once
            let now = (wanted.saturating_sub(sent)).min(options.rate() as u64 + 1);
            sent = wanted;
            let mut events = Vec::new();
            for _ in 0..now {
                let key = random.random_range(0..options.keys);
                let number = &mut next[key as usize];
                events.push((key, script.payload(key, *number)));
                *number += 1;
            }
            if events.is_empty() {
                continue;
            }
            match &self.sender {
                Some(sender) => {
                    for (key, payload) in events {
                        sender.send(key, payload).await?;
                    }
                }
                None => next = self.publish(events, next).await?,
            }
        }
        if let Some(sender) = &self.sender {
            sender.flush().await?;
        }
        Ok(next)
    }

    /// Publishes on the embedded log. Returns the numbers that come next, which are `next`
    /// where all went well.
    async fn publish(&self, events: Vec<(u32, String)>, next: Vec<u64>) -> Result<Vec<u64>> {
        let since = now_ms() - BEFORE;
        let known = {
            let mut known = next.clone();
            events.iter().for_each(|(key, _)| known[*key as usize] -= 1);
            known
        };
        let fleet = &self.world.fleet;
        let admin = fleet.ready(0).await;
        if let Ok(admin) = admin {
            let published =
                spawn_blocking(move || embedded::publish(&admin, INPUT, &events)).await?;
            if published.is_ok_and(|all| all) {
                return Ok(next);
            }
        }
        // the process died, or the disk is full: nobody but the log knows what it took
        loop {
            if let Ok(admin) = fleet.ready(0).await {
                let known = known.clone();
                let asked =
                    spawn_blocking(move || embedded::next_numbers(&admin, INPUT, since, &known));
                if let Ok(next) = asked.await? {
                    return Ok(next);
                }
            }
            sleep(AGAIN).await;
        }
    }

    /// Returns when every event that was `sent` is handled or given up by every subscription.
    pub async fn drained(&self, sent: &[u64]) {
        let all: u64 = sent.iter().sum();
        while self.world.verifier.progress().1.iter().any(|done| *done < all) {
            sleep(AGAIN).await;
        }
    }

    /// Returns when the readers have seen everything that was written so far.
    pub async fn read_to_the_end(&self) -> Result<()> {
        // only a runtime that runs tells what it keeps
        self.kept.cancel();
        finished(&self.followers).await?;
        if let Some(broker) = &self.world.broker {
            // the runtimes would take a mark for an event
            for runtime in 0..self.world.fleet.size() {
                self.world.fleet.terminate(runtime).await?;
            }
            let topics: Vec<_> =
                self.world.on_broker().into_iter().map(|(topic, _)| topic).collect();
            broker.mark_ends(&topics).await?;
        }
        self.written.cancel();
        finished(&self.readers).await
    }
}

async fn finished(readers: &Readers) -> Result<()> {
    for reader in readers.lock().await.drain(..) {
        reader.await??;
    }
    Ok(())
}

/// Reads one topic that a runtime keeps, through the deaths of that runtime, until all is
/// `written` and read.
fn follow(
    world: &World,
    mut follower: Follower,
    handle: &Handle,
    written: &CancellationToken,
    dropped: &CancellationToken,
) -> Result<()> {
    loop {
        if dropped.is_cancelled() {
            bail!("a topic was not read to its end");
        }
        let last = written.is_cancelled();
        let admin = handle.block_on(world.fleet.admin(follower.runtime()));
        let read = admin.and_then(|admin| follower.read(&admin, &world.verifier, !last, written));
        match read {
            Ok(()) if last => return Ok(()),
            _ => handle.block_on(sleep(AGAIN)),
        }
    }
}
