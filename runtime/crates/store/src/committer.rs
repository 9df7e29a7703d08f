//! The one thread that writes. It takes every request that has queued up, applies
//! them in one transaction, commits it with one fsync, and then answers them all.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval_at},
};

use crate::{
    compaction::Passes,
    error::Failure,
    outage::Outage,
    retention, schema,
    transaction::{Committed, Transaction},
    writer::{Answer, QUEUE, Request, Shared, Work},
};

/// A group takes no further request once its records hold this many bytes.
const GROUP_BYTES: usize = 16 << 20;

/// The thread's state.
pub(crate) struct Committer<'a> {
    shared: &'a Shared,
    /// Counts groups: keyless records of one group share a partition, the next group
    /// takes the next one.
    turn: u32,
    /// Whether the next group includes a run of retention.
    retaining: bool,
    passes: Passes,
    /// Set while commits fail.
    outage: Option<Outage>,
}

impl<'a> Committer<'a> {
    pub(crate) fn new(shared: &'a Shared) -> Self {
        Self { shared, turn: 0, retaining: false, passes: Passes::new(), outage: None }
    }

    /// Serves requests until nobody can make any more.
    pub(crate) async fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        let interval = self.shared.config.retention_interval;
        // not at the start, which others wait for
        let mut ticks = interval_at(tokio::time::Instant::now() + interval, interval);
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
                    // readers wait for it to be mended
                    () = self.shared.storage.fails() => {}
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
            let was_well = self.outage.is_none();
            let committed = self.commit(group).await;
            let overdue = !self.retaining && retention::is_overdue(self.shared);
            self.retaining = match committed {
                // a run deletes no more than a slice, so go on until one finds nothing
                Some(unfinished) => unfinished || overdue,
                // there may be something to delete on a full disk
                None => was_well,
            };
        }
    }

    /// Commits what was gathered and answers it. Says whether retention has more to do, or
    /// nothing if it failed, or would have.
    async fn commit(&mut self, mut group: Vec<Request>) -> Option<bool> {
        let Some(outage) = &self.outage else { return self.commit_together(group) };
        let pause = outage.pause();
        if self.shared.storage.needs_reopen() {
            tokio::time::sleep(pause).await;
        }
        // What stores nothing new may find room inside of a file that cannot grow, and
        // retention, which is part of it, makes some.
        let storing: Vec<_> = group.extract_if(.., |r| r.work.stores()).collect();
        let deletes = |r: &Request| matches!(r.work, Work::Retain | Work::Trim { .. });
        let deletes = group.iter().any(deletes);
        let committed = self.commit_together(group);
        if committed.is_some() && deletes {
            self.reclaim();
        }
        if !storing.is_empty() {
            tokio::time::sleep(pause).await;
            self.commit_together(storing);
        }
        committed
    }

    /// Commits one group and answers it; says what [`commit`](Self::commit) does.
    fn commit_together(&mut self, group: Vec<Request>) -> Option<bool> {
        let stores = group.iter().any(|r| r.work.stores());
        let (works, answers): (Vec<_>, Vec<_>) =
            group.into_iter().map(|r| (r.work, r.answer)).unzip();
        let result = self.ready().and_then(|()| self.write(works));
        let failed = result.is_err();
        let outcomes = match result {
            Ok((committed, outcomes)) => {
                if let Some(committed) = committed {
                    committed.publish(self.shared);
                }
                if stores && let Some(outage) = self.outage.take() {
                    outage.end(&self.shared.storage.place());
                }
                outcomes
            }
            Err(failure) => answers.iter().map(|_| Err(failure.clone())).collect(),
        };
        let mut unfinished = false;
        for (answer, outcome) in answers.into_iter().zip(outcomes) {
            match answer {
                // whoever asked may have been cancelled; what was asked is done all the same
                Some(answer) => drop(answer.send(outcome)),
                None => unfinished |= outcome.is_ok_and(|outcome| outcome.unfinished),
            }
        }
        (!failed).then_some(unfinished)
    }

    fn ready(&mut self) -> Result<(), Failure> {
        if !self.shared.storage.needs_reopen() {
            return Ok(());
        }
        let began = Instant::now();
        self.reopen().map_err(|reason| {
            self.fails(&reason, began);
            Failure::Unavailable(reason)
        })
    }

    /// Opens a failed storage again. It is the file that says what is committed: the
    /// failed commit may have reached it or not.
    fn reopen(&self) -> Result<(), String> {
        let storage = &self.shared.storage;
        let reopened = storage.reopen().map_err(|e| e.to_string());
        let loaded = reopened.and_then(|()| {
            storage.read(|tx| self.shared.catalog.load(tx)).map_err(|e| e.to_string())
        });
        match loaded {
            Ok(()) => drop(self.shared.stats.reopened.inc()),
            Err(_) => storage.close(),
        }
        loaded
    }

    /// Applies and commits a group. After a failure it is ready for the next one.
    fn write(&mut self, works: Vec<Work>) -> Result<(Option<Committed>, Vec<Answer>), Failure> {
        self.turn = self.turn.wrapping_add(1);
        let written = write(self.shared, works, &mut self.passes, self.turn);
        written.map_err(|error| self.undone(error))
    }

    /// redb gives out pages that a commit has freed after the next commit, and none may
    /// follow on a full disk.
    fn reclaim(&mut self) {
        let Ok(db) = self.shared.storage.database() else { return };
        let committed = schema::begin(&db).and_then(|empty| Ok(empty.commit()?));
        drop(db);
        if let Err(error) = committed {
            self.undone(error);
        }
    }

    /// Gets ready for the next attempt after a commit that failed.
    fn undone(&mut self, error: redb::Error) -> Failure {
        let began = Instant::now();
        self.shared.stats.failed_commits.inc();
        // what they have done since the last commit is undone
        self.passes.clear();
        self.shared.storage.close();
        // whatever comes of it, the next group tries again and is answered accordingly
        let _ = self.reopen();
        self.fails(&error.to_string(), began);
        Failure::storage(error)
    }

    fn fails(&mut self, reason: &str, mending_since: Instant) {
        let outage = self.outage.get_or_insert_with(Outage::begin);
        outage.note(&self.shared.storage.place(), reason, mending_since.elapsed());
    }
}

/// Applies and commits a group. Without changes there is nothing to commit, nor to sync.
fn write(
    shared: &Shared,
    works: Vec<Work>,
    passes: &mut Passes,
    turn: u32,
) -> Result<(Option<Committed>, Vec<Answer>), redb::Error> {
    if works.is_empty() {
        return Ok((None, Vec::new()));
    }
    let db = shared
        .storage
        .database()
        .map_err(|e| redb::Error::Io(std::io::Error::other(e.to_string())))?;
    let write = schema::begin(&db)?;
    let mut transaction = Transaction::new(shared, &write, passes, turn, now_ms())?;
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
