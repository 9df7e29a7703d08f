//! A subscription's run: partitions come and go, each worked on by a task of its own.

use std::{sync::Arc, time::Duration};

use sandbar_core::{
    DrainGuard, Guarantees, Partition, PartitionId, Source, SourceError, SourceEvent,
};
use tokio::{
    select,
    task::{Id, JoinError, JoinSet},
    time::{Instant, sleep_until},
};

use crate::{
    Stop, StopHandle, Subscription,
    backoff::Throttle,
    partition::run_partition,
    stop::{Deadline, Phase},
};

/// Pause between questions to a source that is away. A revocation is heard that late, so
/// it must be short beside the time that a drain has.
const ASK_AGAIN: Duration = Duration::from_millis(100);
/// How long the other partitions may drain when the source has failed for good.
const FATAL_DRAIN: Duration = Duration::from_secs(5);

/// How a run came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunEnd {
    /// It was asked to stop.
    Drained,
    /// The source had nothing more to give, and everything is done.
    Finished,
}

/// Runs `subscription` on what `source` assigns until `stop` asks for a drain, the
/// source is at its end, or it fails for good. When this returns, no attempt runs
/// any more, everything settled is committed and the group is left.
///
/// # Errors
/// The source's fatal error, or that of its last commit. [`SourceError::Fatal`] where the
/// settings ask for a service that the subscription was not given.
pub async fn run(
    mut source: Box<dyn Source>,
    subscription: Arc<Subscription>,
    stop: Stop,
) -> Result<RunEnd, SourceError> {
    let stats = subscription.stats.clone();
    stats.started();
    let assignment = Assignment {
        guarantees: source.guarantees(),
        subscription: subscription.clone(),
        tasks: JoinSet::new(),
        partitions: Vec::new(),
        returned: Vec::new(),
        end: None,
    };
    let end = match subscription.services.check(&subscription.config) {
        Ok(()) => select! {
            biased;
            end = assignment.serve(&mut *source, stop) => end,
            never = subscription.follow_halted_keys() => match never {},
        },
        Err(error) => Err(error),
    };
    let closed = source.close().await;
    let result = end.and_then(|end| closed.map(|()| end));
    stats.ended(result.as_ref().err().map(ToString::to_string));
    result
}

struct Assignment {
    subscription: Arc<Subscription>,
    guarantees: Guarantees,
    tasks: JoinSet<Result<(), SourceError>>,
    /// In the order of their assignment.
    partitions: Vec<Assigned>,
    /// Partitions that wait until the task that they had before has ended.
    returned: Vec<Box<dyn Partition>>,
    /// Set once the run is to end: how, after the partitions have drained.
    end: Option<Result<RunEnd, SourceError>>,
}

struct Assigned {
    task: Id,
    id: PartitionId,
    stop: StopHandle,
    /// Held until the partition has drained and is dropped (contract H4).
    guards: Vec<DrainGuard>,
    revoked: Option<Instant>,
}

impl Assignment {
    async fn serve(
        mut self,
        source: &mut dyn Source,
        mut stop: Stop,
    ) -> Result<RunEnd, SourceError> {
        let mut log = Throttle::default();
        // None once the source has nothing more to say
        let mut ask_at = Some(Instant::now());
        loop {
            if self.tasks.is_empty()
                && let Some(end) = self.end.take()
            {
                return end;
            }
            let next = async {
                sleep_until(ask_at?).await;
                Some(source.next().await)
            };
            select! {
                // a drained partition lets the source go on with a rebalance: hear it first
                biased;
                Some(ended) = self.tasks.join_next_with_id() => self.ended(ended),
                phase = stop.changed() => self.stop(phase, Ok(RunEnd::Drained)),
                // asked while draining, too: a rebalance does not wait for a shutdown
                Some(event) = next, if ask_at.is_some() => {
                    let now = Instant::now();
                    ask_at = Some(now);
                    match event {
                        Ok(event) => {
                            self.subscription.stats.set_source_away(None);
                            match event {
                                SourceEvent::Assigned(partition) => self.assign(partition),
                                SourceEvent::Revoking { id, drained } => self.revoke(&id, drained),
                                SourceEvent::Finished => {
                                    ask_at = None;
                                    self.stop(Phase::Finish, Ok(RunEnd::Finished));
                                }
                            }
                        }
                        Err(SourceError::Fatal(reason)) => {
                            ask_at = None;
                            self.fail(SourceError::Fatal(reason));
                        }
                        Err(error) => {
                            ask_at = Some(now + ASK_AGAIN);
                            let reason = error.to_string();
                            if let Some(held) = log.due() {
                                tracing::warn!(
                                    plugin = self.subscription.config.name, held_lines = held, reason,
                                    "the source's broker is away: waiting for it"
                                );
                            }
                            self.subscription.stats.set_source_away(Some(reason));
                        }
                    }
                }
            }
        }
    }

    fn assign(&mut self, partition: Box<dyn Partition>) {
        if self.end.is_some() {
            // nothing of it was received: dropping it gives it back untouched
            return;
        }
        match self.partitions.iter_mut().find(|a| a.id == *partition.id()) {
            None => self.start(partition),
            // it was lost and is back: what runs of before has to end first (contract O1)
            Some(before) => {
                before.revoked.get_or_insert_with(Instant::now);
                before.stop.drain(Duration::ZERO);
                self.returned.push(partition);
            }
        }
    }

    fn start(&mut self, partition: Box<dyn Partition>) {
        let (handle, stop) = StopHandle::new();
        let id = partition.id().clone();
        tracing::debug!(plugin = self.subscription.config.name, partition = %id, "partition assigned");
        let task = self.tasks.spawn(run_partition(
            partition,
            self.subscription.clone(),
            stop,
            self.guarantees,
        ));
        let (task, guards) = (task.id(), Vec::new());
        self.partitions.push(Assigned { task, id, stop: handle, guards, revoked: None });
    }

    fn revoke(&mut self, id: &PartitionId, guard: DrainGuard) {
        // not begun: nothing is to be drained
        self.returned.retain(|partition| partition.id() != id);
        // not found: it has ended by itself, and the guard may go at once
        if let Some(assigned) = self.partitions.iter_mut().find(|a| a.id == *id) {
            tracing::debug!(plugin = self.subscription.config.name, partition = %id, "partition revoked");
            assigned.stop.drain_until(guard.deadline());
            assigned.guards.push(guard);
            assigned.revoked.get_or_insert_with(Instant::now);
        }
    }

    fn ended(&mut self, ended: Result<(Id, Result<(), SourceError>), JoinError>) {
        let (task, result) = match ended {
            Ok((task, result)) => (task, result),
            Err(error) => (error.id(), Err(SourceError::Fatal(format!("partition loop: {error}")))),
        };
        // the partition is dropped by now, and with this its guards
        let Some(at) = self.partitions.iter().position(|a| a.task == task) else { return };
        let Assigned { id, guards, revoked, .. } = self.partitions.remove(at);
        if let Some(revoked) = revoked {
            let drain = &self.subscription.stats.drain_duration;
            drain.observe(revoked.elapsed().as_secs_f64());
        }
        drop(guards);
        if let Some(at) = self.returned.iter().position(|partition| *partition.id() == id) {
            let partition = self.returned.remove(at);
            self.start(partition);
        }
        match result {
            Ok(()) => {}
            Err(error) if matches!(error, SourceError::Fenced(_)) || revoked.is_some() => {
                // the new owner repeats what was not settled
                tracing::warn!(plugin = self.subscription.config.name, partition = %id, %error, "partition lost");
            }
            Err(SourceError::Fatal(reason)) => {
                self.fail(SourceError::Fatal(format!("{id}: {reason}")))
            }
            Err(error) => self.fail(error),
        }
    }

    fn fail(&mut self, error: SourceError) {
        tracing::error!(plugin = self.subscription.config.name, %error, "subscription failed");
        self.stop(Phase::Drain(Deadline::after(FATAL_DRAIN)), Ok(RunEnd::Drained));
        // the first failure is the cause of those that follow
        if !matches!(self.end, Some(Err(_))) {
            self.end = Some(Err(error));
        }
    }

    fn stop(&mut self, phase: Phase, end: Result<RunEnd, SourceError>) {
        self.subscription.stats.draining();
        self.end.get_or_insert(end);
        self.returned.clear();
        self.partitions.iter().for_each(|assigned| assigned.stop.enter(phase));
    }
}
