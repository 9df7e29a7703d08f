//! A plugin: does with each event what its script says, and notes down what it was asked.

use std::{panic::resume_unwind, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use sandbar_core::{
    Call, ErrorClass, HandledBy, Handler, HandlerError, Outcome, Outcomes, Outgoing, Verdict,
};
use tokio::time::sleep;

use crate::{
    broker::{ASSIGNMENT, RECORD},
    faults::ModelFault,
    plan::{ELSEWHERE, millis},
    script::{Script, Step},
    trace::{self, Answer, AssignmentNo, CallNo, MemberNo, RecordNo, What},
    world::{CALL, INDEX, NUMBER, REFUSED, State, World, digits, number},
};

pub struct FakeHandler {
    pub world: Arc<World>,
    pub member: MemberNo,
}

/// A call to the handler; noted as aborted if it is dropped before its end.
struct Batch<'a> {
    handler: &'a FakeHandler,
    calls: Vec<CallNo>,
    number: usize,
    answered: bool,
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        let mut state = self.handler.world.lock();
        if !self.answered && !state.lives[self.handler.member.0].dead {
            self.calls.iter().for_each(|call| state.note(What::Aborted { call: *call }));
        }
    }
}

impl FakeHandler {
    fn begin(&self, calls: &[&Call]) -> (Batch<'_>, u32) {
        let state = &mut *self.world.lock();
        let version = match state.fault {
            Some(ModelFault::ReloadIgnored) => 1,
            _ => state.lives[self.member.0].version,
        };
        let batch = state.batches;
        state.batches += 1;
        let begin = |call: &&Call| state.begin(self.member, call, version, batch);
        let calls = calls.iter().map(begin).collect();
        (Batch { handler: self, calls, number: batch, answered: false }, version)
    }

    fn script(&self, call: CallNo) -> (Script, Step) {
        let state = self.world.lock();
        let number = state.trace.calls[call.0].number;
        let plugin = state.trace.plugin_of(call);
        let tries = state.tries.get(&(plugin, number)).copied().unwrap_or(0);
        let script = state.produced[number].clone();
        let step = script.step(tries);
        (script, step)
    }

    /// What the pipeline hears instead of `result`.
    fn garbled(&self, mut result: Outcome) -> Outcome {
        let fault = self.world.lock().fault;
        if let Err(error) = &mut result {
            match (fault, error.verdict) {
                (Some(ModelFault::RejectionLost), Verdict::Reject) => {
                    error.verdict = Verdict::Retry { after: None };
                }
                (Some(ModelFault::ClassLost), _) => error.class = ErrorClass::Handler,
                _ => {}
            }
        }
        result
    }

    fn end(&self, mut batch: Batch<'_>, answers: Vec<Answer>) {
        let state = &mut *self.world.lock();
        for (call, answer) in batch.calls.iter().zip(answers) {
            let number = state.trace.calls[call.0].number;
            let plugin = state.trace.plugin_of(*call);
            *state.tries.entry((plugin, number)).or_default() += 1;
            state.note(What::Answered { call: *call, answer });
        }
        batch.answered = true;
    }
}

impl State {
    fn begin(&mut self, member: MemberNo, call: &Call, version: u32, batch: usize) -> CallNo {
        let told = |name| call.event.attribute(name).and_then(|n| n.parse().ok());
        let assignment = AssignmentNo(told(ASSIGNMENT).expect("an event of the fake broker"));
        let record = RecordNo(told(RECORD).expect("an event of the fake broker"));
        let number = number(&call.event.headers, NUMBER).expect("a produced event");
        let no = CallNo(self.trace.calls.len());
        self.trace.calls.push(trace::Call {
            member,
            assignment,
            record,
            number,
            attempt: call.attempt,
            version,
            batch,
        });
        self.note(What::Began { call: no });
        no
    }
}

#[async_trait]
impl Handler for FakeHandler {
    async fn handle(&self, calls: &[&Call]) -> Outcomes {
        self.world.alive(self.member).await;
        let (batch, version) = self.begin(calls);
        let by = HandledBy {
            plugin: "plugin".into(),
            version: version.to_string(),
            digest: format!("{version:x}"),
        };
        let (mut answers, mut results) = (Vec::new(), Vec::new());
        // what befalls the whole batch
        let (mut panics, mut short) = (false, false);
        for (no, call) in batch.calls.iter().zip(calls) {
            let (script, step) = self.script(*no);
            let more = if let Step::TimeOut(more) = step { more } else { Duration::ZERO };
            sleep(millis(script.millis) + more).await;
            panics |= step == Step::Panic;
            short |= step == Step::Short;
            let (answer, result) = perform(step, *no, call);
            let result = self.garbled(result);
            answers.push(answer);
            results.push(result);
        }
        self.world.alive(self.member).await;
        if panics || short {
            let host = || Answer::Retry { class: ErrorClass::Host, after: None };
            answers.iter_mut().for_each(|answer| *answer = host());
        }
        let text = format!("batch-{}", batch.number);
        self.end(batch, answers);
        if panics {
            // without the message that a `panic!` prints
            resume_unwind(Box::new(text));
        }
        if short {
            results.pop();
        }
        Outcomes { by: Arc::new(by), results }
    }

    fn max_batch(&self) -> usize {
        let plan = &self.world.plan;
        match plan.paced {
            true => 1 + self.world.lock().batches % plan.max_batch,
            false => plan.max_batch,
        }
    }

    fn min_batch(&self) -> usize {
        if self.world.plan.paced { self.max_batch().div_ceil(2) } else { 1 }
    }
}

fn perform(step: Step, no: CallNo, call: &Call) -> (Answer, Outcome) {
    let fail = |class, verdict| {
        let message = format!("{no}: {step:?}");
        Err(HandlerError { code: no.to_string(), ..HandlerError::new(class, verdict, message) })
    };
    let retry =
        |class, after| (Answer::Retry { class, after }, fail(class, Verdict::Retry { after }));
    match step {
        Step::Ok(n) => {
            let outputs: Vec<_> = (0..n).map(|i| output(no, i, call)).collect();
            (Answer::Ok { outputs: n }, Ok(outputs.into()))
        }
        Step::Denied => {
            let denied = Outgoing { topic: format!("secret-{no}").into(), ..output(no, 0, call) };
            (Answer::Bad(ErrorClass::Denied), Ok(vec![denied].into()))
        }
        Step::Refused => {
            let refused = output(no, 1, call).with_header(REFUSED, Bytes::new());
            (Answer::Bad(ErrorClass::Output), Ok(vec![output(no, 0, call), refused].into()))
        }
        Step::Skip => (Answer::Skip, fail(ErrorClass::Handler, Verdict::Skip)),
        Step::Reject => {
            // an error text that no broker would take as it is
            let message = format!("{no}: {}", "x".repeat(100_000));
            let mut error = HandlerError::new(ErrorClass::Handler, Verdict::Reject, message);
            error.code = no.to_string();
            (Answer::Reject(ErrorClass::Handler), Err(error))
        }
        Step::Fail(class, after) => retry(class, after),
        Step::TimeOut(_) => retry(ErrorClass::Deadline, None),
        Step::Defer(pause) => {
            (Answer::Defer { pause }, fail(ErrorClass::Handler, Verdict::Defer { pause }))
        }
        // the answer is replaced by that of the batch
        Step::Panic | Step::Short => (Answer::Skip, Ok(Default::default())),
    }
}

/// The output number `index` of an attempt. The third goes to another connection.
fn output(no: CallNo, index: usize, call: &Call) -> Outgoing {
    let number = number(&call.event.headers, NUMBER).expect("a produced event");
    let mut output = Outgoing::new("out", Bytes::new())
        .with_header(NUMBER, digits(number))
        .with_header(CALL, digits(no.0))
        .with_header(INDEX, digits(index));
    output.key = call.event.key.clone();
    output.connection = (index == 2).then(|| ELSEWHERE.into());
    output
}
