use super::*;
use crate::script::Profile;

struct Run {
    script: Script,
    verifier: Verifier,
    poison: u64,
}

const SENT: u64 = 1000;

impl Run {
    /// One key, one subscription, everything sent.
    fn new() -> Self {
        let script = Script::new(6, Profile::MIXED);
        let verifier = Verifier::new(script, 1, 1, 1, Arc::default());
        let run =
            Self { script, verifier, poison: (0..SENT).find(|n| script.is_poison(0, *n)).unwrap() };
        for n in 0..SENT {
            run.observe(Place::Input, &script.payload(0, n));
        }
        run
    }

    fn observe(&self, place: Place, payload: &str) {
        let payload = payload.as_bytes();
        self.verifier.observe(&Record { place, key: b"0", payload, timestamp: 1 });
    }

    fn handle(&self, number: u64) {
        let at = number * 10;
        self.observe(Place::Output(0), &format!("{number} 0 {at} 1 1.0.0 {at} {}", at + 5));
    }

    fn bury(&self, number: u64) {
        self.observe(Place::Dead(0), &self.script.payload(0, number));
    }

    /// All events as they should be, but for `except`.
    fn finish_all_but(&self, except: u64) {
        for n in (0..SENT).filter(|n| *n != except) {
            match self.script.is_poison(0, n) {
                true => self.bury(n),
                false => self.handle(n),
            }
        }
    }

    fn total(&self) -> Tally {
        let verdict = self.verifier.close(&[SENT]);
        assert_eq!(verdict.flaws, 0, "{:?}", verdict.examples);
        verdict.total(0)
    }
}

#[test]
fn a_clean_run_balances() {
    let run = Run::new();
    run.finish_all_but(u64::MAX);
    let total = run.total();
    assert_eq!(total.handled + total.dead_lettered, SENT);
    assert!(total.dead_lettered > 0);
    let clean = Tally {
        sent: SENT,
        handled: total.handled,
        dead_lettered: total.dead_lettered,
        ..Tally::default()
    };
    assert_eq!(total, clean);
    assert!(run.verifier.has_reached((SENT - 20) * 10));
    assert!(!run.verifier.has_reached(SENT * 10));
}

#[test]
fn what_is_missing_is_lost_be_it_an_output_or_a_dead_letter() {
    let run = Run::new();
    run.finish_all_but(run.poison);
    assert_eq!(run.total().lost, 1);
    let run = Run::new();
    run.finish_all_but(run.poison + 1);
    assert_eq!(run.total().lost, 1);
}

#[test]
fn what_comes_late_or_twice_or_at_once_is_told() {
    let run = Run::new();
    let late = run.poison + 1;
    run.finish_all_but(late);
    run.handle(late);
    run.handle(0);
    run.bury(run.poison);
    let total = run.total();
    assert_eq!((total.lost, total.out_of_order, total.duplicated), (0, 1, 2));
    // the repeated output has the stamps of the first one
    assert_eq!(total.overlapping, 0, "the first one is long forgotten");
    run.handle(0);
    assert_eq!(run.total().overlapping, 1);
}

#[test]
fn what_must_not_be_there_is_told() {
    let run = Run::new();
    run.finish_all_but(u64::MAX);
    run.handle(run.poison);
    run.bury(run.poison + 1);
    assert_eq!(run.total().wrong, 2);
    run.observe(Place::Dead(0), &format!("{} 0 changed", run.poison));
    assert_eq!(run.total().wrong, 3);
}

#[test]
fn an_input_with_holes_judges_nobody() {
    let run = Run::new();
    run.finish_all_but(u64::MAX);
    assert_eq!(run.verifier.close(&[SENT + 1]).flaws, 1);
    run.observe(Place::Input, "not ours");
    assert_eq!(run.verifier.close(&[SENT]).flaws, 1);
}
