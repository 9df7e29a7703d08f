//! A handler that follows a script and writes down what it was asked.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use sandbar_core::{
    Call, Event, HandledBy, Handler, HandlerError, Outcome, Outcomes, Outgoing, PartitionId,
};
use tokio::time::Instant;

/// What happened, in order.
#[derive(Default)]
pub struct History(Mutex<Vec<Entry>>);

#[derive(Debug, Clone)]
pub struct Entry {
    pub at: Instant,
    pub id: PartitionId,
    pub position: u64,
    pub key: Option<Bytes>,
    pub attempt: u32,
    /// Which assignment of the partition it came from, where the broker says.
    pub epoch: u64,
    /// Version of the handler.
    pub version: &'static str,
    pub what: What,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    Began,
    /// With the outcome: `ok`, or the failure's verdict.
    Ended(String),
    /// The call was dropped before it ended.
    Aborted,
}

impl History {
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    pub fn entries(&self) -> Vec<Entry> {
        self.0.lock().clone()
    }

    /// Beginnings of attempts: position and number.
    pub fn began(&self) -> Vec<(u64, u32)> {
        let entries = self.entries();
        entries.iter().filter(|e| e.what == What::Began).map(|e| (e.position, e.attempt)).collect()
    }

    /// When attempt number `attempt` at `position` began.
    pub fn began_at(&self, position: u64, attempt: u32) -> Option<Instant> {
        let found =
            |e: &&Entry| e.what == What::Began && (e.position, e.attempt) == (position, attempt);
        self.entries().iter().find(found).map(|e| e.at)
    }

    pub fn aborted(&self) -> Vec<u64> {
        self.entries().iter().filter(|e| e.what == What::Aborted).map(|e| e.position).collect()
    }

    /// Largest number of attempts that ran at once.
    pub fn most_at_once(&self) -> usize {
        let (mut now, mut most) = (0usize, 0);
        for entry in self.entries() {
            if entry.what == What::Began {
                now += 1
            } else {
                now -= 1
            }
            most = most.max(now);
        }
        most
    }

    /// Contract O1 across all that ever ran: no two attempts of one lane overlap.
    pub fn assert_no_overlap(&self, lane: impl Fn(&Entry) -> Option<Bytes>) {
        let mut busy: BTreeMap<(PartitionId, Bytes), Entry> = BTreeMap::new();
        for entry in self.entries() {
            let Some(lane) = lane(&entry) else { continue };
            let lane = (entry.id.clone(), lane);
            if entry.what == What::Began {
                let other = busy.insert(lane, entry.clone());
                assert!(other.is_none(), "O1: {entry:?}\nbegan during {other:?}");
            } else {
                busy.remove(&lane);
            }
        }
    }

    fn note(&self, event: &Event, attempt: u32, version: &'static str, what: What) {
        self.0.lock().push(Entry {
            at: Instant::now(),
            id: PartitionId { topic: event.topic.clone(), partition: event.partition },
            position: event.position,
            key: event.key.clone(),
            attempt,
            epoch: event.attribute("epoch").map_or(0, |e| e.parse().unwrap()),
            version,
            what,
        });
    }
}

type Script = Box<dyn Fn(Call) -> BoxFuture<'static, Outcome> + Send + Sync>;

/// A handler whose answers a closure gives.
pub struct FakeHandler {
    history: Arc<History>,
    script: Script,
    max_batch: usize,
    by: Arc<HandledBy>,
    version: &'static str,
    /// Sizes of the batches that it was given.
    pub batches: Mutex<Vec<usize>>,
}

impl FakeHandler {
    pub fn new<F>(
        history: &Arc<History>,
        script: impl Fn(Call) -> F + Send + Sync + 'static,
    ) -> Arc<Self>
    where
        F: Future<Output = Outcome> + Send + 'static,
    {
        Arc::new(Self::build(history, script))
    }

    pub fn build<F>(
        history: &Arc<History>,
        script: impl Fn(Call) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Outcome> + Send + 'static,
    {
        let by =
            HandledBy { plugin: "plug".into(), version: "1.2.3".into(), digest: "abc123".into() };
        Self {
            history: history.clone(),
            script: Box::new(move |call| Box::pin(script(call))),
            max_batch: 1,
            by: Arc::new(by),
            version: "1.2.3",
            batches: Mutex::default(),
        }
    }

    pub fn with_batch(mut self, max_batch: usize) -> Self {
        self.max_batch = max_batch;
        self
    }

    pub fn with_version(mut self, version: &'static str) -> Self {
        self.version = version;
        self
    }
}

/// One output to `out` with the event's key and payload.
pub fn echo(call: &Call) -> Outcome {
    let mut output = Outgoing::new("out", call.event.payload.clone().unwrap_or_default());
    output.key = call.event.key.clone();
    Ok(vec![output].into())
}

/// The event's payload as text.
pub fn text(call: &Call) -> String {
    String::from_utf8(call.event.payload.clone().unwrap_or_default().to_vec()).unwrap()
}

#[async_trait]
impl Handler for FakeHandler {
    async fn handle(&self, calls: &[&Call]) -> Outcomes {
        self.batches.lock().push(calls.len());
        let running: Vec<_> = calls.iter().map(|call| Attempt::begin(self, call)).collect();
        let mut results = Vec::new();
        for call in calls {
            results.push((self.script)((*call).clone()).await);
        }
        for (attempt, result) in running.into_iter().zip(&results) {
            attempt.end(result);
        }
        Outcomes { by: self.by.clone(), results }
    }

    fn max_batch(&self) -> usize {
        self.max_batch
    }
}

/// Writes down that a call was dropped, unless it ended.
struct Attempt<'a> {
    handler: &'a FakeHandler,
    call: &'a Call,
    ended: bool,
}

impl<'a> Attempt<'a> {
    fn begin(handler: &'a FakeHandler, call: &'a Call) -> Self {
        handler.history.note(&call.event, call.attempt, handler.version, What::Began);
        Self { handler, call, ended: false }
    }

    fn end(mut self, result: &Outcome) {
        self.ended = true;
        let how = match result {
            Ok(_) => "ok".to_owned(),
            Err(HandlerError { verdict, .. }) => format!("{verdict:?}"),
        };
        self.handler.history.note(
            &self.call.event,
            self.call.attempt,
            self.handler.version,
            What::Ended(how),
        );
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if !self.ended {
            self.handler.history.note(
                &self.call.event,
                self.call.attempt,
                self.handler.version,
                What::Aborted,
            );
        }
    }
}
