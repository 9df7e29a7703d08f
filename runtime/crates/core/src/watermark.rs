//! How far a log broker's position may advance (contract C1, C2).

use std::collections::VecDeque;

/// The position of the next event to read, never that of the last one done.
///
/// Brokers disagree on which of the two a commit means (librdkafka's
/// `store_offset` adds one, `store_offsets` does not), so the type says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct ResumeFrom(pub u64);

/// Tracks which events of one partition are in work and which are terminal.
///
/// The position moves only over a gap-free prefix of *delivered* events, so holes
/// in the offsets (compaction, transaction markers) do not stall it. What it holds is
/// bounded by the number of open events, however many others are finished beyond them.
#[derive(Debug, Clone)]
pub struct Watermark {
    /// Delivered events that are not yet below the watermark, in order; the first is open.
    window: VecDeque<Run>,
    next: u64,
    open: usize,
}

/// One open event, or all finished ones between two that are open. Between the latter
/// no delivered event lies, so the holes are covered too.
#[derive(Debug, Clone, Copy)]
struct Run {
    start: u64,
    end: u64,
    done: bool,
}

impl Watermark {
    /// Starts at the position from which the partition is read.
    pub fn new(start: ResumeFrom) -> Self {
        Self { window: VecDeque::new(), next: start.0, open: 0 }
    }

    /// Notes that the event at `position` was delivered. Positions must rise;
    /// one that does not is ignored and `false` returned (a re-read after a seek).
    pub fn deliver(&mut self, position: u64) -> bool {
        if position < self.next {
            return false;
        }
        self.next = position + 1;
        self.window.push_back(Run { start: position, end: self.next, done: false });
        self.open += 1;
        true
    }

    /// Notes that the event at `position` is terminal. `false` when it was not
    /// open (settled twice, or never delivered here).
    pub fn finish(&mut self, position: u64) -> bool {
        let Ok(mut at) = self.window.binary_search_by_key(&position, |run| run.start) else {
            return false;
        };
        if std::mem::replace(&mut self.window[at].done, true) {
            return false;
        }
        self.open -= 1;
        if at > 0 && self.window[at - 1].done {
            at -= 1;
            self.join(at);
        }
        if self.window.get(at + 1).is_some_and(|run| run.done) {
            self.join(at);
        }
        // runs that are finished are joined, so there is one at most
        if self.window.front().is_some_and(|run| run.done) {
            self.window.pop_front();
        }
        true
    }

    /// Makes one run of this and the next.
    fn join(&mut self, at: usize) {
        if let Some(next) = self.window.remove(at + 1) {
            self.window[at].end = next.end;
        }
    }

    /// Where reading must resume so that no unfinished event is skipped.
    pub fn resume_from(&self) -> ResumeFrom {
        ResumeFrom(self.window.front().map_or(self.next, |run| run.start))
    }

    /// Delivered events that are not terminal.
    pub fn open(&self) -> usize {
        self.open
    }

    /// How many ranges [`finished_ahead`](Self::finished_ahead) has, and how many positions lie
    /// between [`resume_from`](Self::resume_from) and the end of the last one at most.
    pub fn extent_ahead(&self) -> (usize, u64) {
        let ranges = self.window.iter().filter(|run| run.done).count();
        (ranges, self.next - self.resume_from().0)
    }

    /// Terminal events beyond [`resume_from`](Self::resume_from) as half-open
    /// ranges of positions, in order. They must not be handled again after a restart.
    pub fn finished_ahead(&self) -> Vec<(u64, u64)> {
        self.window.iter().filter(|run| run.done).map(|run| (run.start, run.end)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c1_position_never_passes_an_open_event() {
        let mut w = Watermark::new(ResumeFrom(5));
        for p in 5..9 {
            assert!(w.deliver(p));
        }
        assert!(w.finish(6) && w.finish(8));
        assert_eq!(w.resume_from(), ResumeFrom(5));
        assert_eq!(w.finished_ahead(), [(6, 7), (8, 9)]);
        assert!(w.finish(5));
        assert_eq!(w.resume_from(), ResumeFrom(7));
        assert!(w.finish(7));
        assert_eq!(w.resume_from(), ResumeFrom(9));
        assert_eq!(w.open(), 0);
    }

    #[test]
    fn c2_gaps_do_not_stall_and_position_never_goes_back() {
        let mut w = Watermark::new(ResumeFrom(0));
        w.deliver(3);
        w.deliver(10);
        assert_eq!(w.resume_from(), ResumeFrom(3));
        w.finish(3);
        assert_eq!(w.resume_from(), ResumeFrom(10));
        w.finish(10);
        assert_eq!(w.resume_from(), ResumeFrom(11));
        assert!(!w.deliver(4), "a re-read event must not be tracked again");
        assert!(!w.finish(3), "nothing is finished twice");
        assert_eq!(w.resume_from(), ResumeFrom(11));
    }

    #[test]
    fn c4_what_is_finished_takes_no_room_however_much_it_is() {
        let mut w = Watermark::new(ResumeFrom(0));
        for p in 0..10_000 {
            w.deliver(p);
        }
        // in an order that leaves many runs to be joined later
        for p in (1..10_000).step_by(2).chain((2..10_000).step_by(2)) {
            assert!(w.finish(p));
        }
        assert_eq!(w.window.len(), 2);
        assert_eq!(w.finished_ahead(), [(1, 10_000)]);
        assert!(!w.finish(5_000), "nothing is finished twice");
        assert!(w.finish(0));
        assert_eq!((w.resume_from(), w.window.len(), w.open()), (ResumeFrom(10_000), 0, 0));
    }
}
