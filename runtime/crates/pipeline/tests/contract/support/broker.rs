//! A broker in memory: logs with committed positions, and everything published.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};
use sandbar_core::{
    AckToken, Delivery, Disposition, Event, Guarantees, Header, Mark, Outgoing, Partition,
    PartitionId, PublishError, ResumeFrom, Settlement, Sink, SourceError, Watermark, cloudevents,
};
use tokio::{
    sync::Notify,
    time::{Instant, sleep},
};

use super::{p, state::Kept};

type PublishFault = Box<dyn FnMut(&Outgoing) -> Option<PublishError> + Send>;
type SettleFault = Box<dyn FnMut(&[Settlement]) -> Option<SourceError> + Send>;
type MarksFault = Box<dyn FnMut(Asked) -> Option<SourceError> + Send>;
type RecvFault = Box<dyn FnMut() -> Option<SourceError> + Send>;

/// What a store of marks is asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    Seen,
    Mark,
}

/// The broker. Its partitions are read from the committed position on.
#[derive(Default)]
pub struct Broker {
    /// Whether settlements carry effects.
    pub atomic: bool,
    /// Whether settlements carry marks.
    pub atomic_marks: bool,
    /// How long a publish or a settle takes.
    pub latency: Duration,
    /// Whether it keeps what is finished past the committed position (contract C3),
    /// and numbers assignments in the attribute `epoch`.
    pub remembers: bool,
    state: Mutex<State>,
    pub(super) appended: Notify,
    pub began: OnceLock<Instant>,
}

#[derive(Default)]
pub struct State {
    logs: BTreeMap<PartitionId, Vec<Event>>,
    /// Committed position per partition, as it is now.
    pub committed: BTreeMap<PartitionId, ResumeFrom>,
    /// Everything durable: outputs and dead letters, in order.
    pub published: Vec<Outgoing>,
    /// Every commit that moved, in order, with what was durable then.
    pub commits: Vec<(PartitionId, ResumeFrom, usize)>,
    finished: BTreeSet<(PartitionId, u64)>,
    /// When each mark expires.
    pub marks: BTreeMap<String, u64>,
    /// Every mark that was written, with the number of records published and of commits then.
    pub marked: Vec<(String, usize, usize)>,
    /// Ids that were asked for together.
    pub asked: Vec<Vec<String>>,
    pub marks_fault: Option<MarksFault>,
    /// The subscription's state.
    pub kept: Kept,
    pub released: Vec<(AckToken, Duration)>,
    pub publish_fault: Option<PublishFault>,
    pub settle_fault: Option<SettleFault>,
    pub recv_fault: Option<RecvFault>,
    pub read_fault: Option<RecvFault>,
    pub publish_calls: usize,
    pub settle_calls: usize,
    pub recv_calls: usize,
    /// A partition opened before the current epoch is fenced.
    epochs: BTreeMap<PartitionId, u64>,
    /// Sources that were closed.
    pub closed: usize,
}

impl Broker {
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    pub fn atomic() -> Arc<Self> {
        Arc::new(Self { atomic: true, ..Self::default() })
    }

    /// One that writes marks with the settlement, too.
    pub fn marking() -> Arc<Self> {
        Arc::new(Self { atomic: true, atomic_marks: true, ..Self::default() })
    }

    pub fn guarantees(&self) -> Guarantees {
        Guarantees {
            ordered: true,
            atomic_effects: self.atomic,
            atomic_marks: self.atomic_marks,
            atomic_state: self.atomic_marks,
            tombstones: true,
            delayed_release: false,
            spread_over_processes: true,
            fan_out: true,
            retained: true,
            redelivery_counted: false,
        }
    }

    /// A broker that takes its time to publish and to settle.
    pub fn slow(latency: Duration) -> Self {
        Self { latency, ..Self::default() }
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Appends to partition 0 and returns the position.
    pub fn append(&self, key: Option<&str>, payload: &str) -> u64 {
        self.append_to(p(0), key, payload)
    }

    pub fn append_to(&self, id: PartitionId, key: Option<&str>, payload: &str) -> u64 {
        let next = self.end(&id);
        self.append_event(id, |e| {
            e.position = next;
            e.key = key.map(|k| Bytes::from(k.to_owned()));
            e.payload = Some(Bytes::from(payload.to_owned()));
        })
    }

    /// Appends an event made by `fill`, which may leave a gap before it.
    pub fn append_event(&self, id: PartitionId, fill: impl FnOnce(&mut Event)) -> u64 {
        let mut event = Event {
            topic: id.topic.clone(),
            partition: id.partition,
            position: self.end(&id),
            key: None,
            payload: None,
            headers: Vec::<Header>::new().into(),
            timestamp_ms: 1_700_000_000_000,
            attributes: [].into(),
        };
        fill(&mut event);
        let position = event.position;
        self.state().logs.entry(id).or_default().push(event);
        self.appended.notify_waiters();
        position
    }

    /// Appends `record` as it is to partition 0 of its topic.
    pub fn append_record(&self, record: Outgoing) -> u64 {
        let id = PartitionId { topic: record.topic.clone(), partition: 0 };
        self.append_event(id, |e| {
            (e.key, e.payload) = (record.key, record.payload);
            e.attributes = cloudevents::attributes(&record.headers);
            e.headers = record.headers.into();
        })
    }

    /// Where the next event of a partition goes.
    pub fn end(&self, id: &PartitionId) -> u64 {
        self.state().logs.get(id).and_then(|l| l.last()).map_or(0, |e| e.position + 1)
    }

    pub fn events(&self) -> Vec<Event> {
        self.state().logs.values().flatten().cloned().collect()
    }

    pub fn committed(&self, id: &PartitionId) -> u64 {
        self.state().committed.get(id).map_or(0, |r| r.0)
    }

    /// Payloads published to a topic, in order.
    pub fn payloads(&self, topic: &str) -> Vec<String> {
        let text = |b: &Option<Bytes>| String::from_utf8(b.as_ref().unwrap().to_vec()).unwrap();
        self.published(topic).iter().map(|o| text(&o.payload)).collect()
    }

    pub fn published(&self, topic: &str) -> Vec<Outgoing> {
        self.state().published.iter().filter(|o| &*o.topic == topic).cloned().collect()
    }

    /// Opens a partition at its committed position; whoever had it is fenced.
    /// `held` counts the partitions of one source.
    pub fn open(self: &Arc<Self>, id: PartitionId, held: &Arc<AtomicUsize>) -> FakePartition {
        let mut state = self.state();
        let start = state.committed.get(&id).copied().unwrap_or_default();
        let epoch = state.epochs.entry(id.clone()).or_default();
        *epoch += 1;
        let epoch = *epoch;
        drop(state);
        held.fetch_add(1, Ordering::SeqCst);
        let held = held.clone();
        FakePartition {
            id,
            broker: self.clone(),
            watermark: Watermark::new(start),
            next: start.0,
            epoch,
            held,
        }
    }

    /// Publishing answers `fault` for topics that `when` picks, until it is mended.
    pub fn break_publishing(
        &self,
        fault: impl FnMut(&Outgoing) -> Option<PublishError> + Send + 'static,
    ) {
        self.state().publish_fault = Some(Box::new(fault));
    }

    pub fn break_settling(
        &self,
        fault: impl FnMut(&[Settlement]) -> Option<SourceError> + Send + 'static,
    ) {
        self.state().settle_fault = Some(Box::new(fault));
    }

    pub fn break_receiving(&self, fault: impl FnMut() -> Option<SourceError> + Send + 'static) {
        self.state().recv_fault = Some(Box::new(fault));
    }

    pub fn mend(&self) {
        let mut state = self.state();
        state.publish_fault = None;
        state.settle_fault = None;
        state.recv_fault = None;
        state.marks_fault = None;
        state.read_fault = None;
    }
}

#[async_trait]
impl Sink for Broker {
    async fn publish(&self, records: &[Outgoing]) -> Vec<Result<(), PublishError>> {
        if !records.is_empty() && !self.latency.is_zero() {
            sleep(self.latency).await;
        }
        let mut state = self.state();
        state.publish_calls += 1;
        let mut fault = state.publish_fault.take();
        let results = records.iter().map(|record| match fault.as_mut().and_then(|f| f(record)) {
            Some(error) => Err(error),
            None => {
                state.published.push(record.clone());
                Ok(())
            }
        });
        let results = results.collect();
        state.publish_fault = fault;
        self.appended.notify_waiters();
        results
    }
}

/// A partition that holds its position the way a log adapter does.
pub struct FakePartition {
    id: PartitionId,
    broker: Arc<Broker>,
    watermark: Watermark,
    next: u64,
    epoch: u64,
    held: Arc<AtomicUsize>,
}

impl Drop for FakePartition {
    fn drop(&mut self) {
        self.held.fetch_sub(1, Ordering::SeqCst);
    }
}

impl FakePartition {
    fn fence(&self, state: &State) -> Result<(), SourceError> {
        if state.epochs[&self.id] == self.epoch {
            return Ok(());
        }
        Err(SourceError::Fenced(format!("{} is fenced", self.id)))
    }

    fn commit(&self, state: &mut State) {
        let resume = self.watermark.resume_from();
        if state.committed.get(&self.id).copied().unwrap_or_default() != resume {
            let durable = state.published.len();
            state.committed.insert(self.id.clone(), resume);
            state.commits.push((self.id.clone(), resume, durable));
        }
    }

    fn take(&mut self, max: usize) -> Result<Vec<Delivery>, SourceError> {
        let mut state = self.broker.state();
        self.fence(&state)?;
        state.recv_calls += 1;
        if let Some(error) = state.recv_fault.as_mut().and_then(|f| f()) {
            return Err(error);
        }
        let log = state.logs.get(&self.id).map_or(&[][..], Vec::as_slice);
        let from = log.partition_point(|e| e.position < self.next);
        let mut deliveries = Vec::new();
        for event in log[from..].iter() {
            if deliveries.len() == max {
                break;
            }
            assert!(self.watermark.deliver(event.position));
            self.next = event.position + 1;
            if state.finished.contains(&(self.id.clone(), event.position)) {
                self.watermark.finish(event.position);
                continue;
            }
            let mut event = event.clone();
            if self.broker.remembers {
                event.attributes = [("epoch".to_owned(), self.epoch.to_string())].into();
            }
            deliveries.push(Delivery { token: AckToken(event.position), event, redeliveries: 0 });
        }
        self.commit(&mut state);
        Ok(deliveries)
    }
}

#[async_trait]
impl Partition for FakePartition {
    fn id(&self) -> &PartitionId {
        &self.id
    }

    async fn recv(&mut self, max: usize) -> Result<Vec<Delivery>, SourceError> {
        assert!(max > 0, "asked for nothing");
        let broker = self.broker.clone();
        loop {
            let appended = broker.appended.notified();
            let deliveries = self.take(max)?;
            if !deliveries.is_empty() {
                return Ok(deliveries);
            }
            appended.await;
        }
    }

    async fn settle(&mut self, settlements: &[Settlement]) -> Result<(), SourceError> {
        if !self.broker.latency.is_zero() {
            sleep(self.broker.latency).await;
        }
        let mut state = self.broker.state();
        self.fence(&state)?;
        state.settle_calls += 1;
        let mut fault = state.settle_fault.take();
        let error = fault.as_mut().and_then(|f| f(settlements));
        state.settle_fault = fault;
        if let Some(error) = error {
            return Err(error);
        }
        state.kept.settle(settlements)?;
        for Settlement { token, disposition } in settlements {
            match disposition {
                Disposition::Done { effects, mark, state: changes } => {
                    assert!(
                        self.broker.atomic_marks || changes.is_none(),
                        "state that nobody asked for"
                    );
                    assert!(
                        self.broker.atomic || effects.is_empty(),
                        "effects that nobody asked for"
                    );
                    assert!(self.watermark.finish(token.0), "{token:?} is not open");
                    assert!(
                        self.broker.atomic_marks || mark.is_none(),
                        "a mark that nobody asked for"
                    );
                    state.published.extend(effects.iter().cloned());
                    state.mark(mark.as_slice());
                    if self.broker.remembers {
                        state.finished.insert((self.id.clone(), token.0));
                    }
                }
                Disposition::Release { after } => state.released.push((*token, *after)),
            }
        }
        self.commit(&mut state);
        self.broker.appended.notify_waiters();
        Ok(())
    }
}

impl State {
    pub(super) fn mark(&mut self, marks: &[Mark]) {
        for Mark { id, expires_ms } in marks {
            let known = self.marks.entry(id.clone()).or_default();
            *known = (*known).max(*expires_ms);
            self.marked.push((id.clone(), self.published.len(), self.commits.len()));
        }
    }
}

/// A published record as a reader would get it back.
pub fn stored(record: Outgoing) -> Event {
    Event {
        topic: record.topic,
        partition: 0,
        position: 0,
        key: record.key,
        payload: record.payload,
        headers: record.headers.into(),
        timestamp_ms: 0,
        attributes: [].into(),
    }
}
