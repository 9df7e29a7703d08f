//! A subscription's run: partitions come and go, each worked on by a task of its own.

use std::{collections::HashMap, sync::Arc, time::Duration};

use sandbar_core::{DrainGuard, Partition, PartitionId, Source, SourceError, SourceEvent};
use tokio::{
    select,
    task::{Id, JoinError, JoinSet},
    time::{Instant, sleep_until},
};

use crate::{
    Stop, StopHandle, Subscription,
    backoff::{Backoff, Throttle},
    partition::run_partition,
    stop::{Deadline, Phase},
};

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
/// The source's fatal error, or that of its last commit.
pub async fn run(
    mut source: Box<dyn Source>,
    subscription: Arc<Subscription>,
    stop: Stop,
) -> Result<RunEnd, SourceError> {
    let stats = subscription.stats.clone();
    stats.started();
    let assignment = Assignment {
        atomic: source.guarantees().atomic_effects,
        subscription,
        tasks: JoinSet::new(),
        partitions: HashMap::new(),
        end: None,
    };
    let end = assignment.serve(&mut *source, stop).await;
    let closed = source.close().await;
    let result = end.and_then(|end| closed.map(|()| end));
    stats.ended(result.as_ref().err().map(ToString::to_string));
    result
}

struct Assignment {
    subscription: Arc<Subscription>,
    atomic: bool,
    tasks: JoinSet<Result<(), SourceError>>,
    partitions: HashMap<Id, Assigned>,
    /// Set once the run is to end: how, after the partitions have drained.
    end: Option<Result<RunEnd, SourceError>>,
}

struct Assigned {
    id: PartitionId,
    stop: StopHandle,
    /// Held until the partition has drained and is dropped (contract H4).
    guards: Vec<DrainGuard>,
}

impl Assignment {
    async fn serve(
        mut self,
        source: &mut dyn Source,
        mut stop: Stop,
    ) -> Result<RunEnd, SourceError> {
        let (mut backoff, mut log) = (Backoff::default(), Throttle::default());
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
                            backoff.reset();
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
                            ask_at = Some(now + backoff.next());
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
        let (handle, stop) = StopHandle::new();
        let id = partition.id().clone();
        tracing::debug!(plugin = self.subscription.config.name, partition = %id, "partition assigned");
        let task = self.tasks.spawn(run_partition(
            partition,
            self.subscription.clone(),
            stop,
            self.atomic,
        ));
        self.partitions.insert(task.id(), Assigned { id, stop: handle, guards: Vec::new() });
    }

    fn revoke(&mut self, id: &PartitionId, guard: DrainGuard) {
        // not found: it has ended by itself, and the guard may go at once
        if let Some(assigned) = self.partitions.values_mut().find(|a| a.id == *id) {
            tracing::debug!(plugin = self.subscription.config.name, partition = %id, "partition revoked");
            assigned.stop.drain(guard.timeout);
            assigned.guards.push(guard);
        }
    }

    fn ended(&mut self, ended: Result<(Id, Result<(), SourceError>), JoinError>) {
        let (task, result) = match ended {
            Ok((task, result)) => (task, result),
            Err(error) => (error.id(), Err(SourceError::Fatal(format!("partition loop: {error}")))),
        };
        // the partition is dropped by now, and with this its guards
        let Some(Assigned { id, guards, .. }) = self.partitions.remove(&task) else { return };
        match result {
            Ok(()) => {}
            Err(error) if !guards.is_empty() => {
                // fenced in the middle of its drain: the new owner repeats what was not settled
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
        self.partitions.values().for_each(|assigned| assigned.stop.enter(phase));
    }
}
