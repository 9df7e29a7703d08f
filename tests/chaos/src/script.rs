//! What is sent: derived from the seed, the key and the number alone, so that a
//! verifier needs no copy of it.

use rand::{RngExt, SeedableRng, rngs::StdRng};

/// Shares of events that do not simply succeed, and how long they take.
#[derive(Debug, Clone, Copy)]
pub struct Profile {
    /// Of a thousand events, those that can never be handled.
    poison: u32,
    /// Of a thousand events, those that fail a few times first.
    retried: u32,
    /// Longest delay that a failing attempt asks for, in milliseconds.
    longest_delay: u64,
    /// Of a thousand events, those that take time.
    slow: u32,
    /// Longest time that one takes, in milliseconds.
    longest_sleep: u64,
}

impl Profile {
    /// For a run with faults: all kinds of events, most of them quick.
    pub const MIXED: Self =
        Self { poison: 5, retried: 50, longest_delay: 400, slow: 100, longest_sleep: 40 };
    /// For a rebalance storm: every event takes up to 500 ms, one in ten is retried, three
    /// times at the most and 30 s in all.
    pub const SLOW: Self =
        Self { poison: 0, retried: 100, longest_delay: 10_000, slow: 1000, longest_sleep: 500 };
}

/// The events of a run.
#[derive(Debug, Clone, Copy)]
pub struct Script {
    seed: u64,
    profile: Profile,
}

/// What becomes of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Handled at the first attempt.
    Handled,
    /// Handled after so many failed attempts, each asking for a delay in milliseconds.
    Retried { times: u32, delay: u64 },
    /// Never handled; the word for the plugin.
    Poison(&'static str),
}

impl Script {
    pub fn new(seed: u64, profile: Profile) -> Self {
        Self { seed, profile }
    }

    fn random(&self, key: u32, number: u64) -> StdRng {
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&self.seed.to_le_bytes());
        seed[8..12].copy_from_slice(&key.to_le_bytes());
        seed[12..20].copy_from_slice(&number.to_le_bytes());
        StdRng::from_seed(seed)
    }

    fn draw(&self, key: u32, number: u64) -> (Fate, u64) {
        let Profile { poison, retried, longest_delay, slow, longest_sleep } = self.profile;
        let mut random = self.random(key, number);
        let fate = match random.random_range(0..1000) {
            n if n < poison => {
                Fate::Poison(["reject", "exhaust", "trap"][random.random_range(0..3)])
            }
            n if n < poison + retried => Fate::Retried {
                times: random.random_range(1..=3),
                delay: random.random_range(20..=longest_delay),
            },
            _ => Fate::Handled,
        };
        let is_slow = random.random_range(0..1000) < slow;
        (fate, if is_slow { random.random_range(0..=longest_sleep) } else { 0 })
    }

    /// Whether event `number` of `key` can never be handled.
    pub fn is_poison(&self, key: u32, number: u64) -> bool {
        matches!(self.draw(key, number).0, Fate::Poison(_))
    }

    /// What the plugin reads.
    pub fn payload(&self, key: u32, number: u64) -> String {
        let (fate, sleep) = self.draw(key, number);
        match fate {
            Fate::Handled => format!("{number} {sleep} ok"),
            Fate::Retried { times, delay } => format!("{number} {sleep} retry {times} {delay}"),
            Fate::Poison(word) => format!("{number} {sleep} {word}"),
        }
    }
}

/// The number that a payload begins with, be it an event or an output.
pub fn number_of(payload: &str) -> Option<u64> {
    payload.split(' ').next()?.parse().ok()
}

/// What an output says of the attempt that made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attempt {
    /// Number of the event within its key.
    pub number: u64,
    /// Partition of the event.
    pub partition: u32,
    /// When the event was sent, in milliseconds since the Unix epoch.
    pub sent_ms: u64,
    /// Which attempt it was, from 1.
    pub attempt: u32,
    /// Beginning and end, in microseconds since the Unix epoch.
    pub span: (u64, u64),
}

impl Attempt {
    /// Reads an output's payload.
    pub fn parse(payload: &str) -> Option<Self> {
        let words: Vec<&str> = payload.split(' ').collect();
        let [number, partition, sent_ms, attempt, _version, began, ended] = words.as_slice() else {
            return None;
        };
        Some(Self {
            number: number.parse().ok()?,
            partition: partition.parse().ok()?,
            sent_ms: sent_ms.parse().ok()?,
            attempt: attempt.parse().ok()?,
            span: (began.parse().ok()?, ended.parse().ok()?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_tells_the_same_story_and_another_one_another() {
        let all = |seed| -> Vec<String> {
            let script = Script::new(seed, Profile::MIXED);
            (0..20).flat_map(|key| (0..20).map(move |n| script.payload(key, n))).collect()
        };
        assert_eq!(all(1), all(1));
        assert_ne!(all(1), all(2));
    }

    #[test]
    fn every_kind_of_event_comes_up_in_its_share() {
        let script = Script::new(3, Profile::MIXED);
        let all: Vec<_> = (0..20_000).map(|n| script.draw(7, n).0).collect();
        let share = |is: fn(&Fate) -> bool| all.iter().filter(|fate| is(fate)).count();
        let poison = share(|f| matches!(f, Fate::Poison(_)));
        let retried = share(|f| matches!(f, Fate::Retried { .. }));
        assert!((50..200).contains(&poison), "{poison}");
        assert!((800..1200).contains(&retried), "{retried}");
        for word in ["reject", "exhaust", "trap"] {
            assert!(all.contains(&Fate::Poison(word)));
        }
    }

    #[test]
    fn an_outputs_payload_is_read_back() {
        let read = Attempt::parse("7 3 1000 2 1.0.0 500 900").unwrap();
        let wanted =
            Attempt { number: 7, partition: 3, sent_ms: 1000, attempt: 2, span: (500, 900) };
        assert_eq!(read, wanted);
        assert_eq!(Attempt::parse("7 3 1000 2 1.0.0 500"), None);
    }
}
