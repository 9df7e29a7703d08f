//! Events with a scripted fate each, and a checker that asserts the contract over
//! the whole history of what became of them.

use std::{
    collections::{BTreeMap, HashSet},
    panic::resume_unwind,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;
use sandbar_core::{Call, ErrorClass, HandlerError, Outcome, Outgoing, PartitionId, Verdict};
use sandbar_pipeline::Ordering;
use tokio::time::sleep;

use super::{Broker, Entry, FakeHandler, History, What, handler::text, p};

/// What the handler says of one attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Publish so many outputs.
    Ok(u8),
    Skip,
    Reject,
    Retry,
    Trap,
    Panic,
    /// Once; then the next step.
    Defer,
}

/// An event's attempts in order; the last step repeats.
#[derive(Debug, Clone)]
pub struct Script {
    pub steps: Vec<Step>,
    pub millis: u64,
}

/// How an event must end.
#[derive(Debug, PartialEq, Eq)]
enum Expected {
    Handled(u8),
    Skipped,
    Buried,
}

/// A broker full of scripted events, by their payload.
pub struct World {
    pub broker: Arc<Broker>,
    pub history: Arc<History>,
    pub ordering: Ordering,
    pub max_attempts: u32,
    scripts: Arc<Mutex<BTreeMap<String, Script>>>,
    deferred: Arc<Mutex<HashSet<String>>>,
}

impl World {
    pub fn new(atomic: bool, latency: Duration, ordering: Ordering, max_attempts: u32) -> Self {
        let mut broker = Broker::slow(latency);
        (broker.atomic, broker.remembers) = (atomic, true);
        Self {
            broker: Arc::new(broker),
            history: History::new(),
            ordering,
            max_attempts,
            scripts: Arc::default(),
            deferred: Arc::default(),
        }
    }

    /// Appends an event after a gap of `gap` positions.
    pub fn append(&self, partition: u32, key: Option<u8>, gap: u64, script: Script) {
        let id = p(partition);
        let position = self.broker.end(&id) + gap;
        let name = format!("{partition}-{position}");
        self.scripts.lock().insert(name.clone(), script);
        self.broker.append_event(id, |e| {
            e.position = position;
            e.key = key.map(|k| Bytes::from(vec![k]));
            e.payload = Some(name.into());
        });
    }

    pub fn handler(&self, max_batch: usize) -> Arc<FakeHandler> {
        let (scripts, deferred) = (self.scripts.clone(), self.deferred.clone());
        let act = move |call: Call| {
            let name = text(&call);
            let Script { steps, millis } = scripts.lock()[&name].clone();
            let at = (call.attempt as usize - 1).min(steps.len() - 1);
            let mut step = steps[at];
            if step == Step::Defer && !deferred.lock().insert(name.clone()) {
                step = Step::Ok(1);
            }
            async move {
                sleep(Duration::from_millis(millis)).await;
                perform(step, &name)
            }
        };
        Arc::new(FakeHandler::build(&self.history, act).with_batch(max_batch))
    }

    /// Whether everything is committed up to the end.
    pub fn is_done(&self) -> bool {
        let events = self.broker.events();
        let mut ends: BTreeMap<PartitionId, u64> = BTreeMap::new();
        for e in events {
            ends.insert(PartitionId { topic: e.topic, partition: e.partition }, e.position + 1);
        }
        ends.iter().all(|(id, end)| self.broker.committed(id) == *end)
    }

    /// Asserts the contract over everything that happened.
    pub fn check(&self) {
        self.history.assert_no_overlap(|e| self.lane(e));
        self.check_lanes();
        self.check_commits();
        self.check_ends();
    }

    fn lane(&self, entry: &Entry) -> Option<Bytes> {
        match self.ordering {
            Ordering::Key => entry.key.clone(),
            Ordering::Partition => Some(Bytes::new()),
            Ordering::None => None,
        }
    }

    /// O1 and O2: within an assignment a lane's events begin in order, and the next one
    /// only after the one before is through with its attempts; R2 on the way.
    fn check_lanes(&self) {
        let mut lanes: BTreeMap<(PartitionId, u64, Bytes), (Entry, Option<String>)> =
            BTreeMap::new();
        for entry in self.history.entries() {
            assert!(entry.attempt <= self.max_attempts, "R2: {entry:?}");
            let Some(lane) = self.lane(&entry) else { continue };
            let place = (entry.id.clone(), entry.epoch, lane);
            let before = lanes.remove(&place);
            let now = match (&entry.what, before) {
                (What::Began, None) => (entry, None),
                (What::Began, Some((last, ended))) => {
                    let ended = ended.unwrap_or_else(|| panic!("O1: {entry:?}\nduring {last:?}"));
                    let again = ended.starts_with("Retry") && last.attempt < self.max_attempts;
                    let follows = match ended.as_str() {
                        e if e.starts_with("Defer") => {
                            (entry.position, entry.attempt) == (last.position, last.attempt)
                        }
                        _ if again => {
                            (entry.position, entry.attempt) == (last.position, last.attempt + 1)
                        }
                        _ => entry.position > last.position && entry.attempt == 1,
                    };
                    assert!(
                        follows,
                        "O1/O2: {entry:?}\nfollows {last:?}\nwhich ended with {ended}"
                    );
                    (entry, None)
                }
                (What::Ended(how), Some((last, _))) => (last, Some(how.clone())),
                // its panic unwound the call: the pipeline tries it again
                (What::Aborted, Some((last, _))) => (last, Some("Retry after abort".into())),
                (_, None) => panic!("ended without having begun: {entry:?}"),
            };
            lanes.insert(place, now);
        }
    }

    /// C1 and C2: at every commit all that it covers was terminal, and durably so.
    fn check_commits(&self) {
        let state = self.broker.state();
        let mut terminal: BTreeMap<String, usize> = BTreeMap::new();
        for (at, record) in state.published.iter().enumerate() {
            let payload = String::from_utf8(record.payload.clone().unwrap().to_vec()).unwrap();
            let name = payload.split('#').next().unwrap().to_owned();
            let whole = match self.expected(&name) {
                Expected::Handled(n) => payload == format!("{name}#{}", n - 1),
                _ => true,
            };
            if whole {
                terminal.entry(name).or_insert(at);
            }
        }
        let commits = state.commits.clone();
        drop(state);
        let mut last: BTreeMap<PartitionId, u64> = BTreeMap::new();
        for (id, position, durable) in commits {
            let before = last.insert(id.clone(), position.0).unwrap_or(0);
            assert!(before <= position.0, "C2: {id} goes back from {before} to {}", position.0);
            for event in self.broker.events() {
                let covered = event.topic == id.topic && event.partition == id.partition;
                if !covered || !(before..position.0).contains(&event.position) {
                    continue;
                }
                let name = format!("{}-{}", event.partition, event.position);
                match self.expected(&name) {
                    Expected::Skipped | Expected::Handled(0) => {}
                    _ => assert!(
                        terminal.get(&name).is_some_and(|at| *at < durable),
                        "C1: {id} is committed up to {} before {name} is durable",
                        position.0
                    ),
                }
            }
        }
    }

    /// Nothing is lost, nothing is buried that must not be; on an atomic source each
    /// effect is there exactly once.
    fn check_ends(&self) {
        let mut seen: BTreeMap<(String, String), usize> = BTreeMap::new();
        for record in &self.broker.state().published {
            let payload = String::from_utf8(record.payload.clone().unwrap().to_vec()).unwrap();
            *seen.entry((record.topic.to_string(), payload)).or_default() += 1;
        }
        let ended = self.history.entries();
        let names: Vec<_> = self.scripts.lock().keys().cloned().collect();
        for name in &names {
            let expected = self.expected(name);
            let count = |topic: &str, payload: String| {
                seen.get(&(topic.into(), payload)).copied().unwrap_or(0)
            };
            let (outputs, buried) = match expected {
                Expected::Handled(n) => (n, false),
                Expected::Skipped => (0, false),
                Expected::Buried => (0, true),
            };
            let right = |n: usize| if self.broker.atomic { n == 1 } else { n >= 1 };
            for n in 0..3 {
                let found = count("out", format!("{name}#{n}"));
                assert!(
                    if n < outputs { right(found) } else { found == 0 },
                    "{name} must be {expected:?}: output {n} is there {found} times"
                );
            }
            let found = count("plug.dlq", name.clone());
            assert!(
                if buried { right(found) } else { found == 0 },
                "{name} must be {expected:?}: buried {found} times"
            );
            let handled = |e: &Entry| {
                format!("{}-{}", e.id.partition, e.position) == *name
                    && matches!(e.what, What::Ended(_) | What::Aborted)
            };
            assert!(ended.iter().any(handled), "{name} was never handled");
        }
    }

    fn expected(&self, name: &str) -> Expected {
        let steps = self.scripts.lock()[name].steps.clone();
        for attempt in 0..self.max_attempts as usize {
            match steps[attempt.min(steps.len() - 1)] {
                Step::Ok(n) => return Expected::Handled(n),
                Step::Defer => return Expected::Handled(1),
                Step::Skip => return Expected::Skipped,
                Step::Reject => return Expected::Buried,
                Step::Retry | Step::Trap | Step::Panic => {}
            }
        }
        Expected::Buried
    }
}

fn perform(step: Step, name: &str) -> Outcome {
    let failure =
        |class, verdict| Err(HandlerError::new(class, verdict, format!("{step:?} of {name}")));
    let retry = Verdict::Retry { after: None };
    match step {
        Step::Ok(n) => {
            let output = |i| Outgoing::new("out", format!("{name}#{i}")).with_key("k");
            Ok((0..n).map(output).collect::<Vec<_>>().into())
        }
        Step::Skip => failure(ErrorClass::Handler, Verdict::Skip),
        Step::Reject => failure(ErrorClass::Handler, Verdict::Reject),
        Step::Retry => failure(ErrorClass::Handler, retry),
        Step::Trap => failure(ErrorClass::Trap, retry),
        Step::Defer => {
            failure(ErrorClass::Handler, Verdict::Defer { pause: Duration::from_millis(300) })
        }
        // without the message that a `panic!` prints
        Step::Panic => resume_unwind(Box::new("scripted")),
    }
}
