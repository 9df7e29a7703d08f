//! A queue broker in memory: what the suite is checked with.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use bytes::Bytes;
use sandbar_core::{
    AckToken, Connection, Delivery, Disposition, Event, Guarantees, Outgoing, Partition,
    PartitionId, PublishError, ReadFrom, Reader, ResumeFrom, Settlement, Sink, Source, SourceError,
    SourceEvent, StateStore, SubscriptionSpec, TopicInfo, cloudevents, reserved,
};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

use crate::kept::{Kept, KeptBy};

pub const LARGEST: usize = 1 << 20;

/// How events of a topic are given out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// In order, to a single active member of each group, whose state it keeps.
    Exclusive,
    /// To all members of the topic's only group.
    Shared,
    /// The same, but none of a key while one of it is lent.
    Locking,
}

pub struct Broker {
    kind: Kind,
    state: Mutex<State>,
    changed: watch::Sender<()>,
    members: AtomicU64,
}

#[derive(Default)]
struct State {
    down: bool,
    /// Counts the outages: what was lent before one is no longer.
    epoch: u64,
    topics: BTreeMap<String, Topic>,
    kept: Kept,
}

#[derive(Default)]
struct Topic {
    events: u64,
    groups: BTreeMap<String, Queue>,
}

#[derive(Default)]
struct Queue {
    /// By position.
    ready: BTreeMap<u64, Message>,
    lent: BTreeMap<u64, (u64, Message)>,
    /// The member whose turn it is, where there is only one.
    active: Option<u64>,
}

#[derive(Clone)]
struct Message {
    event: Event,
    redeliveries: u32,
    due: Instant,
}

impl Queue {
    fn put_back(&mut self, position: u64, after: Duration) {
        if let Some((_, mut message)) = self.lent.remove(&position) {
            message.redeliveries += 1;
            message.due = Instant::now() + after;
            self.ready.insert(position, message);
        }
    }

    fn leave(&mut self, of: impl Fn(u64) -> bool) {
        let lent: Vec<_> = self.lent.iter().filter(|(_, (m, _))| of(*m)).map(|(p, _)| *p).collect();
        lent.into_iter().for_each(|position| self.put_back(position, Duration::ZERO));
        self.active = self.active.filter(|member| !of(*member));
    }
}

impl Broker {
    pub fn new(kind: Kind) -> Arc<Self> {
        let (changed, _) = watch::channel(());
        let (state, members) = (Mutex::default(), AtomicU64::default());
        Arc::new(Self { kind, state, changed, members })
    }

    pub fn locks_keys(&self) -> bool {
        self.kind == Kind::Locking
    }

    fn exclusive(&self) -> bool {
        self.kind == Kind::Exclusive
    }

    pub fn guarantees(&self) -> Guarantees {
        Guarantees {
            ordered: self.kind != Kind::Shared,
            atomic_effects: false,
            atomic_marks: false,
            atomic_state: self.exclusive(),
            tombstones: self.exclusive(),
            delayed_release: true,
            spread_over_processes: !self.exclusive(),
            fan_out: self.exclusive(),
            retained: false,
            redelivery_counted: true,
        }
    }

    pub fn connect(self: &Arc<Self>, creates: bool) -> Arc<dyn Connection> {
        Arc::new(Fake { broker: self.clone(), creates })
    }

    /// Takes the broker away, or brings it back.
    pub fn set_down(&self, down: bool) {
        let mut state = self.state.lock().unwrap();
        state.down = down;
        state.epoch += 1;
        for queue in state.topics.values_mut().flat_map(|t| t.groups.values_mut()) {
            queue.leave(|_| true);
        }
        drop(state);
        self.changed.send_replace(());
    }

    fn up(&self) -> Result<MutexGuard<'_, State>, SourceError> {
        let state = self.state.lock().unwrap();
        if state.down { Err(SourceError::Unavailable("away".into())) } else { Ok(state) }
    }

    /// Looks at or changes the state of groups.
    pub fn with_kept<T>(&self, use_it: impl FnOnce(&mut Kept) -> T) -> Result<T, SourceError> {
        self.up().map(|mut state| use_it(&mut state.kept))
    }

    fn put(&self, creates: bool, record: &Outgoing) -> Result<(), PublishError> {
        let mut state = self.up().map_err(|e| PublishError::Unavailable(e.to_string()))?;
        let rejected = |why: &str| Err(PublishError::Rejected(format!("{}: {why}", record.topic)));
        if record.size() > LARGEST {
            return rejected("too large");
        }
        if record.topic.contains(['*', ' ']) {
            return rejected("no name of a topic");
        }
        if !creates && !state.topics.contains_key(&*record.topic) {
            return rejected("unknown");
        }
        let topic = state.topics.entry(record.topic.to_string()).or_default();
        topic.events += 1;
        let payload = record.payload.clone().or((!self.exclusive()).then(Bytes::new));
        let mut headers = record.headers.clone();
        headers.extend(
            record.attributes.iter().map(|(name, value)| {
                sandbar_core::Header::new(format!("ce_{name}"), value.clone())
            }),
        );
        let now = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis();
        let event = Event {
            topic: record.topic.clone(),
            partition: 0,
            position: topic.events,
            key: record.key.clone(),
            payload,
            attributes: cloudevents::attributes(&headers),
            headers: headers.into(),
            timestamp_ms: now.try_into().unwrap(),
        };
        let message = Message { event, redeliveries: 0, due: Instant::now() };
        for queue in topic.groups.values_mut() {
            queue.ready.insert(message.event.position, message.clone());
        }
        drop(state);
        self.changed.send_replace(());
        Ok(())
    }
}

struct Fake {
    broker: Arc<Broker>,
    creates: bool,
}

fn nothing_retained<T>(topic: &str) -> Result<T, SourceError> {
    Err(SourceError::Fatal(format!("{topic}: nothing is retained: subscribe to it")))
}

#[async_trait]
impl Connection for Fake {
    fn name(&self) -> &str {
        "fake"
    }

    fn guarantees(&self) -> Guarantees {
        self.broker.guarantees()
    }

    async fn subscribe(&self, spec: SubscriptionSpec) -> Result<Box<dyn Source>, SourceError> {
        if spec.exactly_once {
            return Err(SourceError::Fatal("outputs and position are two steps here".into()));
        }
        let member = self.broker.members.fetch_add(1, Ordering::Relaxed);
        let broker = self.broker.clone();
        Ok(Box::new(FakeSource { broker, member, spec, epoch: 0, taken: BTreeSet::new() }))
    }

    fn sink(&self) -> Arc<dyn Sink> {
        Arc::new(Self { broker: self.broker.clone(), creates: self.creates })
    }

    fn state(&self) -> Option<Arc<dyn StateStore>> {
        let kept = || Arc::new(KeptBy(self.broker.clone())) as Arc<dyn StateStore>;
        self.broker.exclusive().then(kept)
    }

    async fn read(&self, topic: &str, _: ReadFrom) -> Result<Box<dyn Reader>, SourceError> {
        nothing_retained(topic)
    }

    async fn topics(&self) -> Result<Vec<TopicInfo>, SourceError> {
        self.broker.up().map(|_| Vec::new())
    }

    async fn ensure_topics(&self, topics: &[String]) -> Result<(), SourceError> {
        let mut state = self.broker.up()?;
        for topic in topics {
            if !self.creates && !state.topics.contains_key(topic) {
                return Err(SourceError::Fatal(format!("{topic} may not be made")));
            }
            state.topics.entry(topic.clone()).or_default();
        }
        drop(state);
        self.broker.changed.send_replace(());
        Ok(())
    }

    async fn cursors(
        &self,
        group: &str,
    ) -> Result<Vec<(PartitionId, ResumeFrom, ResumeFrom)>, SourceError> {
        let state = self.broker.up()?;
        let behind = |(topic, t): (&String, &Topic)| {
            let queue = t.groups.get(group)?;
            let behind = (queue.ready.len() + queue.lent.len()) as u64;
            let id = PartitionId { topic: topic.as_str().into(), partition: 0 };
            Some((id, ResumeFrom(0), ResumeFrom(behind)))
        };
        Ok(state.topics.iter().filter_map(behind).collect())
    }

    async fn extents(&self, topic: &str) -> Result<Vec<sandbar_core::Extent>, SourceError> {
        nothing_retained(topic)
    }

    async fn close(&self) {}
}

#[async_trait]
impl Sink for Fake {
    async fn publish(&self, records: &[Outgoing]) -> Vec<Result<(), PublishError>> {
        records.iter().map(|record| self.broker.put(self.creates, record)).collect()
    }
}

struct FakeSource {
    broker: Arc<Broker>,
    member: u64,
    spec: SubscriptionSpec,
    epoch: u64,
    taken: BTreeSet<String>,
}

/// Whether `name` is what `pattern` says, where `*` is anything.
fn matches(pattern: &str, name: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(name) = name.strip_prefix(start) else { return false };
    (0..=name.len()).any(|at| matches(rest, &name[at..]))
}

impl FakeSource {
    fn take(&mut self) -> Result<Option<Box<dyn Partition>>, SourceError> {
        let mut state = self.broker.up()?;
        if self.epoch != state.epoch {
            self.epoch = state.epoch;
            self.taken.clear();
        }
        let wanted = |name: &str| {
            let mut all = self.spec.topics.iter();
            all.any(|p| p == name || (!reserved::is_reserved(name) && matches(p, name)))
        };
        let mut all = state.topics.iter_mut();
        let found = all.find(|(name, _)| !self.taken.contains(*name) && wanted(name));
        let Some((name, topic)) = found else { return Ok(None) };
        let group = &self.spec.group;
        if !self.broker.exclusive() && topic.groups.keys().any(|other| other != group) {
            return Err(SourceError::Fatal(format!("{name} has a group: use another topic")));
        }
        topic.groups.entry(group.clone()).or_default();
        self.taken.insert(name.clone());
        Ok(Some(Box::new(FakePartition {
            id: PartitionId { topic: name.as_str().into(), partition: 0 },
            broker: self.broker.clone(),
            member: self.member,
            spec: self.spec.clone(),
            epoch: self.epoch,
        })))
    }
}

#[async_trait]
impl Source for FakeSource {
    fn guarantees(&self) -> Guarantees {
        self.broker.guarantees()
    }

    async fn next(&mut self) -> Result<SourceEvent, SourceError> {
        let mut changed = self.broker.changed.subscribe();
        loop {
            changed.borrow_and_update();
            if let Some(partition) = self.take()? {
                return Ok(SourceEvent::Assigned(partition));
            }
            changed.changed().await.unwrap();
        }
    }

    async fn close(self: Box<Self>) -> Result<(), SourceError> {
        Ok(())
    }
}

impl Drop for FakeSource {
    fn drop(&mut self) {
        let mut state = self.broker.state.lock().unwrap();
        for queue in state.topics.values_mut().flat_map(|t| t.groups.values_mut()) {
            queue.leave(|member| member == self.member);
        }
        drop(state);
        self.broker.changed.send_replace(());
    }
}

struct FakePartition {
    id: PartitionId,
    broker: Arc<Broker>,
    member: u64,
    spec: SubscriptionSpec,
    epoch: u64,
}

impl FakePartition {
    fn with_queue<T>(
        &self,
        use_it: impl FnOnce(&mut Queue, &mut Kept) -> T,
    ) -> Result<T, SourceError> {
        let mut state = self.broker.up()?;
        if state.epoch != self.epoch {
            return Err(SourceError::Fenced("the connection was lost".into()));
        }
        let State { topics, kept, .. } = &mut *state;
        let topic = topics.get_mut(&*self.id.topic).unwrap();
        Ok(use_it(topic.groups.get_mut(&self.spec.group).unwrap(), kept))
    }

    /// What is ready, or when something is.
    fn take(&self, queue: &mut Queue, max: usize) -> Result<Vec<Delivery>, Option<Instant>> {
        if self.broker.exclusive() && *queue.active.get_or_insert(self.member) != self.member {
            return Err(None);
        }
        let lent = queue.lent.values().filter(|(member, _)| *member == self.member).count();
        let room = max.min(self.spec.prefetch.saturating_sub(lent));
        let now = Instant::now();
        let key = |message: &Message| message.event.key.clone();
        let mut locked: HashSet<_> = match self.broker.locks_keys() {
            true => queue.lent.values().map(|(_, message)| key(message)).collect(),
            false => HashSet::new(),
        };
        let due: Vec<_> = queue.ready.iter().filter(|(_, m)| m.due <= now).collect();
        let at_end = due.is_empty();
        let mut free = |m: &Message| !self.broker.locks_keys() || locked.insert(key(m));
        let due = due.into_iter().filter(|(_, m)| m.event.key.is_none() || free(m));
        let due: Vec<u64> = due.map(|(position, _)| *position).take(room).collect();
        if at_end && room > 0 && self.spec.until_end {
            return Ok(Vec::new());
        }
        if due.is_empty() {
            return Err(queue.ready.values().map(|m| m.due).filter(|due| *due > now).min());
        }
        let lend = |position: u64| {
            let message = queue.ready.remove(&position).unwrap();
            let Message { event, redeliveries, .. } = message.clone();
            queue.lent.insert(position, (self.member, message));
            Delivery { event, token: AckToken(position), redeliveries }
        };
        Ok(due.into_iter().map(lend).collect())
    }
}

#[async_trait]
impl Partition for FakePartition {
    fn id(&self) -> &PartitionId {
        &self.id
    }

    async fn recv(&mut self, max: usize) -> Result<Vec<Delivery>, SourceError> {
        let mut changed = self.broker.changed.subscribe();
        loop {
            changed.borrow_and_update();
            let later = match self.with_queue(|queue, _| self.take(queue, max))? {
                Ok(deliveries) => return Ok(deliveries),
                Err(later) => later,
            };
            let far = Instant::now() + Duration::from_secs(3600);
            tokio::select! {
                _ = changed.changed() => {}
                () = sleep_until(later.unwrap_or(far)) => {}
            }
        }
    }

    async fn settle(&mut self, settlements: &[Settlement]) -> Result<(), SourceError> {
        Settlement::without_effects(settlements, &self.id)?;
        if !self.broker.guarantees().atomic_state {
            Settlement::without_state(settlements, &self.id)?;
        }
        self.with_queue(|queue, kept| {
            let mut next = kept.clone();
            for Settlement { token, disposition } in settlements {
                let Disposition::Done { state: Some(changes), .. } = disposition else { continue };
                let stale = |reason| SourceError::Stale { token: *token, reason };
                next.change(&self.spec.group, changes).map_err(stale)?;
            }
            *kept = next;
            for Settlement { token: AckToken(position), disposition } in settlements {
                match disposition {
                    Disposition::Done { .. } => drop(queue.lent.remove(position)),
                    Disposition::Release { after } => queue.put_back(*position, *after),
                }
            }
            Ok::<(), SourceError>(())
        })??;
        self.broker.changed.send_replace(());
        Ok(())
    }
}
