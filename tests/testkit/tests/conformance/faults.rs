//! A connection that does one thing wrong.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use async_trait::async_trait;
use bytes::Bytes;
use sandbar_core::{
    Connection, Delivery, Disposition, Event, Extent, Guarantees, Outgoing, Partition, PartitionId,
    PublishError, ReadFrom, Reader, ResumeFrom, Settlement, Sink, Source, SourceError, SourceEvent,
    StateStore, StateWrite, SubscriptionSpec, TopicInfo,
};

/// What it does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    None,
    /// Promises what it does not do.
    PromisesMore,
    /// Two events change places.
    Swaps,
    /// The first event is acknowledged and never handed out.
    Drops,
    /// An event is handed out twice.
    Repeats,
    /// What is handed out is acknowledged at once.
    AcknowledgesEarly,
    /// What is fetched ahead is acknowledged.
    AcknowledgesFetched,
    /// What is settled is not acknowledged.
    NeverAcknowledges,
    /// What is settled is acknowledged as far as it goes in order.
    AcknowledgesUpTo,
    /// What is released is acknowledged.
    ReleasesAsDone,
    /// What is released comes back at once.
    IgnoresDelays,
    /// What was taken is lost when nobody waits for it any more.
    LosesCancelled,
    /// Says that nothing was delivered before.
    CountsNothing,
    /// Waits at the end.
    NeverEnds,
    /// Sees no topics that appear later.
    SeesNoLaterTopics,
    /// Acknowledges what has effects, and drops them.
    DropsEffects,
    /// Acknowledges what changes state, and forgets the changes.
    DropsState,
    /// Changes of state are made before all else, one by one.
    WritesStateApart,
    /// Says that each record is published.
    SwallowsRejections,
    /// Asks for everything again while one record cannot be published.
    RetriesForEver,
    /// Refuses all records where one cannot be published.
    RefusesAll,
    /// Takes text to be all there is.
    MangledPayloads,
    /// The first of two headers of one name is lost.
    LosesRepeatedHeaders,
    /// Attributes of CloudEvents stay headers.
    LosesAttributes,
    /// A tombstone is an empty payload.
    LosesTombstones,
    /// An empty key is none.
    LosesEmptyKeys,
    /// An outage is the end.
    DiesWithTheBroker,
}

pub struct Faulty {
    pub inner: Arc<dyn Connection>,
    pub fault: Fault,
}

#[async_trait]
impl Connection for Faulty {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn guarantees(&self) -> Guarantees {
        let promised = self.inner.guarantees();
        let more = self.fault == Fault::PromisesMore;
        Guarantees { retained: promised.retained || more, ..promised }
    }

    async fn subscribe(&self, spec: SubscriptionSpec) -> Result<Box<dyn Source>, SourceError> {
        let kept = self.inner.state().map(|state| (state, spec.group.clone()));
        let inner = self.inner.subscribe(spec).await?;
        Ok(Box::new(FaultySource { inner, fault: self.fault, kept, assigned: false }))
    }

    fn state(&self) -> Option<Arc<dyn StateStore>> {
        self.inner.state()
    }

    fn sink(&self) -> Arc<dyn Sink> {
        Arc::new(FaultySink { inner: self.inner.sink(), fault: self.fault })
    }

    async fn read(&self, topic: &str, from: ReadFrom) -> Result<Box<dyn Reader>, SourceError> {
        self.inner.read(topic, from).await
    }

    async fn topics(&self) -> Result<Vec<TopicInfo>, SourceError> {
        self.inner.topics().await
    }

    async fn ensure_topics(&self, topics: &[String]) -> Result<(), SourceError> {
        self.inner.ensure_topics(topics).await
    }

    async fn extents(&self, topic: &str) -> Result<Vec<Extent>, SourceError> {
        self.inner.extents(topic).await
    }

    async fn cursors(
        &self,
        group: &str,
    ) -> Result<Vec<(PartitionId, ResumeFrom, ResumeFrom)>, SourceError> {
        self.inner.cursors(group).await
    }

    async fn close(&self) {
        self.inner.close().await;
    }
}

/// Where the state of a group is kept.
type Kept = Option<(Arc<dyn StateStore>, String)>;

struct FaultySource {
    inner: Box<dyn Source>,
    fault: Fault,
    kept: Kept,
    assigned: bool,
}

#[async_trait]
impl Source for FaultySource {
    fn guarantees(&self) -> Guarantees {
        self.inner.guarantees()
    }

    async fn next(&mut self) -> Result<SourceEvent, SourceError> {
        if self.assigned && self.fault == Fault::SeesNoLaterTopics {
            std::future::pending::<()>().await;
        }
        match self.inner.next().await {
            Ok(SourceEvent::Assigned(inner)) => {
                self.assigned = true;
                let (fault, kept) = (self.fault, self.kept.clone());
                let (done, ready) = (AtomicBool::default(), VecDeque::new());
                let partition = FaultyPartition { inner, fault, kept, done, ready };
                Ok(SourceEvent::Assigned(Box::new(partition)))
            }
            Err(SourceError::Unavailable(e)) if self.fault == Fault::DiesWithTheBroker => {
                Err(SourceError::Fatal(e))
            }
            other => other,
        }
    }

    async fn close(self: Box<Self>) -> Result<(), SourceError> {
        self.inner.close().await
    }
}

struct FaultyPartition {
    inner: Box<dyn Partition>,
    fault: Fault,
    kept: Kept,
    /// What happens once has happened.
    done: AtomicBool,
    /// To be handed out next.
    ready: VecDeque<Delivery>,
}

impl FaultyPartition {
    fn first(&self) -> bool {
        !self.done.swap(true, Ordering::Relaxed)
    }

    fn mangle(&self, event: &mut Event) {
        let text = |bytes: &Bytes| Bytes::from(String::from_utf8_lossy(bytes).into_owned());
        match self.fault {
            Fault::MangledPayloads => event.payload = event.payload.as_ref().map(text),
            Fault::LosesRepeatedHeaders => {
                let all = event.headers.to_vec();
                let last = |n: &usize| !all[n + 1..].iter().any(|h| h.name == all[*n].name);
                event.headers = (0..all.len()).filter(last).map(|n| all[n].clone()).collect();
            }
            Fault::LosesAttributes => event.attributes = Arc::default(),
            Fault::LosesTombstones => {
                event.payload = Some(event.payload.clone().unwrap_or_default())
            }
            Fault::LosesEmptyKeys => event.key = event.key.clone().filter(|key| !key.is_empty()),
            _ => {}
        }
    }
}

#[async_trait]
impl Partition for FaultyPartition {
    fn id(&self) -> &PartitionId {
        self.inner.id()
    }

    async fn recv(&mut self, max: usize) -> Result<Vec<Delivery>, SourceError> {
        if self.fault == Fault::AcknowledgesFetched {
            if self.ready.is_empty() {
                self.ready = self.inner.recv(50).await?.into();
                let all: Vec<_> = self.ready.iter().map(|d| Settlement::done(d.token)).collect();
                self.inner.settle(&all).await?;
            }
            return Ok(self.ready.drain(..max.min(self.ready.len())).collect());
        }
        if let Some(again) = self.ready.pop_front() {
            return Ok(vec![again]);
        }
        let mut deliveries = self.inner.recv(max).await?;
        match self.fault {
            Fault::NeverEnds if deliveries.is_empty() => std::future::pending().await,
            Fault::Swaps if deliveries.len() > 1 => deliveries.swap(0, 1),
            Fault::Drops if !deliveries.is_empty() && self.first() => {
                let lost = deliveries.remove(0);
                self.inner.settle(&[Settlement::done(lost.token)]).await?;
                if deliveries.is_empty() {
                    return self.recv(max).await;
                }
            }
            Fault::Repeats if !deliveries.is_empty() && self.first() => {
                self.ready.push_back(deliveries[0].clone());
            }
            Fault::AcknowledgesEarly => {
                let all: Vec<_> = deliveries.iter().map(|d| Settlement::done(d.token)).collect();
                self.inner.settle(&all).await?;
            }
            Fault::LosesCancelled => tokio::task::yield_now().await,
            Fault::CountsNothing => deliveries.iter_mut().for_each(|d| d.redeliveries = 0),
            _ => {}
        }
        deliveries.iter_mut().for_each(|d| self.mangle(&mut d.event));
        Ok(deliveries)
    }

    async fn settle(&mut self, settlements: &[Settlement]) -> Result<(), SourceError> {
        let mut all = settlements.to_vec();
        match self.fault {
            Fault::NeverAcknowledges => return Ok(()),
            Fault::AcknowledgesUpTo => {
                let last = all.iter().map(|s| s.token.0).max().unwrap_or_default();
                all.extend((0..last).map(|n| Settlement::done(sandbar_core::AckToken(n))));
            }
            _ => {}
        }
        for Settlement { disposition, .. } in &mut all {
            let none = Disposition::done(Vec::new());
            match (self.fault, &mut *disposition) {
                (Fault::ReleasesAsDone, Disposition::Release { .. })
                | (Fault::DropsEffects, Disposition::Done { .. }) => *disposition = none,
                (Fault::DropsState, Disposition::Done { state, .. }) => *state = None,
                (Fault::IgnoresDelays, Disposition::Release { after }) => {
                    *after = Default::default()
                }
                _ => {}
            }
        }
        if let (Fault::WritesStateApart, Some((kept, group))) = (self.fault, &self.kept) {
            for Settlement { token, disposition } in &mut all {
                let Disposition::Done { state, .. } = disposition else { continue };
                let Some(changes) = state.take() else { continue };
                let write = StateWrite { changes: *changes, mark: None };
                if let Err(reason) = kept.write(group, &[write]).await?.remove(0) {
                    return Err(SourceError::Stale { token: *token, reason });
                }
            }
        }
        self.inner.settle(&all).await
    }
}

struct FaultySink {
    inner: Arc<dyn Sink>,
    fault: Fault,
}

#[async_trait]
impl Sink for FaultySink {
    async fn publish(&self, records: &[Outgoing]) -> Vec<Result<(), PublishError>> {
        let mut results = self.inner.publish(records).await;
        let refused = results.iter().find(|r| matches!(r, Err(PublishError::Rejected(_)))).cloned();
        if let Some(Err(refused)) = refused {
            for result in &mut results {
                match self.fault {
                    Fault::SwallowsRejections => *result = Ok(()),
                    Fault::RetriesForEver if result.is_err() => {
                        *result = Err(PublishError::Unavailable(refused.to_string()));
                    }
                    Fault::RefusesAll => *result = Err(refused.clone()),
                    _ => {}
                }
            }
        }
        results
    }
}
