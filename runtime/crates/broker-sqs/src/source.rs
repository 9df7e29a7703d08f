//! A subscription: its queues, looked for until they are there.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use sandbar_core::{Guarantees, Source, SourceError, SourceEvent, SubscriptionSpec};
use tokio::{sync::mpsc, task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    client::PATIENCE,
    error::Kind,
    groups::Claim,
    inflight::InFlight,
    names::{Globs, is_glob},
    partition::{Slot, SqsPartition},
    queues::{Queue, Queues},
    serving::{BACKOFF, Report, Serving, settled},
};

/// How often topics are looked for that a glob may match.
const LOOK: Duration = Duration::from_secs(10);
/// Longest that closing goes on telling SQS what is done while it takes nothing: a call that gets no
/// answer, and time for another one.
const FLUSH: Duration = PATIENCE.saturating_add(Duration::from_secs(5));

pub(crate) struct SqsSource {
    queues: Arc<Queues>,
    group: Arc<str>,
    prefetch: usize,
    until_end: bool,
    globs: Globs,
    /// Topics that are subscribed to, with what serves each once its queue is found.
    topics: HashMap<Arc<str>, Option<(Claim, Arc<Slot>)>>,
    assigned: VecDeque<Arc<Slot>>,
    look_at: Option<Instant>,
    backoff: Duration,
    reports: (mpsc::Sender<Report>, mpsc::Receiver<Report>),
    stop: CancellationToken,
    polls: JoinSet<()>,
    rest: JoinSet<()>,
}

impl SqsSource {
    /// # Errors
    /// [`SourceError::Fatal`] where a topic can be no queue.
    pub fn open(queues: Arc<Queues>, spec: SubscriptionSpec) -> Result<Self, SourceError> {
        if spec.exactly_once {
            return Err(SourceError::Fatal(format!(
                "connection {} cannot deliver exactly once: SQS has no transactions; use \
                 `at-least-once`",
                queues.connection
            )));
        }
        let group: Arc<str> = spec.group.into();
        let (patterns, names): (Vec<&str>, Vec<&str>) =
            spec.topics.iter().map(String::as_str).partition(|topic| is_glob(topic));
        let globs = Globs::new(patterns.into_iter())
            .map_err(|e| SourceError::Fatal(format!("topic pattern is invalid: {e}")))?;
        let mut topics = HashMap::new();
        for topic in names {
            queues.names.queue(topic).map_err(SourceError::Fatal)?;
            topics.insert(topic.into(), None);
        }
        Ok(Self {
            queues,
            group,
            prefetch: spec.prefetch,
            until_end: spec.until_end,
            globs,
            topics,
            assigned: VecDeque::new(),
            look_at: Some(Instant::now()),
            backoff: BACKOFF.0,
            reports: mpsc::channel(16),
            stop: CancellationToken::new(),
            polls: JoinSet::new(),
            rest: JoinSet::new(),
        })
    }

    /// Looks for queues that are not served yet. Each one found is kept at once, so that
    /// being cancelled loses none.
    async fn look(&mut self) -> Result<(), SourceError> {
        if !self.globs.is_empty() {
            let found = self.queues.topics().await;
            for topic in found.map_err(|failure| failure.source("list the queues"))? {
                if self.globs.matches(&topic) {
                    self.topics.entry(topic.into()).or_default();
                }
            }
        }
        let missing = self.topics.iter().filter(|(_, served)| served.is_none());
        let missing: Vec<Arc<str>> = missing.map(|(topic, _)| topic.clone()).collect();
        let mut trouble = Ok(());
        for topic in missing {
            match self.queues.open(&topic).await {
                Ok(queue) => self.serve(queue)?,
                // a queue that a glob matched may be deleted again
                Err(failure) if failure.kind == Kind::NoQueue && self.globs.matches(&topic) => {
                    self.topics.remove(&topic);
                }
                Err(failure) => match failure.source(&format!("open topic {topic}")) {
                    SourceError::Fatal(reason) => return Err(SourceError::Fatal(reason)),
                    error => trouble = Err(error),
                },
            }
        }
        trouble
    }

    fn serve(&mut self, queue: Arc<Queue>) -> Result<(), SourceError> {
        let claim = Claim::new(&queue, &self.group)?;
        self.queues.subscribed(&queue.topic, &self.group);
        let config = &self.queues.config;
        let key = config.key_attribute.as_str().into();
        let inflight =
            InFlight::new(queue.topic.clone(), key, config.fifo, config.visibility_timeout);
        let slot = Arc::new(Slot::new(queue, inflight, self.stop.child_token()));
        let serving = Serving {
            slot: slot.clone(),
            queues: self.queues.clone(),
            reports: self.reports.0.clone(),
            prefetch: self.prefetch,
            until_end: self.until_end,
        };
        serving.start(&mut self.polls, &mut self.rest);
        self.topics.insert(slot.id.topic.clone(), Some((claim, slot.clone())));
        self.assigned.push_back(slot);
        Ok(())
    }

    /// Looks, and says when to look again.
    async fn look_again(&mut self) -> Result<(), SourceError> {
        let looked = self.look().await;
        self.look_at = match &looked {
            Ok(()) => {
                self.backoff = BACKOFF.0;
                (!self.globs.is_empty()).then(|| Instant::now() + LOOK)
            }
            Err(_) => {
                self.backoff = (self.backoff * 2).min(BACKOFF.1);
                Some(Instant::now() + self.backoff)
            }
        };
        looked
    }
}

async fn at(instant: Option<Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant).await,
        None => std::future::pending().await,
    }
}

#[async_trait]
impl Source for SqsSource {
    fn guarantees(&self) -> Guarantees {
        guarantees(self.queues.config.fifo)
    }

    async fn next(&mut self) -> Result<SourceEvent, SourceError> {
        loop {
            if let Some(slot) = self.assigned.pop_front() {
                return Ok(SourceEvent::Assigned(Box::new(SqsPartition(slot))));
            }
            let report = tokio::select! {
                biased;
                // a sender is held here: there is always another report to come
                Some(report) = self.reports.1.recv() => Some(report),
                () = at(self.look_at) => None,
            };
            match report {
                Some(Report::Trouble(error)) => return Err(error),
                Some(Report::Gone(slot)) => {
                    self.topics.insert(slot.id.topic.clone(), None);
                    self.look_at = Some(Instant::now() + BACKOFF.0);
                }
                None => self.look_again().await?,
            }
        }
    }

    async fn close(mut self: Box<Self>) -> Result<(), SourceError> {
        self.stop.cancel();
        while self.polls.join_next().await.is_some() {}
        let served = self.topics.values().flatten();
        settled(&served.map(|(_, slot)| slot.clone()).collect::<Vec<_>>(), FLUSH).await
    }
}

/// What SQS promises of queues of one kind. Order is that of each key: its message group.
pub(crate) fn guarantees(fifo: bool) -> Guarantees {
    Guarantees {
        ordered: fifo,
        atomic_effects: false,
        atomic_marks: false,
        atomic_state: false,
        tombstones: true,
        delayed_release: true,
        spread_over_processes: true,
        fan_out: false,
        retained: false,
        redelivery_counted: true,
    }
}
