//! One play, from its seed to the checker's verdict.

use std::panic::{AssertUnwindSafe, catch_unwind};

use sandbar_pipeline::faults::{Fault, planted_during};

use crate::{
    check::{self, Violation},
    driver::Driver,
    faults::ModelFault,
    plan::Plan,
    trace::Trace,
    world::World,
};

/// A fault of either kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Planted {
    Pipeline(Fault),
    Model(ModelFault),
}

/// What came of a play.
pub struct Played {
    pub seed: u64,
    pub plan: Plan,
    pub trace: Trace,
    pub violations: Vec<Violation>,
}

/// Plays `seed` and checks what happened.
pub fn play(seed: u64, fault: Option<Planted>) -> Played {
    let (pipeline, model) = match fault {
        Some(Planted::Pipeline(fault)) => (Some(fault), None),
        Some(Planted::Model(fault)) => (None, Some(fault)),
        None => (None, None),
    };
    planted_during(pipeline, || perform(seed, model))
}

fn perform(seed: u64, fault: Option<ModelFault>) -> Played {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    let world = runtime.block_on(async { World::new(seed, fault) });
    let played = catch_unwind(AssertUnwindSafe(|| {
        runtime.block_on(Driver::new(world.clone()).play());
    }));
    // nothing is to be noted while the tasks that are left are dropped
    let trace = world.take_trace();
    drop(runtime);
    let mut violations = check::check(&world.plan, &trace);
    if played.is_err() {
        violations.insert(0, Violation::new("panic", "a panic ended the play", []));
    }
    if trace.endless {
        violations.insert(0, Violation::new("endless", "it goes on and on", []));
    }
    Played { seed, plan: world.plan.clone(), trace, violations }
}
