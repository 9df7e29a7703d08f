use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

pub(crate) fn event(position: u64) -> Event {
    Event {
        topic: "t".into(),
        partition: 0,
        position,
        key: None,
        payload: None,
        headers: [].into(),
        timestamp_ms: 0,
        attributes: [].into(),
    }
}

fn id() -> PartitionId {
    PartitionId { topic: "t".into(), partition: 0 }
}

/// A ledger of a partition that nobody had committed before.
pub(crate) fn fresh() -> Ledger {
    let mut ledger = Ledger::default();
    ledger.inherit(&id(), None);
    ledger
}

/// The same, as if it were not yet known what was committed.
pub(crate) fn not_begun(mut ledger: Ledger) -> Ledger {
    ledger.inherited = None;
    ledger
}

/// A ledger that begins where `cursor` was committed.
fn after(cursor: &Cursor) -> Ledger {
    let mut ledger = Ledger::default();
    let metadata = cursor.metadata.clone().into_bytes();
    ledger.inherit(&id(), Some(Committed { position: cursor.position.0, metadata }));
    ledger
}

/// Admits positions and returns those that are delivered.
fn admit(ledger: &mut Ledger, positions: impl IntoIterator<Item = u64>) -> Vec<u64> {
    positions.into_iter().filter_map(|p| Some(ledger.admit(event(p))?.token.0)).collect()
}

fn position(ledger: &Ledger) -> Option<u64> {
    ledger.moved().map(|cursor| cursor.position.0)
}

#[test]
fn c1_commits_follow_the_watermark_and_each_position_is_told_once() {
    let mut ledger = fresh();
    assert_eq!(admit(&mut ledger, [5, 6, 9]), [5, 6, 9]);
    assert_eq!(position(&ledger), Some(5));
    ledger.tell(ledger.cursor());
    assert_eq!(position(&ledger), None);
    assert!(ledger.finish(AckToken(5)));
    assert_eq!(position(&ledger), Some(6));
    assert!(ledger.finish(AckToken(6)) && ledger.finish(AckToken(9)));
    assert_eq!(position(&ledger), Some(10));
}

#[test]
fn c1_the_last_commit_trusts_nothing_that_was_only_told() {
    let mut ledger = fresh();
    assert_eq!(ledger.cursor(), None);
    ledger.admit(event(0));
    ledger.finish(AckToken(0));
    ledger.tell(ledger.cursor());
    assert_eq!(ledger.cursor().unwrap().position, ResumeFrom(1));
}

#[test]
fn c2_records_under_old_numbers_wait_for_the_unfinished_ones_and_are_not_lost() {
    let mut ledger = fresh();
    ledger.admit(event(7));
    assert!(ledger.admit(event(0)).is_none());
    let held = ledger.take_held().unwrap();
    assert!(ledger.finish(AckToken(7)));
    assert_eq!(ledger.admit(held).unwrap().token, AckToken(0));
    assert_eq!(position(&ledger), Some(0));
    assert_eq!(ledger.open(), 1);
}

#[test]
fn c3_a_finished_event_is_told_although_the_position_stands_still() {
    let mut ledger = fresh();
    admit(&mut ledger, 0..4);
    ledger.tell(ledger.cursor());
    ledger.finish(AckToken(2));
    let cursor = ledger.moved().unwrap();
    assert_eq!(cursor.position, ResumeFrom(0));
    let mut next = after(&cursor);
    assert_eq!(next.moved(), None, "what is committed need not be committed again");
    assert_eq!(admit(&mut next, 0..6), [0, 1, 3, 4, 5]);
}

#[test]
fn c3_what_was_inherited_is_told_on_until_it_is_met() {
    let mut first = fresh();
    admit(&mut first, 0..100);
    (50..100).for_each(|p| assert!(first.finish(AckToken(p))));
    // a second owner that gets as far as 9, and a third
    let mut second = after(&first.cursor().unwrap());
    assert_eq!(admit(&mut second, 0..10), (0..10).collect::<Vec<_>>());
    (0..10).for_each(|p| assert!(second.finish(AckToken(p))));
    let mut third = after(&second.cursor().unwrap());
    assert_eq!(admit(&mut third, 10..102), (10..50).chain([100, 101]).collect::<Vec<_>>());
}

#[test]
fn c3_records_under_old_numbers_are_not_taken_for_finished_ones() {
    let mut first = fresh();
    admit(&mut first, 10..20);
    (15..20).for_each(|p| assert!(first.finish(AckToken(p))));
    let cursor = first.cursor().unwrap();
    // begun anew before the committed position
    assert_eq!(admit(&mut after(&cursor), 0..20), (0..20).collect::<Vec<_>>());
    // begun where it was committed, then cut
    let mut cut = after(&cursor);
    assert_eq!(admit(&mut cut, [10]), [10]);
    cut.finish(AckToken(10));
    assert_eq!(admit(&mut cut, 0..20), (0..20).collect::<Vec<_>>());
}

#[test]
fn c3_a_strangers_metadata_changes_nothing() {
    let mut ledger = Ledger::default();
    let metadata = b"\xffhost-3".to_vec();
    ledger.inherit(&id(), Some(Committed { position: 5, metadata }));
    assert_eq!(admit(&mut ledger, 5..8), [5, 6, 7]);
    assert_eq!(position(&ledger), Some(5), "and is replaced");
}

/// A ledger with every third event open, until its intake stops.
fn filled() -> (Ledger, u64) {
    let mut ledger = fresh();
    // far apart, so that no bitmap makes it small
    let mut next = 0;
    while !ledger.is_full() {
        admit(&mut ledger, [next, next + 1]);
        assert!(ledger.finish(AckToken(next + 1)));
        next += 1_000;
        assert!(next < 10_000_000, "never full");
    }
    (ledger, next)
}

#[test]
fn c3_at_three_quarters_intake_stops_and_goes_on_when_some_are_finished() {
    let (mut ledger, _) = filled();
    assert!((0.75..0.76).contains(&ledger.fill()), "{}", ledger.fill());
    (0..20).for_each(|n| assert!(ledger.finish(AckToken(n * 1_000))));
    assert!(!ledger.is_full());
}

#[test]
fn c3_a_restart_with_full_metadata_reads_again_what_makes_it_shrink() {
    let (ledger, next) = filled();
    let cursor = ledger.cursor().unwrap();
    let mut again = after(&cursor);
    assert!(!again.is_full(), "nothing could ever be finished");
    let open = admit(&mut again, (0..next / 1_000).flat_map(|n| [n * 1_000, n * 1_000 + 1]));
    assert_eq!(open.len() as u64, next / 1_000);
    assert!(again.is_full(), "all of it was met: nothing new before some are finished");
}

proptest! {
    /// Owners come and go; each takes in some events, finishes some in any order and
    /// commits. The model is the set of all that is finished.
    #[test]
    fn c3_no_finished_event_is_delivered_again_and_no_other_is_passed_over(
        owners in prop::collection::vec(
            (0..60_usize, prop::collection::vec(any::<prop::sample::Index>(), 0..60)),
            1..8,
        ),
        // offsets that hold no record
        gaps in prop::collection::btree_set(0..400_u64, 0..100),
    ) {
        let log: Vec<u64> = (0..400).filter(|p| !gaps.contains(p)).collect();
        let mut finished: BTreeSet<u64> = BTreeSet::new();
        let mut committed: Option<Cursor> = None;
        for (count, finishing) in owners {
            let mut ledger = committed.as_ref().map_or_else(fresh, after);
            let from = committed.as_ref().map_or(0, |c| c.position.0);
            let read = log.iter().copied().filter(|p| *p >= from).take(count);
            let mut open = Vec::new();
            for position in read {
                let delivered = ledger.admit(event(position)).is_some();
                prop_assert_eq!(delivered, !finished.contains(&position));
                if delivered { open.push(position) }
            }
            for index in finishing {
                if open.is_empty() { break }
                let position = open.swap_remove(index.index(open.len()));
                prop_assert!(ledger.finish(AckToken(position)));
                finished.insert(position);
            }
            if let Some(cursor) = ledger.cursor() {
                let unfinished = log.iter().find(|p| !finished.contains(p));
                prop_assert!(unfinished.is_none_or(|p| cursor.position.0 <= *p));
                committed = Some(cursor);
            }
        }
    }
}
