//! The attempts of one partition that are under way, and what they report.

use std::time::Duration;

use sandbar_core::{Guarantees, PartitionId};
use tokio::{sync::mpsc, time::timeout};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

use crate::attempt::{Fate, Record, Report};

/// How long an aborted attempt may take to notice.
const GRACE: Duration = Duration::from_secs(1);

/// Where an attempt reports to, and what it may leave to the settlement.
#[derive(Clone)]
pub(crate) struct Way {
    reports: mpsc::Sender<Vec<Report>>,
    /// Where the events come from.
    pub partition: PartitionId,
    /// What the source does in one step with the acknowledgement.
    pub guarantees: Guarantees,
    /// Cancelled when nothing more is to be begun.
    pub draining: CancellationToken,
}

impl Way {
    pub(crate) async fn report(&self, record: Record, fate: Fate) {
        self.report_all(vec![Report { record, fate }]).await;
    }

    /// The same for events whose fate is known at the same time: they cost the loop one turn.
    pub(crate) async fn report_all(&self, reports: Vec<Report>) {
        if !reports.is_empty() {
            // the loop only goes away when it has given up all of its events
            let _ = self.reports.send(reports).await;
        }
    }
}

/// Tasks that report on every event that they were given, and that do not outlive
/// this value.
pub(crate) struct Attempts {
    /// Events given out and not reported on.
    running: usize,
    tasks: TaskTracker,
    cancel: CancellationToken,
    _cancel_on_drop: DropGuard,
    way: Way,
    reports: mpsc::Receiver<Vec<Report>>,
}

impl Attempts {
    /// For at most `capacity` events of `partition` at a time: with this much room no attempt has to
    /// wait to report.
    pub(crate) fn new(partition: PartitionId, capacity: usize, guarantees: Guarantees) -> Self {
        let (tx, reports) = mpsc::channel(capacity);
        let cancel = CancellationToken::new();
        Self {
            running: 0,
            tasks: TaskTracker::new(),
            _cancel_on_drop: cancel.clone().drop_guard(),
            cancel,
            way: Way { reports: tx, partition, guarantees, draining: CancellationToken::new() },
            reports,
        }
    }

    /// Starts an attempt at `events` events, made from the way that it reports on.
    pub(crate) fn spawn<F>(&mut self, events: usize, attempt: impl FnOnce(Way) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.running += events;
        let attempt = attempt(self.way.clone());
        self.tasks.spawn(self.cancel.clone().run_until_cancelled_owned(attempt));
    }

    /// Waits for reports and puts them into `arrived`. Cancel-safe.
    pub(crate) async fn reports(&mut self, arrived: &mut Vec<Report>) {
        let before = arrived.len();
        arrived.extend(self.reports.recv().await.into_iter().flatten());
        while let Ok(more) = self.reports.try_recv() {
            arrived.extend(more);
        }
        // one that was left behind by `abort` may report after all
        self.running = self.running.saturating_sub(arrived.len() - before);
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.running == 0
    }

    pub(crate) fn is_aborted(&self) -> bool {
        self.cancel.is_cancelled()
    }

    /// Lets those who wait to begin know that they will not.
    pub(crate) fn drain(&self) {
        self.way.draining.cancel();
    }

    /// Drops all attempts where they are and returns when they are gone, with what they
    /// still had to report; `false` if one of them does not yield and was left behind.
    pub(crate) async fn abort(&mut self, arrived: &mut Vec<Report>) -> bool {
        self.cancel.cancel();
        self.tasks.close();
        let gone = timeout(GRACE, self.tasks.wait()).await.is_ok();
        while let Ok(more) = self.reports.try_recv() {
            arrived.extend(more);
        }
        self.running = 0;
        gone
    }
}
