//! What handlers are to do with an event, chosen when it is produced.

use std::time::Duration;

use rand::{RngExt, rngs::StdRng};
use sandbar_core::ErrorClass;

use crate::plan::{Plan, millis, pick};

/// What a handler makes of one attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Publishes so many outputs.
    Ok(usize),
    Skip,
    Reject,
    Fail(ErrorClass, Option<Duration>),
    /// Takes long, and then fails by its deadline.
    TimeOut(Duration),
    Defer(Duration),
    /// Publishes what it may not, or what no broker takes.
    Denied,
    Refused,
    Panic,
    /// Answers for fewer events than it was given.
    Short,
}

/// The attempts at an event in their order, over all runs; the last step repeats.
#[derive(Debug, Clone)]
pub struct Script {
    pub steps: Vec<Step>,
    pub millis: u64,
}

impl Script {
    pub fn draw(rng: &mut StdRng, plan: &Plan) -> Self {
        let mut steps: Vec<_> = (0..rng.random_range(1..6)).map(|_| step(rng)).collect();
        // most events come to a good end, and where one that does not would halt its
        // partition for ever, all do
        let good = rng.random_bool(0.6) || plan.plugins.iter().any(crate::plan::halts);
        // what defers for ever never ends
        if good || matches!(steps.last(), Some(Step::Defer(_))) {
            steps.push(Step::Ok(rng.random_range(0..4)));
        }
        Self { steps, millis: rng.random_range(0..400) }
    }

    pub fn step(&self, number: usize) -> Step {
        self.steps[number.min(self.steps.len() - 1)]
    }
}

fn step(rng: &mut StdRng) -> Step {
    const CLASSES: [ErrorClass; 7] = [
        ErrorClass::Handler,
        ErrorClass::Trap,
        ErrorClass::Deadline,
        ErrorClass::CpuTime,
        ErrorClass::Memory,
        ErrorClass::Fuel,
        ErrorClass::Host,
    ];
    match rng.random_range(0..40) {
        0..18 => Step::Ok(rng.random_range(0..4)),
        18..28 => {
            let hint = rng.random_bool(0.2).then(|| millis(rng.random_range(0..3000)));
            Step::Fail(pick(rng, &CLASSES), hint)
        }
        28..30 => Step::TimeOut(millis(rng.random_range(1000..30_000))),
        30..32 => Step::Defer(millis(rng.random_range(1..1500))),
        32 | 33 => Step::Skip,
        34 | 35 => Step::Reject,
        36 => Step::Denied,
        37 => Step::Refused,
        38 => Step::Panic,
        _ => Step::Short,
    }
}
