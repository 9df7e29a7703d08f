//! The calls in one instance, and on behalf of which of them guest code runs.

use std::collections::BTreeMap;

use sandbar_core::{HandlerError, Outcome};
use tokio::sync::oneshot;
use wasmtime::{AsContextMut, UpdateDeadline, component::GuestTaskId};

use super::pulse::Pulse;
use crate::{
    Limits,
    foreign::Outbox,
    limits::{CpuTime, LimitHit, Reading},
    state::State,
};

/// The call on whose behalf guest code runs, or the host for it: to be asked before anything is
/// waited for. Wasmtime knows it, since each call is a task of its own.
pub(crate) fn caller(
    mut store: impl AsContextMut<Data = State>,
) -> wasmtime::Result<Option<GuestTaskId>> {
    Ok(store.as_context_mut().async_call_stack()?.last())
}

/// One attempt at an event.
pub(super) struct Attempt {
    pub(super) cpu: CpuTime,
    pub(super) outbox: Outbox,
    /// Where the outcome goes; none when it is there.
    reply: Option<oneshot::Sender<Outcome>>,
}

impl Attempt {
    pub(super) fn new(cpu: CpuTime, limits: &Limits, reply: oneshot::Sender<Outcome>) -> Self {
        Self { cpu, outbox: Outbox::new(limits), reply: Some(reply) }
    }
}

/// The calls in one instance. One that has an outcome stays until its place is taken: its task
/// may have more to do, on its own account.
#[derive(Default)]
pub(crate) struct Tasks {
    attempts: BTreeMap<GuestTaskId, Attempt>,
    /// The one that went against its limits.
    blame: Option<GuestTaskId>,
    pub(super) begun: u64,
    /// An outcome went against its limits.
    pub(super) spent: bool,
    pub(super) pulse: Pulse,
}

impl Tasks {
    pub(super) fn begin(&mut self, task: GuestTaskId, attempt: Attempt) {
        self.begun += 1;
        self.attempts.insert(task, attempt);
    }

    /// The handler has returned. An outer error is one against the limits.
    pub(super) fn end(
        &mut self,
        task: GuestTaskId,
        outcome: impl FnOnce(&mut Outbox) -> Result<Outcome, HandlerError>,
    ) {
        let Some(attempt) = self.attempts.get_mut(&task) else { return };
        let outcome = outcome(&mut attempt.outbox);
        self.spent |= outcome.is_err();
        if let Some(reply) = attempt.reply.take() {
            // who does not wait any more has given up the instance
            let _ = reply.send(outcome.unwrap_or_else(Err));
        }
    }

    /// The instance is broken: who is to be told that it is to blame, where that is known. The
    /// others hear nothing of it, and so know that they are not.
    pub(super) fn blamed(&mut self) -> Option<oneshot::Sender<Outcome>> {
        let blamed = match self.blame {
            Some(blame) => self.attempts.get_mut(&blame),
            // one that is through may have left something running, so only where it is alone
            None if self.begun == 1 => self.attempts.values_mut().next(),
            None => None,
        };
        blamed?.reply.take()
    }

    /// Changes what an attempt publishes, if it still can.
    ///
    /// # Errors
    /// [`LimitHit`], which ends the instance and has the attempt to blame.
    pub(crate) fn publishing<R>(
        &mut self,
        task: Option<GuestTaskId>,
        change: impl FnOnce(&mut Outbox) -> Result<R, LimitHit>,
    ) -> Result<Option<R>, LimitHit> {
        let Some(attempt) = task.and_then(|task| self.attempts.get_mut(&task)) else {
            return Ok(None);
        };
        if attempt.reply.is_none() {
            return Ok(None);
        }
        let changed = change(&mut attempt.outbox);
        if changed.is_err() {
            self.blame = task;
        }
        changed.map(Some)
    }
}

impl State {
    /// Guest code was found running at a tick, on behalf of `task`.
    pub(super) fn tick_of(
        &mut self,
        task: Option<GuestTaskId>,
    ) -> Result<UpdateDeadline, LimitHit> {
        if !self.tasks.pulse.ran() {
            return Ok(UpdateDeadline::Continue(1));
        }
        match task.and_then(|task| self.tasks.attempts.get_mut(&task)) {
            Some(attempt) => {
                attempt.cpu.tick(Reading::now()).inspect_err(|_| self.tasks.blame = task)?
            }
            None => self.meter.tick()?,
        }
        Ok(UpdateDeadline::YieldCustom(1, self.tasks.pulse.give_way(&self.share)))
    }
}
