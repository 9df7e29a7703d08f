//! What is chosen before a play begins.

use std::{fmt, time::Duration};

use rand::{RngExt, rngs::StdRng, seq::IndexedRandom};
use sandbar_core::{Guarantees, reserved};
use sandbar_pipeline::{
    Breaker, DeadLetterConfig, Dialect, OnDeadLetter, OnExhausted, Ordering, RetryPolicy,
    RetryTier, SubscriptionConfig,
};

/// The names of the topics that producers write to.
pub const SOURCES: [&str; 2] = ["orders", "returns"];
/// The connection that plugins publish to beside their own.
pub const ELSEWHERE: &str = "elsewhere";

/// Which kind of broker the fake one is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Positions are committed now and then; outputs are published before.
    Plain,
    /// Outputs and positions are one transaction.
    Transactional,
    /// The same, and marks are part of it.
    Embedded,
}

/// The settings of a play.
#[derive(Debug, Clone)]
pub struct Plan {
    pub kind: Kind,
    /// Partitions of each of [`SOURCES`].
    pub partitions: [u32; SOURCES.len()],
    pub processes: usize,
    pub plugins: Vec<SubscriptionConfig>,
    /// Most events that the handler takes at once; 128 is what a packed frame holds.
    pub max_batch: usize,
    /// How many it takes changes all the time, as it does with what an event takes.
    pub paced: bool,
    /// Longest time that a call to the broker takes.
    pub latency: Duration,
    /// How often positions are committed where this is not a settlement's matter.
    pub commit_every: Duration,
    /// Ranges past the position that a commit can keep (contract C3).
    pub ahead: usize,
    pub steps: usize,
    pub max_redrives: u32,
}

impl Plan {
    pub fn draw(rng: &mut StdRng) -> Self {
        let kind = pick(rng, &[Kind::Plain, Kind::Plain, Kind::Transactional, Kind::Embedded]);
        let plugins = if rng.random_bool(0.25) { 2 } else { 1 };
        Self {
            kind,
            partitions: [rng.random_range(1..4), rng.random_range(0..2)],
            processes: rng.random_range(1..4),
            plugins: (0..plugins).map(|n| subscription(rng, n)).collect(),
            max_batch: pick(rng, &[1, 1, 2, 4, 128]),
            paced: rng.random_bool(0.5),
            latency: millis(pick(rng, &[0, 4, 200])),
            commit_every: millis(pick(rng, &[0, 1000])),
            ahead: match kind {
                Kind::Plain => pick(rng, &[0, 3, 1000]),
                // effects past the position must never be repeated
                Kind::Transactional | Kind::Embedded => usize::MAX,
            },
            steps: rng.random_range(3..14),
            max_redrives: rng.random_range(1..3),
        }
    }

    pub fn atomic(&self) -> bool {
        self.kind != Kind::Plain
    }

    pub fn guarantees(&self) -> Guarantees {
        Guarantees {
            ordered: true,
            atomic_effects: self.atomic(),
            atomic_marks: self.kind == Kind::Embedded,
            atomic_state: self.kind == Kind::Embedded,
            tombstones: true,
            delayed_release: false,
            spread_over_processes: true,
            fan_out: true,
            retained: true,
            redelivery_counted: false,
        }
    }
}

fn subscription(rng: &mut StdRng, number: usize) -> SubscriptionConfig {
    let name = ["audit", "billing"][number];
    let mut config = SubscriptionConfig {
        ordering: pick(rng, &[Ordering::Key, Ordering::Key, Ordering::Partition, Ordering::None]),
        concurrency: rng.random_range(1..6),
        max_in_flight: rng.random_range(1..40),
        retry: retry(rng),
        exhausted: pick(
            rng,
            &[
                OnExhausted::DeadLetter,
                OnExhausted::DeadLetter,
                OnExhausted::DeadLetter,
                OnExhausted::Halt,
                OnExhausted::Drop,
            ],
        ),
        allow: vec!["out".into()],
        ..SubscriptionConfig::new(name, "fake")
    };
    if let Some(letters) = &mut config.dead_letter {
        letters.dialect =
            pick(rng, &[Dialect::None, Dialect::Spring, Dialect::Connect, Dialect::Streams]);
    }
    match config.exhausted {
        OnExhausted::DeadLetter if config.ordering != Ordering::None && rng.random_bool(0.3) => {
            halt_keys(&mut config.dead_letter);
        }
        // without a dead-letter topic an exhausted event halts its partition, too
        OnExhausted::DeadLetter if rng.random_bool(0.1) => config.dead_letter = None,
        _ => {}
    }
    if config.ordering == Ordering::None && rng.random_bool(0.7) {
        config.retry_tiers = tiers();
    }
    if rng.random_bool(0.25) {
        let pause = millis(200);
        config.breaker = Breaker { failures: rng.random_range(1..5), pause, max_pause: 4 * pause };
    }
    if rng.random_bool(0.35) {
        config.dedup = Some(pick(rng, &[Duration::from_secs(5), Duration::from_secs(86_400)]));
    }
    config
}

/// Whether an event that is given up stops its partition.
pub fn halts(config: &SubscriptionConfig) -> bool {
    match config.exhausted {
        OnExhausted::Halt => true,
        OnExhausted::DeadLetter => config.dead_letter.is_none(),
        OnExhausted::Drop => false,
    }
}

fn halt_keys(letters: &mut Option<DeadLetterConfig>) {
    if let Some(letters) = letters {
        letters.on_dead_letter = OnDeadLetter::HaltKey;
    }
}

fn retry(rng: &mut StdRng) -> RetryPolicy {
    RetryPolicy {
        max_attempts: rng.random_range(1..5),
        initial_delay: millis(rng.random_range(0..2000)),
        max_delay: Duration::from_secs(pick(rng, &[1, 10, 10, 10, 600])),
        multiplier: pick(rng, &[1.0, 2.0, 10.0]),
        jitter: pick(rng, &[0.0, 0.5]),
        max_age: pick(rng, &[Duration::from_secs(4), Duration::from_secs(3600)]),
    }
}

/// The tiers that all plugins share.
pub fn tiers() -> Vec<RetryTier> {
    [500, 5000]
        .map(|delay| {
            let delay = millis(delay);
            RetryTier { delay, topic: reserved::retry_tier("sandbar.", delay).into() }
        })
        .into()
}

pub fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

pub fn pick<T: Clone>(rng: &mut StdRng, from: &[T]) -> T {
    from.choose(rng).expect("something to pick from").clone()
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{self:#?}")
    }
}
