//! The newest records of a partition, for all who read it together.

use std::collections::VecDeque;

use sandbar_core::Event;

/// Bytes that it holds; one record more where they are larger.
const SIZE: u64 = 4 << 20;
/// What a record takes beside what it carries, about.
const OVERHEAD: u64 = 256;
/// Positions that a reader may be ahead: what lies there may be no record (transaction markers).
const AHEAD: u64 = 1000;

/// Records in the order of their positions, which may have gaps.
pub(crate) struct Window {
    /// With each the bytes of all records that ever came before it.
    records: VecDeque<(u64, Event)>,
    bytes: u64,
    /// From here on nothing is missing.
    start: u64,
    /// The lowest position that the next record may have.
    end: u64,
}

impl Window {
    /// Without records, which begin at position `at`.
    pub fn new(at: u64) -> Self {
        Self { records: VecDeque::new(), bytes: 0, start: at, end: at }
    }

    /// Takes in the next record. `false` where positions went back: it belongs to another log.
    #[must_use]
    pub fn push(&mut self, record: Event) -> bool {
        if record.position < self.end {
            return false;
        }
        self.end = record.position + 1;
        let before = self.bytes;
        self.bytes += record.size() as u64 + OVERHEAD;
        self.records.push_back((before, record));
        while self.records.len() > 1
            && let Some((before, _)) = self.records.front()
            && self.bytes - before > SIZE
            && let Some((_, gone)) = self.records.pop_front()
        {
            self.start = gone.position + 1;
        }
        true
    }

    /// Whether whoever read everything before `next` finds here all that follows.
    pub fn covers(&self, next: u64) -> bool {
        next >= self.start
    }

    /// As [`covers`](Self::covers), and not about to be left behind.
    pub fn is_near(&self, next: u64) -> bool {
        let before = self.records.get(self.index(next)).map_or(self.bytes, |(before, _)| *before);
        self.covers(next) && next <= self.end + AHEAD && self.bytes - before <= SIZE / 2
    }

    /// The first record that is not before `next`.
    pub fn from(&self, next: u64) -> Option<&Event> {
        self.records.get(self.index(next)).map(|(_, record)| record)
    }

    fn index(&self, next: u64) -> usize {
        self.records.partition_point(|(_, record)| record.position < next)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::ledger::tests::event;

    fn sized(position: u64, size: usize) -> Event {
        Event { payload: Some(Bytes::from(vec![0; size])), ..event(position) }
    }

    #[test]
    fn c1_positions_that_go_back_are_not_taken_in() {
        let mut window = Window::new(5);
        assert!(!window.push(event(4)));
        assert!(window.push(event(9)));
        assert!(!window.push(event(9)));
        assert_eq!(window.from(5).unwrap().position, 9);
        assert!(window.from(10).is_none());
    }

    #[test]
    fn whoever_is_ahead_of_markers_is_near_and_whoever_is_far_is_not() {
        let window = Window::new(100);
        assert!(window.is_near(100) && window.is_near(103));
        assert!(!window.is_near(99) && !window.is_near(100_000));
    }

    proptest! {
        /// Readers at their own pace meet every record once, or are told that they cannot.
        #[test]
        fn c1_o1_who_is_covered_misses_nothing(
            records in prop::collection::vec((1_u64..4, 0_usize..1 << 20), 1..60),
            reads in prop::collection::vec(0_usize..4, 60),
        ) {
            let mut window = Window::new(0);
            let (mut position, mut next, mut missed) = (0, 0, 0);
            let mut all = Vec::new();
            for ((gap, size), reads) in records.into_iter().zip(reads) {
                position += gap;
                prop_assert!(window.push(sized(position, size)));
                all.push(position);
                prop_assert!(window.bytes - window.records[0].0 <= SIZE || window.records.len() == 1);
                if !window.covers(next) {
                    prop_assert!(!window.is_near(next));
                    prop_assert!(all[missed] < window.start);
                    (next, missed) = (position + 1, all.len());
                }
                for _ in 0..reads {
                    let found = window.from(next).map(|record| record.position);
                    prop_assert_eq!(found, all.get(missed).copied());
                    if let Some(found) = found {
                        (next, missed) = (found + 1, missed + 1);
                    }
                }
            }
        }
    }
}
