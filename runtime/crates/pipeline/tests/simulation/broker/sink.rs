//! What a process publishes through.

use std::sync::Arc;

use async_trait::async_trait;
use sandbar_core::{Outgoing, PublishError, Sink};

use super::partition::refusal;
use crate::{
    faults::ModelFault,
    plan::ELSEWHERE,
    trace::{CallNo, MemberNo, PlaceKind, Writer},
    world::{CALL, NUMBER, World, number},
};

pub struct FakeSink {
    pub world: Arc<World>,
    pub member: MemberNo,
    /// The other connection, which writes everything to one place.
    pub elsewhere: bool,
}

impl FakeSink {
    fn write(&self, record: &Outgoing) -> Result<(), PublishError> {
        let state = &mut *self.world.lock();
        let weather = state.weather;
        if state.roll(weather.publish_unavailable) {
            return Err(PublishError::Unavailable("the broker is away: publish".into()));
        }
        if let Some(reason) = refusal(state, record) {
            return Err(PublishError::Rejected(reason));
        }
        let topic = if self.elsewhere { ELSEWHERE } else { &record.topic };
        let place = state.place(topic, 0).expect("a topic that exists");
        let mut record = record.clone();
        let letter = matches!(state.trace.places[place.0].kind, PlaceKind::Letters(_));
        if letter && state.fault == Some(ModelFault::LetterStripped) {
            record.headers.retain(|h| h.name.contains("dlq") || &*h.name == NUMBER);
        }
        state.write(place, record, 0, Writer::Sink(self.member));
        if state.roll(weather.publish_untold) {
            return Err(PublishError::Unavailable("the answer got lost".into()));
        }
        Ok(())
    }
}

#[async_trait]
impl Sink for FakeSink {
    async fn publish(&self, records: &[Outgoing]) -> Vec<Result<(), PublishError>> {
        if records.is_empty() {
            return Vec::new();
        }
        let write = || records.iter().map(|r| self.write(r)).collect();
        let answers = self.world.call(self.member, write).await;
        self.world.appended.notify_waiters();
        answers
    }
}

/// The attempt that published `record`, for messages.
pub fn call_of(record: &Outgoing) -> CallNo {
    CallNo(number(&record.headers, CALL).expect("an output of a handler"))
}
