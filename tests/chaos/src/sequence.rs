//! The numbers of one key as they were seen, in a few bytes however many there are.

use std::collections::BTreeMap;

use crate::faults::Kind;

/// Numbers below `next` were seen, but for the missing ones.
#[derive(Debug, Clone, Default)]
pub struct Sequence {
    next: u64,
    /// Passed over, with the fault under which that was noticed.
    missing: BTreeMap<u64, Option<Kind>>,
}

/// What an appearance was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// The first one, in order.
    First,
    /// The first one, after a younger number's.
    Late,
    /// One more.
    Again,
    /// Of a number that must not appear at all.
    Foreign,
}

impl Sequence {
    /// Takes note of `number`. `belongs` says which numbers are to appear.
    pub fn see(&mut self, number: u64, under: Option<Kind>, belongs: impl Fn(u64) -> bool) -> Seen {
        if !belongs(number) {
            return Seen::Foreign;
        }
        if number >= self.next {
            let passed = (self.next..number).filter(|n| belongs(*n));
            self.missing.extend(passed.map(|n| (n, under)));
            self.next = number + 1;
            return Seen::First;
        }
        match self.missing.remove(&number) {
            Some(_) => Seen::Late,
            None => Seen::Again,
        }
    }

    /// The numbers below `end` that never appeared, with the fault under which they were
    /// missed; `None` for those after the last one seen.
    pub fn lost(
        &self,
        end: u64,
        belongs: impl Fn(u64) -> bool,
    ) -> impl Iterator<Item = (u64, Option<Kind>)> {
        let tail = (self.next..end).filter(move |n| belongs(*n)).map(|n| (n, None));
        self.missing.iter().map(|(n, kind)| (*n, *kind)).chain(tail)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(_: u64) -> bool {
        true
    }

    fn see(numbers: &[u64]) -> (Vec<Seen>, Sequence) {
        let mut sequence = Sequence::default();
        (numbers.iter().map(|n| sequence.see(*n, None, all)).collect(), sequence)
    }

    #[test]
    fn repeats_are_told_from_what_comes_late() {
        let (seen, sequence) = see(&[0, 1, 3, 2, 1, 3]);
        assert_eq!(
            seen,
            [Seen::First, Seen::First, Seen::First, Seen::Late, Seen::Again, Seen::Again]
        );
        assert_eq!(sequence.lost(4, all).count(), 0);
    }

    #[test]
    fn a_repeat_of_older_numbers_is_no_disorder() {
        let (seen, _) = see(&[0, 1, 2, 0, 1, 2, 3]);
        assert_eq!(seen[3..], [Seen::Again, Seen::Again, Seen::Again, Seen::First]);
    }

    #[test]
    fn what_never_came_is_lost_in_the_middle_and_at_the_end() {
        let mut sequence = Sequence::default();
        sequence.see(0, None, all);
        sequence.see(2, Some(Kind::Kill), all);
        let lost: Vec<_> = sequence.lost(5, all).collect();
        assert_eq!(lost, [(1, Some(Kind::Kill)), (3, None), (4, None)]);
    }

    #[test]
    fn numbers_that_do_not_belong_are_neither_missed_nor_taken() {
        let even = |n: u64| n.is_multiple_of(2);
        let mut sequence = Sequence::default();
        assert_eq!(sequence.see(0, None, even), Seen::First);
        assert_eq!(sequence.see(1, None, even), Seen::Foreign);
        assert_eq!(sequence.see(4, None, even), Seen::First);
        assert_eq!(sequence.lost(6, even).collect::<Vec<_>>(), [(2, None)]);
    }
}
