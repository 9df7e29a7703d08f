//! What can be asked of the one thread that writes, and the way to it. What it does is in
//! `committer.rs`.

use std::{sync::Arc, thread};

use parking_lot::Mutex;
use sandbar_core::{Mark, Outgoing, StateChange, StateChanges, StateWrite};
use tokio::{
    runtime,
    sync::{mpsc, oneshot, watch},
};

use crate::{
    catalog::{Catalog, HeadCache, Topic},
    committer::Committer,
    config::LogConfig,
    error::Failure,
    lease::{Lease, Leases},
    retention::Retained,
    schema::Cursor,
    stats::LogStats,
    storage::Storage,
};

/// Requests that may wait for the writer; more senders wait for room.
pub(crate) const QUEUE: usize = 1024;

/// What readers and the writer share.
pub(crate) struct Shared {
    pub(crate) config: LogConfig,
    pub(crate) storage: Storage,
    pub(crate) catalog: Catalog,
    pub(crate) head: HeadCache,
    pub(crate) leases: Arc<Leases>,
    pub(crate) stats: LogStats,
}

/// One thing to be made durable.
pub(crate) enum Work {
    /// Append records.
    Append(Vec<Outgoing>),
    /// Create topics that do not exist.
    Ensure(Vec<String>),
    /// Let a topic, created if need be, keep the newest record of each key.
    Compact(String),
    /// Read the group's cursors, creating missing ones at the position given.
    Open { group: Arc<str>, partitions: Vec<(Arc<Topic>, u32, u64)> },
    /// Move a cursor and append effects.
    Settle(Settle),
    /// Put the cursor of a group that nobody has open somewhere else.
    Move { group: String, topic: Arc<Topic>, partition: u32, to: u64 },
    /// Write marks of a group.
    Mark { group: String, marks: Vec<Mark> },
    /// Change the state of a group.
    Write { group: String, writes: Vec<StateWrite> },
    /// Delete a slice of the events before an offset.
    Trim { topic: Arc<Topic>, partition: u32, before: u64 },
    /// Delete a slice of what retention allows to.
    Retain,
}

/// Settlements of one partition.
pub(crate) struct Settle {
    pub(crate) lease: Arc<Lease>,
    pub(crate) topic: Arc<Topic>,
    pub(crate) partition: u32,
    /// The cursor once everything below is settled.
    pub(crate) cursor: Cursor,
    pub(crate) settled: Vec<Settled>,
    /// An attempt to settle failed, and may have reached the disk all the same.
    pub(crate) again: bool,
}

/// One event settled, with what becomes true in the same step.
pub(crate) struct Settled {
    pub(crate) offset: u64,
    pub(crate) effects: Vec<Outgoing>,
    pub(crate) mark: Option<Mark>,
    pub(crate) state: Option<Box<StateChanges>>,
}

impl Work {
    /// What it brings to be stored.
    pub(crate) fn records(&self) -> Box<dyn Iterator<Item = &Outgoing> + '_> {
        match self {
            Self::Append(records) => Box::new(records.iter()),
            Self::Settle(settle) => Box::new(settle.settled.iter().flat_map(|s| &s.effects)),
            _ => Box::new(std::iter::empty()),
        }
    }

    /// Changes of state that it brings.
    fn changes(&self) -> Box<dyn Iterator<Item = &StateChanges> + '_> {
        match self {
            Self::Write { writes, .. } => Box::new(writes.iter().map(|write| &write.changes)),
            Self::Settle(settle) => {
                Box::new(settle.settled.iter().filter_map(|s| s.state.as_deref()))
            }
            _ => Box::new(std::iter::empty()),
        }
    }

    /// Whether it takes room.
    pub(crate) fn stores(&self) -> bool {
        self.records().next().is_some() || self.changes().next().is_some()
    }

    pub(crate) fn bytes(&self) -> usize {
        let value = |change: &StateChange| match change {
            StateChange::Put { value, .. } => value.len(),
            StateChange::Add(_) | StateChange::Delete => 0,
        };
        let ops = self.changes().flat_map(|changes| &changes.ops);
        let state: usize = ops.map(|op| op.key.len() + value(&op.change)).sum();
        self.records().map(Outgoing::size).sum::<usize>() + state
    }
}

/// What a request gave.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// For [`Work::Open`], in the order asked for.
    pub(crate) cursors: Vec<Cursor>,
    /// For [`Work::Write`]: which of the writes were made, and why not.
    pub(crate) written: Vec<Result<(), String>>,
    /// For [`Work::Retain`].
    pub(crate) retained: Retained,
    /// For [`Work::Retain`] and [`Work::Trim`]: there is another slice.
    pub(crate) unfinished: bool,
}

pub(crate) type Answer = Result<Outcome, Failure>;

pub(crate) struct Request {
    pub(crate) work: Work,
    /// `None` for what the writer asks of itself.
    pub(crate) answer: Option<oneshot::Sender<Answer>>,
}

/// The way to the writer thread, which ends when the last clone of this is gone or
/// it is closed.
#[derive(Debug)]
pub(crate) struct Writer {
    queue: Mutex<Option<mpsc::Sender<Request>>>,
    ended: watch::Receiver<bool>,
    /// Whether to keep tokio's paused clock still while a request is under way: it
    /// jumps ahead when it sees no work, and does not see the writer thread.
    hold_clock: bool,
}

impl Writer {
    pub(crate) fn start(shared: Arc<Shared>, hold_clock: bool) -> std::io::Result<Self> {
        let (queue, requests) = mpsc::channel(QUEUE);
        let (ending, ended) = watch::channel(false);
        let runtime = runtime::Builder::new_current_thread().enable_time().build()?;
        thread::Builder::new().name("sandbar-log".into()).spawn(move || {
            // said even if the thread panics: whoever closes the log waits for it
            let _ending = Ending(ending);
            runtime.block_on(Committer::new(&shared).run(requests));
            shared.storage.close();
        })?;
        Ok(Self { queue: Mutex::new(Some(queue)), ended, hold_clock })
    }

    /// Queues `work`. Dropping the future before it is done queues nothing.
    pub(crate) async fn submit(&self, work: Work) -> Result<oneshot::Receiver<Answer>, Failure> {
        let queue = self.queue.lock().clone().ok_or_else(Failure::closed)?;
        let (answer, answered) = oneshot::channel();
        let request = Request { work, answer: Some(answer) };
        let _held = self.hold_clock.then(ClockHold::begin);
        queue.send(request).await.map_err(|_| Failure::closed())?;
        Ok(answered)
    }

    /// Waits for the answer to what was submitted. Cancel-safe.
    pub(crate) async fn answer(&self, answered: &mut oneshot::Receiver<Answer>) -> Answer {
        let _held = self.hold_clock.then(ClockHold::begin);
        answered.await.unwrap_or_else(|_| Err(Failure::closed()))
    }

    pub(crate) async fn call(&self, work: Work) -> Answer {
        let mut answered = self.submit(work).await?;
        self.answer(&mut answered).await
    }

    /// Lets everything queued finish, then ends the thread and closes the file.
    pub(crate) async fn close(&self) {
        drop(self.queue.lock().take());
        let _held = self.hold_clock.then(ClockHold::begin);
        // an error means that the thread is gone, which is what is waited for
        let _ = self.ended.clone().wait_for(|ended| *ended).await;
    }
}

struct Ending(watch::Sender<bool>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.send_replace(true);
    }
}

/// While it lives tokio sees a blocking task at work, and so lets a paused clock stand.
struct ClockHold(
    #[expect(dead_code, reason = "dropping it ends the task")] std::sync::mpsc::Sender<()>,
);

impl ClockHold {
    fn begin() -> Self {
        let (hold, held) = std::sync::mpsc::channel::<()>();
        tokio::task::spawn_blocking(move || held.recv());
        Self(hold)
    }
}
