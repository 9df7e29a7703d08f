//! What can go wrong, and in which order it does.

use std::time::Duration;

use clap::ValueEnum;
use rand::{Rng, RngExt, SeedableRng, rngs::StdRng, seq::SliceRandom};
use serde::Serialize;

/// A kind of fault.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    serde::Deserialize,
    ValueEnum,
)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// `kill -9` of a runtime, started again a moment later.
    Kill,
    /// `kill -9` of the broker, started again a moment later.
    Broker,
    /// SIGSTOP of a runtime for less than its session, a missed heartbeat included.
    Pause,
    /// SIGSTOP of a runtime for longer than its session: a zombie that wakes up.
    Zombie,
    /// Runtimes leave the group and join it, one after the other.
    Rebalances,
    /// Every byte between runtimes and broker is late.
    Delay,
    /// Connections between runtimes and broker are cut, again and again.
    Cut,
    /// One direction of half of the connections ends or falls silent.
    HalfClose,
    /// Nothing may be written to the dead-letter topics.
    DlqDenied,
    /// The plugins' files are written over every second.
    Reload,
    /// The log's file cannot be written.
    DiskFull,
}

/// What a fault needs for itself: two that need the same do not come together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hits {
    Runtimes,
    Broker,
    Network,
    DeadLetters,
    Plugins,
}

impl Kind {
    /// All that there are on Kafka.
    pub const KAFKA: [Self; 10] = [
        Self::Kill,
        Self::Broker,
        Self::Pause,
        Self::Zombie,
        Self::Rebalances,
        Self::Delay,
        Self::Cut,
        Self::HalfClose,
        Self::DlqDenied,
        Self::Reload,
    ];
    /// All that there are on other brokers.
    pub const QUEUES: [Self; 9] = [
        Self::Kill,
        Self::Broker,
        Self::Pause,
        Self::Zombie,
        Self::Rebalances,
        Self::Delay,
        Self::Cut,
        Self::HalfClose,
        Self::Reload,
    ];
    /// All that there are on the embedded log.
    pub const LOG: [Self; 3] = [Self::Kill, Self::Reload, Self::DiskFull];

    /// Its name on the command line and in reports.
    pub fn name(self) -> String {
        self.to_possible_value().map(|v| v.get_name().to_owned()).unwrap_or_default()
    }

    /// Whether it is about one runtime, and so about which.
    pub fn hits_a_runtime(self) -> bool {
        self.hits() == Hits::Runtimes
    }

    fn hits(self) -> Hits {
        match self {
            Self::Kill | Self::Pause | Self::Zombie | Self::Rebalances | Self::DiskFull => {
                Hits::Runtimes
            }
            Self::Broker => Hits::Broker,
            Self::Delay | Self::Cut | Self::HalfClose => Hits::Network,
            Self::DlqDenied => Hits::DeadLetters,
            Self::Reload => Hits::Plugins,
        }
    }
}

/// Of a hundred faults, those that come together with the next one.
const TOGETHER: u32 = 20;

/// An endless order of faults. Each kind comes once before any comes again.
#[derive(Debug)]
pub struct Schedule {
    kinds: Vec<Kind>,
    left: Vec<Kind>,
    random: StdRng,
}

/// One fault or two at once, each with a source of chance of its own, after a moment of calm.
#[derive(Debug)]
pub struct Step {
    pub calm: Duration,
    pub faults: Vec<(Kind, StdRng)>,
}

impl Schedule {
    /// The order that belongs to `seed`; `kinds` must not be empty.
    pub fn new(kinds: &[Kind], seed: u64) -> Self {
        Self { kinds: kinds.to_vec(), left: Vec::new(), random: StdRng::seed_from_u64(seed) }
    }

    fn draw(&mut self) -> (Kind, StdRng) {
        if self.left.is_empty() {
            self.left.clone_from(&self.kinds);
            self.left.shuffle(&mut self.random);
        }
        let kind = self.left.pop().unwrap_or(self.kinds[0]);
        (kind, StdRng::seed_from_u64(self.random.next_u64()))
    }

    /// What comes next.
    pub fn next(&mut self) -> Step {
        let calm = Duration::from_millis(self.random.random_range(500..2500));
        let mut faults = vec![self.draw()];
        let together = self.random.random_range(0..100) < TOGETHER;
        let hits = faults[0].0.hits();
        if together && self.left.last().is_some_and(|next| next.hits() != hits) {
            faults.push(self.draw());
        }
        Step { calm, faults }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(seed: u64, steps: usize) -> Vec<Vec<Kind>> {
        let mut schedule = Schedule::new(&Kind::KAFKA, seed);
        let step = |_| schedule.next().faults.iter().map(|(kind, _)| *kind).collect();
        (0..steps).map(step).collect()
    }

    #[test]
    fn a_seed_is_an_order() {
        assert_eq!(kinds(1, 50), kinds(1, 50));
        assert_ne!(kinds(1, 50), kinds(2, 50));
    }

    #[test]
    fn each_kind_comes_before_any_comes_again_and_some_come_together() {
        let steps = kinds(3, 200);
        let flat: Vec<_> = steps.iter().flatten().copied().collect();
        for round in flat.chunks_exact(Kind::KAFKA.len()) {
            let mut round = round.to_vec();
            round.sort_unstable();
            assert_eq!(round, Kind::KAFKA);
        }
        let pairs: Vec<_> = steps.iter().filter(|step| step.len() == 2).collect();
        assert!(pairs.len() > 10, "{}", pairs.len());
        assert!(pairs.iter().all(|pair| pair[0].hits() != pair[1].hits()));
    }
}
