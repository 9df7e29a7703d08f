use sandbar_core::ResumeFrom;

use super::*;
use crate::ledger::tests::{event, fresh, not_begun};

fn slot(ledger: Ledger) -> Slot {
    let intake = Intake::default();
    let state = State { intake, phase: Phase::Open, ledger, full: false, warned: None };
    Slot {
        id: PartitionId { topic: "t".into(), partition: 0 },
        epoch: 1,
        wake: Arc::default(),
        state: Mutex::new(state),
    }
}

fn done(position: u64, effects: Vec<sandbar_core::Outgoing>) -> Settlement {
    Settlement { token: AckToken(position), disposition: Disposition::done(effects) }
}

#[test]
fn h4_while_draining_settlements_count_and_nothing_is_handed_out() {
    let mut ledger = fresh();
    ledger.admit(event(3));
    ledger.admit(event(0));
    let slot = slot(ledger);
    slot.revoke();
    slot.settle(&[done(3, vec![])]).unwrap();
    assert!(slot.take(10).unwrap().is_none(), "the held record is ready, but not ours any more");
    assert_eq!(slot.fence("gone").unwrap().position, ResumeFrom(4));
    assert!(matches!(slot.take(10), Err(SourceError::Fenced(_))));
    assert!(matches!(slot.settle(&[done(0, vec![])]), Err(SourceError::Fenced(_))));
    assert!(slot.preview([AckToken(0)].into_iter()).is_err());
}

#[test]
fn effects_are_refused_and_nothing_of_that_call_is_settled() {
    let mut ledger = fresh();
    ledger.admit(event(0));
    ledger.admit(event(1));
    let slot = slot(ledger);
    let effect = sandbar_core::Outgoing::new("out", "x");
    let refused = slot.settle(&[done(0, vec![]), done(1, vec![effect])]);
    assert!(
        matches!(refused, Err(SourceError::Rejected { token: AckToken(1), .. })),
        "{refused:?}"
    );
    assert_eq!(slot.moved().unwrap().position, ResumeFrom(0));
}

#[test]
fn c3_nothing_is_handed_out_before_the_committed_metadata_is_known() {
    // a record is ready, whatever else is not
    let mut ledger = fresh();
    ledger.admit(event(9));
    ledger.admit(event(0));
    ledger.finish(AckToken(9));
    let slot = slot(not_begun(ledger));
    assert!(slot.take(10).unwrap().is_none());
    slot.begin(None, |_, _| Ok(())).unwrap();
    assert_eq!(slot.take(10).unwrap().unwrap().len(), 1);
}

#[test]
fn e1_a_preview_finishes_nothing() {
    let mut ledger = fresh();
    (0..3).for_each(|p| assert!(ledger.admit(event(p)).is_some()));
    let slot = slot(ledger);
    let (cursor, open) = slot.preview([AckToken(0), AckToken(0), AckToken(7)].into_iter()).unwrap();
    assert_eq!(cursor.as_ref().unwrap().position, ResumeFrom(1));
    assert_eq!(open, [true, false, false]);
    assert_eq!(slot.moved().unwrap().position, ResumeFrom(0));
    slot.committed(cursor, [AckToken(0)].into_iter());
    assert_eq!(slot.moved(), None);
}
