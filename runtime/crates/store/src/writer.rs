//! The one thread that writes. It takes every request that has queued up, applies
//! them in one transaction, commits it with one fsync, and then answers them all.

use std::{
    sync::Arc,
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use parking_lot::Mutex;
use sandbar_core::Outgoing;
use tokio::{
    runtime,
    sync::{mpsc, oneshot, watch},
    time::MissedTickBehavior,
};
use tracing::{error, info};

use crate::{
    catalog::{Catalog, HeadCache, Topic},
    config::LogConfig,
    error::Failure,
    lease::{Lease, Leases},
    retention::{self, Retained},
    schema::{self, Cursor},
    stats::LogStats,
    storage::Storage,
    transaction::{Committed, Transaction},
};

/// Requests that may wait for the writer; more senders wait for room.
const QUEUE: usize = 1024;
/// A group takes no further request once its records hold this many bytes.
const GROUP_BYTES: usize = 16 << 20;
/// Longest pause before an attempt to open a failed storage again; the first is a
/// hundredth of it, and each that follows without a good commit between twice as long.
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

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
    /// Read the group's cursors, creating missing ones at the position given.
    Open { group: Arc<str>, partitions: Vec<(Arc<Topic>, u32, u64)> },
    /// Move a cursor and append effects.
    Settle(Settle),
    /// Put the cursor of a group that nobody has open somewhere else.
    Move { group: String, topic: Arc<Topic>, partition: u32, to: u64 },
    /// Delete what retention allows to.
    Retain,
}

/// Settlements of one partition.
pub(crate) struct Settle {
    pub(crate) lease: Arc<Lease>,
    pub(crate) topic: Arc<Topic>,
    pub(crate) partition: u32,
    /// The cursor once everything below is settled.
    pub(crate) cursor: Cursor,
    /// Offsets settled by this request, with what they produced.
    pub(crate) effects: Vec<(u64, Vec<Outgoing>)>,
}

impl Work {
    fn bytes(&self) -> usize {
        let size = |records: &[Outgoing]| records.iter().map(Outgoing::size).sum::<usize>();
        match self {
            Self::Append(records) => size(records),
            Self::Settle(settle) => settle.effects.iter().map(|(_, e)| size(e)).sum(),
            _ => 0,
        }
    }
}

/// What a request gave.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// For [`Work::Open`], in the order asked for.
    pub(crate) cursors: Vec<Cursor>,
    /// For [`Work::Retain`].
    pub(crate) retained: Retained,
}

pub(crate) type Answer = Result<Outcome, Failure>;

struct Request {
    work: Work,
    /// `None` for what the writer asks of itself.
    answer: Option<oneshot::Sender<Answer>>,
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
            let writer = Loop { shared: &shared, turn: 0, retaining: false, pause: Duration::ZERO };
            runtime.block_on(writer.run(requests));
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

struct Loop<'a> {
    shared: &'a Shared,
    /// Counts groups: keyless records of one group share a partition, the next group
    /// takes the next one.
    turn: u32,
    /// Whether the next group includes a run of retention.
    retaining: bool,
    /// Pause before the next attempt to open a failed storage again.
    pause: Duration,
}

impl Loop<'_> {
    async fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        let mut ticks = tokio::time::interval(self.shared.config.retention_interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let mut group = Vec::new();
            if !self.retaining {
                tokio::select! {
                    // a steady stream of requests must not keep retention from its turn
                    biased;
                    _ = ticks.tick() => self.retaining = true,
                    request = requests.recv() => match request {
                        Some(request) => group.push(request),
                        None => break,
                    },
                }
            }
            let mut bytes: usize = group.iter().map(|r| r.work.bytes()).sum();
            while bytes < GROUP_BYTES && group.len() < QUEUE {
                let Ok(request) = requests.try_recv() else { break };
                bytes += request.work.bytes();
                group.push(request);
            }
            if self.retaining {
                group.push(Request { work: Work::Retain, answer: None });
            }
            if self.shared.storage.needs_reopen() {
                tokio::time::sleep(self.pause).await;
            }
            let expired = &self.shared.stats.expired;
            let before = expired.get();
            let committed = self.commit(group);
            // a run deletes no more than a slice, so go on until one finds nothing
            let deleted = expired.get() > before;
            let overdue = !self.retaining && retention::is_overdue(self.shared);
            self.retaining = committed && (deleted || overdue);
        }
    }

    /// Commits one group and answers it; whether that went well.
    fn commit(&mut self, group: Vec<Request>) -> bool {
        let (works, answers): (Vec<_>, Vec<_>) =
            group.into_iter().map(|r| (r.work, r.answer)).unzip();
        let result = self.ready().and_then(|()| {
            self.turn = self.turn.wrapping_add(1);
            write(self.shared, works, self.turn).map_err(|e| self.failed(e))
        });
        let committed = result.is_ok();
        let outcomes = match result {
            Ok((committed, outcomes)) => {
                if let Some(committed) = committed {
                    self.pause = Duration::ZERO;
                    committed.publish(self.shared);
                }
                outcomes
            }
            Err(failure) => answers.iter().map(|_| Err(failure.clone())).collect(),
        };
        for (answer, outcome) in answers.into_iter().zip(outcomes) {
            if let Some(answer) = answer {
                // whoever asked may have been cancelled; what was asked is done all the same
                let _ = answer.send(outcome);
            }
        }
        committed
    }

    /// Notes a failed commit and tries to be ready for the next one at once.
    fn failed(&mut self, error: redb::Error) -> Failure {
        self.shared.stats.failed_commits.inc();
        let log = self.shared.storage.place();
        error!(%log, %error, "a commit failed: nothing of it is acknowledged");
        self.shared.storage.close();
        self.pause = (self.pause * 2).clamp(LONGEST_PAUSE / 100, LONGEST_PAUSE);
        // whatever comes of it, the next group tries again and is answered accordingly
        let _ = self.ready();
        Failure::storage(error)
    }

    /// Opens a failed storage again. It is the file that says what is committed: the
    /// failed commit may have reached it or not.
    fn ready(&mut self) -> Result<(), Failure> {
        if !self.shared.storage.needs_reopen() {
            return Ok(());
        }
        let reopened = self.shared.storage.reopen().map_err(|e| e.to_string());
        let loaded = reopened.and_then(|()| {
            let storage = &self.shared.storage;
            storage.read(|tx| self.shared.catalog.load(tx)).map_err(|e| e.to_string())
        });
        match loaded {
            Ok(()) => {
                self.shared.stats.reopened.inc();
                info!(log = %self.shared.storage.place(), "the log goes on");
                Ok(())
            }
            Err(reason) => {
                self.shared.storage.close();
                self.pause = (self.pause * 2).clamp(LONGEST_PAUSE / 100, LONGEST_PAUSE);
                error!(%reason, "the log cannot go on yet");
                Err(Failure::Unavailable(reason))
            }
        }
    }
}

/// Applies and commits a group. Without changes there is nothing to commit, nor to sync.
fn write(
    shared: &Shared,
    works: Vec<Work>,
    turn: u32,
) -> Result<(Option<Committed>, Vec<Answer>), redb::Error> {
    let db = shared
        .storage
        .database()
        .map_err(|e| redb::Error::Io(std::io::Error::other(e.to_string())))?;
    let write = schema::begin(&db)?;
    let mut transaction = Transaction::new(shared, &write, turn, now_ms())?;
    let answers =
        works.into_iter().map(|work| transaction.apply(work)).collect::<Result<_, _>>()?;
    match transaction.finish()? {
        Some(committed) => {
            write.commit()?;
            Ok((Some(committed), answers))
        }
        None => {
            write.abort()?;
            Ok((None, answers))
        }
    }
}

/// Milliseconds since the Unix epoch.
fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64)
}
