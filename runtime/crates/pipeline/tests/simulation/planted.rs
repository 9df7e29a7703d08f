//! Every statement that the checker knows, and a fault by which it is broken: each is
//! planted, and noticed by the statement's id. First the traps that the contract lists.

use sandbar_pipeline::faults::Fault;

use crate::{
    faults::{Misled, ModelFault},
    play::{Planted, play},
};

/// Seeds within which a fault has to be noticed.
const SEEDS: u64 = 1500;

fn noticed(id: &str, fault: Planted) {
    let shows = |seed: &u64| play(*seed, Some(fault)).violations.iter().any(|v| v.id == id);
    let seed = (0..SEEDS).find(shows);
    assert!(seed.is_some(), "{fault:?} is not noticed as {id} within {SEEDS} seeds");
    // without the fault the very same play is in order
    let clean = play(seed.unwrap_or_default(), None);
    assert!(clean.violations.is_empty(), "{}", clean.report());
}

fn pipeline(id: &str, fault: Fault) {
    noticed(id, Planted::Pipeline(fault));
}

fn model(id: &str, fault: ModelFault) {
    noticed(id, Planted::Model(fault));
}

#[test]
fn c1_a_failed_event_that_later_commits_pass_is_noticed() {
    model("C1", ModelFault::LaterPositionsCommitted);
}

#[test]
fn c1_r7_an_event_that_is_settled_while_its_retry_waits_is_noticed() {
    pipeline("C1", Fault::RetrySettled);
    pipeline("R7", Fault::RetrySettled);
}

#[test]
fn i2_a_mark_before_the_work_is_done_is_noticed() {
    pipeline("I2", Fault::MarkedFirst);
}

#[test]
fn i1_a_look_and_a_mark_with_time_between_them_is_noticed() {
    pipeline("I1", Fault::MarksNotHeld);
}

#[test]
fn i3_marks_without_end_are_noticed() {
    pipeline("I3", Fault::MarksForever);
}

#[test]
fn r7_a_dead_letter_because_a_shutdown_cancelled_the_retry_is_noticed() {
    pipeline("R7", Fault::ShutdownBuries);
}

#[test]
fn c1_a_dropped_delivery_taken_as_acknowledged_is_noticed() {
    model("C1", ModelFault::DroppedIsAcknowledged);
}

#[test]
fn h5_an_acknowledgement_before_the_position_is_durable_is_noticed() {
    model("H5", ModelFault::LastCommitSkipped);
}

#[test]
fn c1_d1_an_acknowledgement_before_outputs_are_durable_is_noticed() {
    pipeline("C1", Fault::OutputsNotAwaited);
    pipeline("D1", Fault::OutputsNotAwaited);
}

#[test]
fn r5_a_parcel_that_is_passed_before_it_is_carried_is_noticed() {
    model("R5", ModelFault::CarriedBeforeDurable);
}

#[test]
fn r5_one_consumer_for_each_retry_topic_and_plugin_is_noticed() {
    model("R5", ModelFault::CourierPerPlugin);
}

#[test]
fn o1_two_attempts_of_one_key_at_once_are_noticed() {
    pipeline("O1", Fault::LanesShared);
}

#[test]
fn o2_o3_an_event_that_overtakes_one_that_waits_is_noticed() {
    pipeline("O2", Fault::LaneLeftForRetry);
    pipeline("O3", Fault::LaneLeftForRetry);
}

#[test]
fn r1_a_retry_before_it_is_due_is_noticed() {
    pipeline("R1", Fault::RetryEarly);
}

#[test]
fn e2_a_commit_of_a_zombie_is_noticed() {
    model("E2", ModelFault::ZombieAccepted);
}

#[test]
fn o3_an_event_without_a_key_that_waits_for_another_is_noticed() {
    model("O3", ModelFault::KeyMadeUp);
}

#[test]
fn o4_an_event_that_does_not_wait_behind_a_dead_letter_is_noticed() {
    model("O4", ModelFault::Misled(Misled::HaltedKeys));
}

#[test]
fn c2_a_position_that_a_gap_holds_up_is_noticed() {
    model("C2", ModelFault::GapsStall);
}

#[test]
fn c3_finished_work_that_is_done_again_is_noticed() {
    model("C3", ModelFault::FinishedAheadForgotten);
}

#[test]
fn c4_a_window_without_bounds_is_noticed() {
    model("C4", ModelFault::Misled(Misled::Window));
}

#[test]
fn r2_attempts_without_number_are_noticed() {
    model("R2", ModelFault::Misled(Misled::Attempts));
}

#[test]
fn r3_an_attempt_after_a_rejection_is_noticed() {
    model("R3", ModelFault::RejectionLost);
}

#[test]
fn r4_a_failure_under_the_name_of_another_is_noticed() {
    model("R4", ModelFault::ClassLost);
}

#[test]
fn r6_events_that_are_dropped_unasked_are_noticed() {
    model("R6", ModelFault::Misled(Misled::Halt));
}

#[test]
fn r8_attempts_in_a_pause_are_noticed() {
    model("R8", ModelFault::Misled(Misled::Breaker));
}

#[test]
fn d1_what_is_dropped_instead_of_buried_is_noticed() {
    model("D1", ModelFault::Misled(Misled::Burial));
}

#[test]
fn d2_a_letter_without_its_headers_is_noticed() {
    model("D2", ModelFault::LetterStripped);
}

#[test]
fn d3_a_redrive_to_those_who_did_not_fail_is_noticed() {
    model("D3", ModelFault::RedrivenToAll);
}

#[test]
fn d5_redrives_without_number_are_noticed() {
    model("D5", ModelFault::QuarantineIgnored);
}

#[test]
fn d6_a_handler_that_is_given_what_cannot_be_decoded_is_noticed() {
    model("D6", ModelFault::BrokenRepaired);
}

#[test]
fn e1_effects_of_a_transaction_that_failed_are_noticed() {
    model("E1", ModelFault::EffectsWithoutPosition);
}

#[test]
fn h1_a_group_that_does_not_resume_is_noticed() {
    model("H1", ModelFault::CursorForgotten);
}

#[test]
fn h2_an_attempt_in_a_version_that_was_replaced_is_noticed() {
    model("H2", ModelFault::ReloadIgnored);
}

#[test]
fn h4_a_drain_beyond_its_deadline_is_noticed() {
    model("H4", ModelFault::DeadlineMisstated);
}

#[test]
fn h6_a_cancelled_attempt_that_is_settled_is_noticed() {
    pipeline("H6", Fault::AbortedSettled);
}
