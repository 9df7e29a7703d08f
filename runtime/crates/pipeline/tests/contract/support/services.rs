//! What some settings need besides: a store of marks, and a connection to read through.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use sandbar_core::{
    Connection, Event, Guarantees, Mark, Marks, PartitionId, ReadFrom, Reader, ResumeFrom, Sink,
    Source, SourceError, StateEntry, StateSize, StateStore, StateWrite, SubscriptionSpec,
    TopicInfo, reserved,
};
use sandbar_pipeline::{Environment, Parcel, Services};
use tokio::time::{Instant, sleep};

use super::{
    Broker,
    broker::{Asked, stored},
};

/// The time of day when a broker is first used: 2026-11-21T10:30:00Z. It goes with
/// paused time.
pub const WALL_MS: u64 = 1_795_257_000_000;

/// All services of `broker`, and no chance.
pub fn services(broker: &Arc<Broker>) -> Services {
    let began = *broker.began.get_or_init(Instant::now);
    let wall_ms = move || WALL_MS + began.elapsed().as_millis() as u64;
    Services {
        marks: Some(Arc::new(Store(broker.clone()))),
        state: Some(Arc::new(Store(broker.clone()))),
        connection: Some(Arc::new(Reading(broker.clone()))),
        environment: Environment { wall_ms: Arc::new(wall_ms), random: Arc::new(|| 0.0) },
    }
}

struct Store(Arc<Broker>);

impl Store {
    fn fails(&self, asked: Asked) -> Result<(), SourceError> {
        self.0.state().marks_fault.as_mut().and_then(|f| f(asked)).map_or(Ok(()), Err)
    }
}

#[async_trait]
impl Marks for Store {
    async fn seen(
        &self,
        group: &str,
        ids: &[String],
        now_ms: u64,
    ) -> Result<Vec<bool>, SourceError> {
        assert_eq!(group, "sandbar.plug");
        self.fails(Asked::Seen)?;
        let mut state = self.0.state();
        state.asked.push(ids.to_vec());
        Ok(ids.iter().map(|id| state.marks.get(id).is_some_and(|at| *at > now_ms)).collect())
    }

    async fn mark(&self, group: &str, marks: &[Mark]) -> Result<(), SourceError> {
        assert_eq!(group, "sandbar.plug");
        self.fails(Asked::Mark)?;
        self.0.state().mark(marks);
        Ok(())
    }
}

/// The pipeline only writes.
#[async_trait]
impl StateStore for Store {
    async fn get(&self, _: &str, _: &str, _: u64) -> Result<Option<StateEntry>, SourceError> {
        unused()
    }

    async fn list(
        &self,
        _: &str,
        _: &str,
        _: Option<&str>,
        _: usize,
        _: u64,
    ) -> Result<Vec<(String, StateEntry)>, SourceError> {
        unused()
    }

    async fn size(&self, _: &str) -> Result<StateSize, SourceError> {
        unused()
    }

    async fn write(
        &self,
        group: &str,
        writes: &[StateWrite],
    ) -> Result<Vec<Result<(), String>>, SourceError> {
        assert_eq!(group, "sandbar.plug");
        let mut state = self.0.state();
        let write = |StateWrite { changes, mark }: &StateWrite| {
            state.kept.apply(changes)?;
            state.mark(mark.as_slice());
            Ok(())
        };
        Ok(writes.iter().map(write).collect())
    }
}

/// Reads what was published.
struct Reading(Arc<Broker>);

struct Published {
    broker: Arc<Broker>,
    topic: String,
    next: usize,
    end: Option<usize>,
}

fn unused<T>() -> Result<T, SourceError> {
    Err(SourceError::Fatal("the pipeline has no use for this".into()))
}

#[async_trait]
impl Connection for Reading {
    fn name(&self) -> &str {
        "fake"
    }

    fn guarantees(&self) -> Guarantees {
        self.0.guarantees()
    }

    async fn subscribe(&self, _: SubscriptionSpec) -> Result<Box<dyn Source>, SourceError> {
        unused()
    }

    fn sink(&self) -> Arc<dyn Sink> {
        self.0.clone()
    }

    async fn read(&self, topic: &str, from: ReadFrom) -> Result<Box<dyn Reader>, SourceError> {
        if let Some(error) = self.0.state().read_fault.as_mut().and_then(|f| f()) {
            return Err(error);
        }
        let end = self.0.published(topic).len();
        let (next, end) = match from {
            ReadFrom::Start => (0, Some(end)),
            ReadFrom::Follow => (end, None),
            ReadFrom::Position(_) | ReadFrom::Time(_) => return unused(),
        };
        Ok(Box::new(Published { broker: self.0.clone(), topic: topic.into(), next, end }))
    }

    async fn topics(&self) -> Result<Vec<TopicInfo>, SourceError> {
        unused()
    }

    async fn ensure_topics(&self, _: &[String]) -> Result<(), SourceError> {
        unused()
    }

    async fn cursors(
        &self,
        _: &str,
    ) -> Result<Vec<(PartitionId, ResumeFrom, ResumeFrom)>, SourceError> {
        unused()
    }

    async fn close(&self) {}
}

#[async_trait]
impl Reader for Published {
    async fn next(&mut self, max: usize) -> Result<Vec<Event>, SourceError> {
        loop {
            let appended = self.broker.appended.notified();
            let all = self.broker.published(&self.topic);
            let end = self.end.unwrap_or(all.len()).min(self.next + max);
            let events =
                (self.next..end).map(|at| Event { position: at as u64, ..stored(all[at].clone()) });
            let events: Vec<_> = events.collect();
            if !events.is_empty() || self.end.is_some() {
                self.next = end;
                return Ok(events);
            }
            appended.await;
        }
    }
}

/// Moves what lies in `tiers` to its inbox when it is due, for ever.
pub fn courier(broker: &Arc<Broker>, tiers: &[&str]) {
    for tier in tiers {
        let now_ms = services(broker).environment.wall_ms;
        let broker = broker.clone();
        let topic = tier.to_string();
        let mut reader = Published { broker: broker.clone(), topic, next: 0, end: None };
        tokio::spawn(async move {
            loop {
                for event in reader.next(1).await.unwrap() {
                    let parcel = Parcel::open(&event).unwrap();
                    let early = parcel.due_ms.saturating_sub(now_ms());
                    sleep(Duration::from_millis(early)).await;
                    broker.append_record(parcel.record(reserved::inbox(&parcel.to)));
                }
            }
        });
    }
}
