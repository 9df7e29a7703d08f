//! One queue, worked on by one pipeline loop.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use parking_lot::Mutex;
use sandbar_core::{Delivery, Disposition, Partition, PartitionId, Settlement, SourceError};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::{
    config::VISIBILITY_MAX,
    inflight::{Fate, InFlight},
    queues::Queue,
};

/// A queue as the partition, and the tasks that serve it, share it.
pub(crate) struct Slot {
    pub id: PartitionId,
    pub queue: Arc<Queue>,
    state: Mutex<State>,
    /// Something to be received, or the end of it.
    arrived: Notify,
    /// Fewer deliveries are ready than before.
    pub room: Notify,
    /// SQS has to be told something.
    pub settle: Notify,
    /// Something is to be kept invisible that was not.
    pub extend: Notify,
    /// Nothing more is received.
    pub stop: CancellationToken,
}

struct State {
    inflight: InFlight,
    phase: Phase,
}

enum Phase {
    Open,
    /// What was there is all delivered.
    AtEnd,
    Fenced(String),
}

impl Slot {
    pub fn new(queue: Arc<Queue>, inflight: InFlight, stop: CancellationToken) -> Self {
        Self {
            id: PartitionId { topic: queue.topic.clone(), partition: 0 },
            queue,
            state: Mutex::new(State { inflight, phase: Phase::Open }),
            arrived: Notify::new(),
            room: Notify::new(),
            settle: Notify::new(),
            extend: Notify::new(),
            stop,
        }
    }

    /// Looks at or changes what is in flight, unless that is others' by now.
    pub fn with<T>(&self, change: impl FnOnce(&mut InFlight) -> T) -> Option<T> {
        let mut state = self.state.lock();
        match state.phase {
            Phase::Fenced(_) => None,
            _ => Some(change(&mut state.inflight)),
        }
    }

    /// Wakes whoever waits for messages and whoever keeps them invisible.
    pub fn arrived(&self) {
        self.arrived.notify_one();
        self.extend.notify_one();
    }

    pub fn end(&self) {
        self.state.lock().phase = Phase::AtEnd;
        self.arrived.notify_one();
    }

    /// From now on nothing of it can be received or settled.
    pub fn fence(&self, reason: &str) {
        self.state.lock().phase = Phase::Fenced(reason.to_owned());
        self.stop.cancel();
        for waiting in [&self.arrived, &self.settle, &self.extend] {
            waiting.notify_one();
        }
    }

    pub fn is_fenced(&self) -> bool {
        matches!(self.state.lock().phase, Phase::Fenced(_))
    }

    fn fenced(&self, reason: &str) -> SourceError {
        SourceError::Fenced(format!("{}: {reason}; nothing of it can be settled any more", self.id))
    }

    /// Gives back what was received and not settled.
    pub fn release_all(&self) {
        self.with(InFlight::release_all);
        self.settle.notify_one();
    }

    /// `None`: nothing is there yet.
    fn take(&self, max: usize) -> Result<Option<Vec<Delivery>>, SourceError> {
        let mut state = self.state.lock();
        if let Phase::Fenced(reason) = &state.phase {
            return Err(self.fenced(reason));
        }
        let ready = state.inflight.take(max);
        let done = !ready.is_empty() || matches!(state.phase, Phase::AtEnd);
        drop(state);
        self.room.notify_one();
        Ok(done.then_some(ready))
    }

    fn settle(&self, settlements: &[Settlement]) -> Result<(), SourceError> {
        let mut state = self.state.lock();
        if let Phase::Fenced(reason) = &state.phase {
            return Err(self.fenced(reason));
        }
        // all or nothing: look before the first one counts
        Settlement::without_effects(settlements, &self.id)?;
        Settlement::without_state(settlements, &self.id)?;
        let mut releases = Vec::new();
        for Settlement { token, disposition } in settlements {
            match disposition {
                Disposition::Release { after } => releases.push((*token, whole_seconds(*after))),
                Disposition::Done { .. } => {
                    if !state.inflight.settle(*token, Fate::Delete) {
                        tracing::warn!(
                            partition = %self.id, token = token.0,
                            "settled twice, or never delivered"
                        );
                    }
                }
            }
        }
        state.inflight.release(releases);
        drop(state);
        self.settle.notify_one();
        Ok(())
    }
}

/// A delay as SQS can keep it, and no shorter.
fn whole_seconds(after: Duration) -> Duration {
    let up = u64::from(after.subsec_nanos() > 0);
    Duration::from_secs(after.as_secs().saturating_add(up)).min(VISIBILITY_MAX)
}

/// The pipeline's handle of a [`Slot`].
pub(crate) struct SqsPartition(pub Arc<Slot>);

#[async_trait]
impl Partition for SqsPartition {
    fn id(&self) -> &PartitionId {
        &self.0.id
    }

    async fn recv(&mut self, max: usize) -> Result<Vec<Delivery>, SourceError> {
        loop {
            // nothing is awaited between taking messages and returning them: no loss by cancelling
            if let Some(ready) = self.0.take(max.max(1))? {
                return Ok(ready);
            }
            self.0.arrived.notified().await;
        }
    }

    /// Says what becomes of messages; SQS is told in the background, in batches, again and
    /// again until it answers. Until then a crash means that they are delivered again.
    async fn settle(&mut self, settlements: &[Settlement]) -> Result<(), SourceError> {
        self.0.settle(settlements)
    }
}

impl Drop for SqsPartition {
    fn drop(&mut self) {
        self.0.stop.cancel();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delay_is_never_shortened_but_by_what_sqs_can_keep() {
        for (after, whole) in [(0, 0), (1, 1), (999, 1), (1000, 1), (1001, 2)] {
            assert_eq!(whole_seconds(Duration::from_millis(after)), Duration::from_secs(whole));
        }
        assert_eq!(whole_seconds(Duration::MAX), VISIBILITY_MAX);
    }
}
