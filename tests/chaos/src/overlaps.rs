//! Whether two attempts at events of one key ran at the same time (contract O1).

use std::collections::VecDeque;

/// Attempts that are remembered per key. What is read out of two files and several topics
/// arrives seconds apart, in which no key makes more attempts than this.
const REMEMBERED: usize = 64;

/// The latest attempts of each key.
#[derive(Debug)]
pub struct Overlaps(Vec<VecDeque<(u64, u64)>>);

impl Overlaps {
    pub fn new(keys: usize) -> Self {
        Self(vec![VecDeque::new(); keys])
    }

    /// Adds an attempt, given by its beginning and end; how many others it overlapped.
    pub fn add(&mut self, key: usize, (began, ended): (u64, u64)) -> u64 {
        let Some(spans) = self.0.get_mut(key) else { return 0 };
        let overlapping = spans.iter().filter(|(b, e)| began < *e && *b < ended).count();
        if spans.len() == REMEMBERED {
            spans.pop_front();
        }
        spans.push_back((began, ended));
        overlapping as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_attempts_of_one_key_at_one_time_overlap() {
        let mut overlaps = Overlaps::new(2);
        assert_eq!(overlaps.add(0, (10, 20)), 0);
        assert_eq!(overlaps.add(0, (20, 30)), 0);
        assert_eq!(overlaps.add(1, (15, 25)), 0);
        assert_eq!(overlaps.add(0, (19, 21)), 2);
        assert_eq!(overlaps.add(0, (1, 5)), 0);
    }

    #[test]
    fn memory_is_bounded() {
        let mut overlaps = Overlaps::new(1);
        for n in 0..1000 {
            overlaps.add(0, (n, n + 1));
        }
        assert_eq!(overlaps.0[0].len(), REMEMBERED);
    }
}
