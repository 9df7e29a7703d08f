//! What the pipeline reads beside its subscription: the keys that are halted.

use std::sync::Arc;

use async_trait::async_trait;
use sandbar_core::{
    Connection, Event, Guarantees, PartitionId, ReadFrom, Reader, ResumeFrom, Sink, Source,
    SourceError, SubscriptionSpec, TopicInfo,
};

use super::{FakeSink, partition::away};
use crate::{
    trace::{MemberNo, PlaceNo},
    world::World,
};

pub struct FakeConnection {
    pub world: Arc<World>,
    pub member: MemberNo,
}

struct FakeReader {
    world: Arc<World>,
    member: MemberNo,
    place: PlaceNo,
    /// Index into the log.
    next: usize,
    /// Where it ends, if it does.
    end: Option<usize>,
}

fn absent<T>() -> Result<T, SourceError> {
    Err(SourceError::Fatal("the pipeline has no use for this".into()))
}

#[async_trait]
impl Connection for FakeConnection {
    fn name(&self) -> &str {
        "fake"
    }

    fn guarantees(&self) -> Guarantees {
        self.world.plan.guarantees()
    }

    async fn subscribe(&self, _: SubscriptionSpec) -> Result<Box<dyn Source>, SourceError> {
        absent()
    }

    fn sink(&self) -> Arc<dyn Sink> {
        let (world, member) = (self.world.clone(), self.member);
        Arc::new(FakeSink { world, member, elsewhere: false })
    }

    async fn read(&self, topic: &str, from: ReadFrom) -> Result<Box<dyn Reader>, SourceError> {
        let open = || {
            let state = &mut *self.world.lock();
            if state.roll(state.weather.receive) {
                return Err(away("read"));
            }
            let place = state.place(topic, 0).expect("a topic that exists");
            let end = state.logs[place.0].len();
            let (next, end) = match from {
                ReadFrom::Start => (0, Some(end)),
                ReadFrom::Follow => (end, None),
                ReadFrom::Position(_) | ReadFrom::Time(_) => return absent(),
            };
            Ok((place, next, end))
        };
        let (place, next, end) = self.world.call(self.member, open).await?;
        let (world, member) = (self.world.clone(), self.member);
        Ok(Box::new(FakeReader { world, member, place, next, end }))
    }

    async fn topics(&self) -> Result<Vec<TopicInfo>, SourceError> {
        absent()
    }

    async fn ensure_topics(&self, _: &[String]) -> Result<(), SourceError> {
        Ok(())
    }

    async fn cursors(
        &self,
        _: &str,
    ) -> Result<Vec<(PartitionId, ResumeFrom, ResumeFrom)>, SourceError> {
        absent()
    }

    async fn close(&self) {}
}

#[async_trait]
impl Reader for FakeReader {
    async fn next(&mut self, max: usize) -> Result<Vec<Event>, SourceError> {
        loop {
            self.world.travel(self.member).await;
            let appended = self.world.appended.notified();
            {
                let state = &mut *self.world.lock();
                if state.roll(state.weather.receive) {
                    return Err(away("read"));
                }
                let log = &state.logs[self.place.0];
                let end = self.end.unwrap_or(log.len()).min(self.next + max);
                let records = &log[self.next..end];
                if !records.is_empty() || self.end.is_some() {
                    self.next = end;
                    let event = |r: &crate::trace::RecordNo| state.trace.records[r.0].event.clone();
                    return Ok(records.iter().map(event).collect());
                }
            }
            appended.await;
        }
    }
}
