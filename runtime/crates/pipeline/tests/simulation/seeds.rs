//! Plays many seeds on all cores. Told by the environment:
//! `SEEDS=n` how many, `FROM=n` the first, `SECONDS=n` when to stop at the latest,
//! `SEED=n` to play one and print all that happens in it.

use std::{
    env,
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use crate::play::{Played, play};

/// What a plain `cargo test` plays.
const SEEDS: u64 = 2000;
const SECONDS: u64 = 20;
/// Failures that are told in full; the numbers of the others are enough.
const TOLD: usize = 3;
const REPLAY: &str = "make sim SEED=";

/// Plays what the environment asks for.
///
/// # Panics
/// If a seed fails.
pub fn play_as_told() {
    if let Some(seed) = told("SEED") {
        let played = play(seed, None);
        println!("{}", played.history());
        assert!(played.violations.is_empty(), "{}", played.report());
        return;
    }
    let asked = told("SEEDS");
    let seconds = told("SECONDS").or(asked.is_none().then_some(SECONDS));
    let from = told("FROM").unwrap_or(0);
    let end = from + asked.unwrap_or(SEEDS);
    let began = Instant::now();
    let in_time = || seconds.is_none_or(|s| began.elapsed() < Duration::from_secs(s));
    let next = AtomicU64::new(from);
    let failed: Mutex<Vec<(u64, String)>> = Mutex::default();
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while in_time() {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end {
                        break;
                    }
                    let played = play(seed, None);
                    if !played.violations.is_empty() {
                        failed.lock().push((seed, played.report()));
                    }
                }
            });
        }
    });
    // each thread has asked for one that it did not play, or stopped in time
    let played = next.into_inner().min(end) - from;
    let seconds = began.elapsed().as_secs_f64();
    println!("{played} seeds in {seconds:.1} s: {:.0} seeds/s", played as f64 / seconds);
    let mut failed = failed.into_inner();
    failed.sort();
    for (_, report) in failed.iter().take(TOLD) {
        println!("{report}");
    }
    let numbers: Vec<_> = failed.iter().map(|(seed, _)| seed).collect();
    assert!(failed.is_empty(), "{} of {played} seeds failed: {numbers:?}", failed.len());
}

fn told(name: &str) -> Option<u64> {
    env::var(name).ok().map(|n| n.parse().unwrap_or_else(|_| panic!("{name}={n} is no number")))
}

impl Played {
    /// Every violation with the events that show it.
    pub fn report(&self) -> String {
        let Self { seed, .. } = self;
        let violations: Vec<_> = self.violations.iter().map(|v| v.tell(&self.trace)).collect();
        format!(
            "seed {seed} failed; to replay it with its history: {REPLAY}{seed}\n{}",
            violations.join("\n")
        )
    }

    /// The plan and everything that happened.
    pub fn history(&self) -> String {
        let entries = self.trace.entries.iter().map(|e| self.trace.tell(e));
        format!("{}\n{}", self.plan, entries.collect::<Vec<_>>().join("\n"))
    }
}
