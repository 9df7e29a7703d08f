//! A seeded simulation on virtual time: two processes share the partitions of a
//! topic while brokers fail, partitions move, and processes stop, crash and start
//! again. `SEEDS=n` sets how many seeds are played and `SEED=n` plays one.

use std::{collections::BTreeMap, env, panic::AssertUnwindSafe, time::Duration};

use parking_lot::Mutex;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use sandbar_core::{PublishError, SourceError};
use sandbar_pipeline::{Breaker, Ordering, SubscriptionConfig};
use std::sync::Arc;
use tokio::time::{sleep, timeout};

use crate::support::{
    Running, config, p, until,
    world::{Script, Step, World},
};

const PROCESSES: usize = 2;

struct Simulation {
    rng: StdRng,
    world: World,
    config: SubscriptionConfig,
    batch: usize,
    partitions: u32,
    processes: Vec<Option<Running>>,
    owners: BTreeMap<u32, usize>,
}

impl Simulation {
    fn new(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let ordering = [Ordering::Key, Ordering::Key, Ordering::Partition, Ordering::None]
            [rng.random_range(0..4)];
        let latency = Duration::from_millis([0, 3, 150][rng.random_range(0..3)]);
        let max_attempts = rng.random_range(1..5);
        let world = World::new(rng.random_bool(0.5), latency, ordering, max_attempts);
        let mut config = SubscriptionConfig {
            ordering,
            concurrency: rng.random_range(1..6),
            max_in_flight: rng.random_range(1..40),
            ..config()
        };
        config.retry.max_attempts = max_attempts;
        config.retry.initial_delay = Duration::from_millis(rng.random_range(0..2000));
        if rng.random_bool(0.3) {
            let pause = Duration::from_millis(200);
            config.breaker =
                Breaker { failures: rng.random_range(1..5), pause, max_pause: 4 * pause };
        }
        let (batch, partitions) = (rng.random_range(1..6), rng.random_range(1..5));
        let processes = (0..PROCESSES).map(|_| None).collect();
        Self { rng, world, config, batch, partitions, processes, owners: BTreeMap::new() }
    }

    async fn play(mut self) {
        for process in 0..PROCESSES {
            self.start(process);
        }
        for partition in 0..self.partitions {
            let process = self.rng.random_range(0..PROCESSES);
            self.assign(partition, process).await;
        }
        for _ in 0..self.rng.random_range(5..25) {
            self.append();
            self.break_or_mend();
            sleep(Duration::from_millis(self.rng.random_range(0..1500))).await;
            let process = self.rng.random_range(0..PROCESSES);
            match self.rng.random_range(0..10) {
                0..4 => self.rebalance().await,
                4..6 => self.restart(process).await,
                6 => self.crash(process).await,
                _ => {}
            }
        }
        self.world.broker.mend();
        until("everything is committed", || self.world.is_done()).await;
        for process in self.processes.into_iter().flatten() {
            process.drain(Duration::from_secs(60)).await.unwrap();
        }
        self.world.check();
    }

    fn append(&mut self) {
        for _ in 0..self.rng.random_range(0..15) {
            let rng = &mut self.rng;
            let steps = (0..rng.random_range(1..5)).map(|_| match rng.random_range(0..12) {
                0..6 => Step::Ok(rng.random_range(0..3)),
                6 => Step::Retry,
                7 => Step::Trap,
                8 => Step::Skip,
                9 => Step::Reject,
                10 => Step::Defer,
                // it would take the others of its batch along
                _ if self.batch > 1 => Step::Retry,
                _ => Step::Panic,
            });
            let script = Script { steps: steps.collect(), millis: rng.random_range(0..400) };
            let partition = rng.random_range(0..self.partitions);
            let key = rng.random_bool(0.8).then(|| rng.random_range(0..4));
            let gap = if rng.random_bool(0.1) { rng.random_range(1..9) } else { 0 };
            self.world.append(partition, key, gap, script);
        }
    }

    /// Sets how often each call to the broker fails, from now on.
    fn break_or_mend(&mut self) {
        self.world.broker.mend();
        let dice = Arc::new(Mutex::new(StdRng::seed_from_u64(self.rng.random())));
        let mut chance = |often: f64| if self.rng.random_bool(0.4) { often } else { 0.0 };
        let (publish, settle, receive) = (chance(0.5), chance(0.6), chance(0.5));
        let fails = move |p: f64| dice.lock().random_bool(p).then(|| "simulated".to_owned());
        let (a, b, c) = (fails.clone(), fails.clone(), fails);
        self.world.broker.break_publishing(move |_| a(publish).map(PublishError::Unavailable));
        self.world.broker.break_settling(move |_| b(settle).map(SourceError::Unavailable));
        self.world.broker.break_receiving(move || c(receive).map(SourceError::Unavailable));
    }

    fn start(&mut self, process: usize) {
        let handler = self.world.handler(self.batch);
        self.processes[process] =
            Some(Running::start(&self.world.broker, self.config.clone(), handler));
    }

    async fn assign(&mut self, partition: u32, process: usize) {
        self.owners.insert(partition, process);
        if let Some(running) = &self.processes[process] {
            running.assign(p(partition)).await;
        }
    }

    async fn rebalance(&mut self) {
        let partition = self.rng.random_range(0..self.partitions);
        let allowed = Duration::from_millis(self.rng.random_range(1..3000));
        if let Some(running) = &self.processes[self.owners[&partition]] {
            let drained = running.revoke(p(partition), allowed).await;
            let in_time = timeout(allowed + Duration::from_millis(1), drained).await;
            assert!(in_time.is_ok(), "H4: the drain took longer than {allowed:?}");
        }
        let process = self.rng.random_range(0..PROCESSES);
        self.assign(partition, process).await;
    }

    async fn restart(&mut self, process: usize) {
        let allowed = Duration::from_millis(self.rng.random_range(1..3000));
        if let Some(running) = self.processes[process].take() {
            let ended = timeout(allowed + Duration::from_millis(1), running.drain(allowed)).await;
            ended.expect("H5: the drain ends in time").unwrap();
        }
        self.start_again(process).await;
    }

    async fn crash(&mut self, process: usize) {
        if let Some(running) = self.processes[process].take() {
            running.kill().await;
            // a process dies at once, tasks at their next turn
            sleep(Duration::from_millis(1)).await;
        }
        self.start_again(process).await;
    }

    async fn start_again(&mut self, process: usize) {
        self.start(process);
        for partition in 0..self.partitions {
            if self.owners[&partition] == process {
                self.assign(partition, process).await;
            }
        }
    }
}

fn play(seed: u64) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    let played = std::panic::catch_unwind(AssertUnwindSafe(|| {
        runtime.block_on(Simulation::new(seed).play())
    }));
    played.map_err(|_| format!("seed {seed} failed; play it alone with SEED={seed}"))
}

#[test]
fn simulation_of_failures_rebalances_and_crashes_loses_nothing() {
    let number = |name| env::var(name).ok().map(|n| n.parse::<u64>().expect("a number"));
    let seeds = number("SEED").map_or(0..number("SEEDS").unwrap_or(200), |seed| seed..seed + 1);
    for seed in seeds {
        if let Err(failure) = play(seed) {
            panic!("{failure}");
        }
    }
}
