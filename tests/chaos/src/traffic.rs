//! What goes in and what comes out, on either broker.

use std::{sync::Arc, time::Duration};

use anyhow::{Result, bail};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use sandbar_testkit::Runtime;
use tokio::{
    runtime::Handle,
    sync::Mutex,
    task::{JoinHandle, spawn_blocking},
    time::{Instant, MissedTickBehavior, interval, sleep},
};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{
    embedded::{self, Follower},
    kafka::{self, Sender},
    timeline::now_ms,
    world::{INPUT, PARTITIONS, World},
};

/// Key of the records behind which nothing comes.
const END: &str = "end";
/// How often events are sent.
const TICK: Duration = Duration::from_millis(50);
/// Pause before something is asked again that a broker or a runtime could not answer.
const AGAIN: Duration = Duration::from_millis(200);
/// Clocks and batches: what is this much older than a request was not written by it.
const BEFORE: u64 = 2000;

/// The producer and the readers of a run.
pub struct Traffic {
    world: Arc<World>,
    /// `None` on the embedded log.
    sender: Option<Arc<Sender>>,
    readers: Mutex<Vec<JoinHandle<Result<()>>>>,
    /// Nothing more is written.
    written: CancellationToken,
    /// Nobody waits for the readers any more.
    _dropped: DropGuard,
}

impl Traffic {
    /// Starts the readers.
    pub fn start(world: &Arc<World>) -> Result<Self> {
        let (written, dropped) = (CancellationToken::new(), CancellationToken::new());
        let topics = world.topics();
        let (sender, readers) = match &world.kafka {
            Some(broker) => {
                let sender = Sender::new(broker.address(), INPUT)?;
                let (world, dropped) = (world.clone(), dropped.clone());
                let address = broker.address().to_owned();
                let read = move || {
                    let verifier = &world.verifier;
                    kafka::read(&address, &topics, PARTITIONS, END, verifier, &dropped)
                };
                (Some(Arc::new(sender)), vec![spawn_blocking(read)])
            }
            None => {
                let follow = |(topic, place): &(String, _)| {
                    let follower = Follower::new(topic, *place);
                    let (world, handle) = (world.clone(), Handle::current());
                    let (written, dropped) = (written.clone(), dropped.clone());
                    spawn_blocking(move || follow(&world, follower, &handle, &written, &dropped))
                };
                (None, topics.iter().map(follow).collect())
            }
        };
        let readers = Mutex::new(readers);
        let world = world.clone();
        Ok(Self { world, sender, readers, written, _dropped: dropped.drop_guard() })
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
                        sender.send(&key.to_string(), &payload).await?;
                    }
                }
                None => next = self.publish(events, next).await?,
            }
        }
        if let Some(sender) = self.sender.clone() {
            spawn_blocking(move || sender.flush()).await??;
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

    /// Returns when every event is settled for every subscription.
    pub async fn drained(&self) {
        for subscription in &self.world.subscriptions {
            loop {
                let (name, group) = (subscription.name.clone(), subscription.group());
                let drained = match &self.world.kafka {
                    Some(kafka) => {
                        let address = kafka.address().to_owned();
                        let lag = move || sandbar_tests::lag(&address, &group, INPUT);
                        spawn_blocking(lag).await.is_ok_and(|lag| lag.is_ok_and(|lag| lag == 0))
                    }
                    None => self.world.fleet.ask(0, |runtime| is_idle(runtime, &name)).await,
                };
                if drained {
                    break;
                }
                sleep(AGAIN).await;
            }
        }
    }

    /// Returns when the readers have seen everything that was written so far.
    pub async fn read_to_the_end(&self) -> Result<()> {
        if let Some(sender) = self.sender.clone() {
            let topics: Vec<String> =
                self.world.topics().into_iter().map(|(topic, _)| topic).collect();
            // the runtimes would take a mark for an event
            for runtime in 0..self.world.fleet.size() {
                self.world.fleet.terminate(runtime).await?;
            }
            let mark = move || sender.mark(&topics, PARTITIONS, END).and_then(|()| sender.flush());
            spawn_blocking(mark).await??;
        }
        self.written.cancel();
        for reader in self.readers.lock().await.drain(..) {
            reader.await??;
        }
        Ok(())
    }
}

fn is_idle(runtime: &Runtime, plugin: &str) -> bool {
    let plugin = runtime.plugin(plugin);
    plugin.is_some_and(|p| p["subscriptions"][0]["lag"] == 0 && p["in_flight"] == 0)
}

/// Reads one topic of the embedded log, through the deaths of the runtime, until all is
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
        let admin = handle.block_on(world.fleet.ready(0));
        let read = admin.and_then(|admin| follower.read(&admin, &world.verifier, !last, written));
        match read {
            Ok(()) if last => return Ok(()),
            _ => handle.block_on(sleep(AGAIN)),
        }
    }
}
