//! Redrives that run inside the runtime, which alone can read its embedded log.

use std::{panic::AssertUnwindSafe, sync::Arc};

use futures::FutureExt as _;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{info, warn};

use super::{Progress, Redrive};

/// Jobs that have ended are shown until so many others have, too.
const KEPT: usize = 100;

/// The redrives of a runtime.
#[derive(Default)]
pub struct Jobs {
    entries: Mutex<Vec<Entry>>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// `GET /api/dead-letters/{topic}/redrive/{job}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// Its name.
    pub job: String,
    /// Connection of the letters.
    pub connection: String,
    /// Topic of the letters.
    pub topic: String,
    /// Group that holds its cursor.
    pub cursor: String,
    /// Whether nothing is sent.
    pub dry_run: bool,
    /// What it is doing.
    pub state: JobState,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// How far it has come.
    pub progress: Progress,
}

/// What a job is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum JobState {
    /// It runs.
    Running,
    /// It looked at every letter that it was to look at.
    Done,
    /// It was stopped before, or another process works on it. The same request goes on
    /// where it was.
    Stopped,
    /// It failed. The same request goes on where it was.
    Failed,
}

/// A job of this name runs already, or the runtime stops.
#[derive(Debug, thiserror::Error)]
pub enum Busy {
    /// There is one.
    #[error("a redrive `{job}` of {topic} is running already: wait for it, or stop it first")]
    Running {
        /// The job.
        job: String,
        /// The topic.
        topic: String,
    },
    /// No more are begun.
    #[error("the runtime is stopping")]
    Stopping,
}

struct Entry {
    job: Job,
    progress: watch::Receiver<Progress>,
    ended: watch::Receiver<Option<Ended>>,
    cancel: CancellationToken,
}

#[derive(Debug, Clone)]
struct Ended {
    state: JobState,
    error: Option<String>,
}

impl Jobs {
    /// Begins `redrive` as the job `name`.
    ///
    /// # Errors
    /// See [`Busy`].
    pub fn start(&self, name: &str, redrive: Redrive) -> Result<Job, Busy> {
        let (tell, progress) = watch::channel(Progress::default());
        let (end, ended) = watch::channel(None);
        let job = Job {
            job: name.to_owned(),
            connection: redrive.routes.home().name().to_owned(),
            topic: redrive.topic.clone(),
            cursor: redrive.cursor.clone(),
            dry_run: redrive.dry_run,
            state: JobState::Running,
            error: None,
            progress: Progress::default(),
        };
        let cancel = self.stop.child_token();
        let entry = Entry { job: job.clone(), progress, ended, cancel: cancel.clone() };
        {
            let mut entries = self.entries.lock();
            if self.stop.is_cancelled() {
                return Err(Busy::Stopping);
            }
            if entries.iter().any(|e| e.is(&job) && e.ended.borrow().is_none()) {
                return Err(Busy::Running { job: job.job, topic: job.topic });
            }
            entries.retain(|e| !e.is(&job));
            let ended = entries.iter().filter(|e| e.ended.borrow().is_some()).count();
            if ended >= KEPT
                && let Some(oldest) = entries.iter().position(|e| e.ended.borrow().is_some())
            {
                entries.remove(oldest);
            }
            entries.push(entry);
        }
        let about = Arc::new(job.clone());
        info!(job = name, topic = about.topic, dry_run = about.dry_run, "redrive begins");
        self.tasks.spawn(async move {
            let run = AssertUnwindSafe(redrive.run(&tell, &cancel)).catch_unwind().await;
            let (state, error) = match run {
                Ok(Ok(true)) => (JobState::Done, None),
                Ok(Ok(false)) => (JobState::Stopped, None),
                Ok(Err(error)) => (JobState::Failed, Some(error.to_string())),
                Err(_) => (JobState::Failed, Some("it panicked, this is a bug".to_owned())),
            };
            let (job, topic, sent) = (&about.job, &about.topic, tell.borrow().sent);
            match &error {
                None => info!(job, topic, sent, ?state, "redrive ends"),
                Some(error) => warn!(job, topic, sent, error, "redrive failed"),
            }
            end.send_replace(Some(Ended { state, error }));
        });
        Ok(job)
    }

    /// The job called `job` of a topic, running or ended.
    pub fn get(&self, connection: &str, topic: &str, job: &str) -> Option<Job> {
        self.of(connection, topic).into_iter().find(|j| j.job == job)
    }

    /// The jobs of a topic, oldest first.
    pub fn of(&self, connection: &str, topic: &str) -> Vec<Job> {
        let entries = self.entries.lock();
        let of_topic = |e: &&Entry| (&*e.job.connection, &*e.job.topic) == (connection, topic);
        entries.iter().filter(of_topic).map(Entry::view).collect()
    }

    /// The jobs that run and send, of all topics.
    pub fn running(&self) -> Vec<Job> {
        let entries = self.entries.lock();
        let runs = |e: &&Entry| !e.job.dry_run && e.ended.borrow().is_none();
        entries.iter().filter(runs).map(Entry::view).collect()
    }

    /// Stops a job, and waits until it has.
    pub async fn cancel(&self, connection: &str, topic: &str, job: &str) -> Option<Job> {
        let found = |e: &&Entry| {
            (&*e.job.connection, &*e.job.topic, &*e.job.job) == (connection, topic, job)
        };
        let mut ended = {
            let entries = self.entries.lock();
            let entry = entries.iter().find(found)?;
            entry.cancel.cancel();
            entry.ended.clone()
        };
        // it says so before its sender is gone
        let _ = ended.wait_for(Option::is_some).await;
        self.get(connection, topic, job)
    }

    /// Stops all jobs, waits until they have, and lets no other begin.
    pub async fn stop(&self) {
        {
            let _entries = self.entries.lock();
            self.stop.cancel();
        }
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Entry {
    fn is(&self, job: &Job) -> bool {
        (&self.job.connection, &self.job.topic, &self.job.job)
            == (&job.connection, &job.topic, &job.job)
    }

    fn view(&self) -> Job {
        let mut job = self.job.clone();
        // first the end: what is counted when it is seen is then complete
        if let Some(ended) = self.ended.borrow().clone() {
            (job.state, job.error) = (ended.state, ended.error);
        }
        job.progress = self.progress.borrow().clone();
        job
    }
}
