//! An assigned partition, as a log adapter makes it.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use rand::RngExt;
use sandbar_core::{
    AckToken, Delivery, Disposition, Outgoing, Partition, PartitionId, Settlement, SourceError,
    cloudevents,
};

use super::group::Phase;
use crate::{
    faults::ModelFault,
    plan::Kind,
    trace::{
        Assignment, AssignmentNo, MemberNo, PlaceKind, PlaceNo, PluginNo, RecordNo, What, Writer,
    },
    world::{REFUSED, State, World},
};

/// Attributes that tell the handler's fake where an event came from.
pub const ASSIGNMENT: &str = "assignment";
pub const RECORD: &str = "record";

pub struct FakePartition {
    world: Arc<World>,
    id: PartitionId,
    assignment: AssignmentNo,
    plugin: PluginNo,
    place: PlaceNo,
    member: MemberNo,
}

impl Drop for FakePartition {
    fn drop(&mut self) {
        let mut state = self.world.lock();
        state.holdings[self.assignment.0].dropped = true;
        if state.lives[self.member.0].dead {
            return;
        }
        let assignment = self.assignment;
        state.note(What::Dropped { assignment });
        if state.fault == Some(ModelFault::DroppedIsAcknowledged) {
            for record in state.logs[self.place.0].clone() {
                let position = state.trace.records[record.0].event.position;
                state.holdings[assignment.0].done(position);
            }
        }
    }
}

impl FakePartition {
    pub fn new(world: Arc<World>, assignment: AssignmentNo) -> Self {
        let state = world.lock();
        let Assignment { member, plugin, place } = state.trace.assignments[assignment.0];
        let id = state.trace.places[place.0].id.clone();
        drop(state);
        Self { world, id, assignment, plugin, place, member }
    }

    /// Up to `max` records that are ready.
    fn take(&self, max: usize) -> Result<Vec<Delivery>, SourceError> {
        let state = &mut *self.world.lock();
        let phase = state.holdings[self.assignment.0].phase;
        match phase {
            Phase::Fenced => return Err(self.fenced()),
            Phase::Revoking => return Ok(Vec::new()),
            Phase::Open if state.trace.endless => return Ok(Vec::new()),
            Phase::Open => {}
        }
        if state.roll(state.weather.receive) {
            return Err(away("receive"));
        }
        let fault = state.fault;
        let next = state.holdings[self.assignment.0].next;
        let from = {
            let records = &state.trace.records;
            state.logs[self.place.0].partition_point(|r| records[r.0].event.position < next)
        };
        let max = max.min(state.dice.random_range(1..=8));
        let mut deliveries = Vec::new();
        for at in from..state.logs[self.place.0].len() {
            let holding = &mut state.holdings[self.assignment.0];
            if deliveries.len() == max || self.is_full(holding) {
                break;
            }
            let record = state.logs[self.place.0][at];
            let event = &state.trace.records[record.0].event;
            let position = event.position;
            assert!(holding.watermark.deliver(position), "delivered in order");
            holding.next = position + 1;
            if holding.was_finished(position) {
                holding.done(position);
                continue;
            }
            let mut event = event.clone();
            match fault {
                Some(ModelFault::KeyMadeUp) => event.key = event.key.or(Some(Bytes::new())),
                Some(ModelFault::BrokenRepaired) => {
                    let kept = event.headers.iter().filter(|h| &*h.name != "content-type");
                    event.headers = kept.cloned().collect();
                }
                _ => {}
            }
            let mut attributes = cloudevents::attributes(&event.headers).to_vec();
            attributes.push((ASSIGNMENT.into(), self.assignment.0.to_string()));
            attributes.push((RECORD.into(), record.0.to_string()));
            event.attributes = attributes.into();
            deliveries.push(Delivery { token: AckToken(position), event, redeliveries: 0 });
            state.note(What::Delivered { assignment: self.assignment, record });
        }
        Ok(deliveries)
    }

    /// Whether there might be no room to note down one more that is finished past the
    /// position (contract C3).
    fn is_full(&self, holding: &super::Holding) -> bool {
        let (room, open) = (self.world.plan.ahead, holding.watermark.open());
        // 0 is an adapter that keeps nothing of the kind
        room > 0 && open > 0 && holding.ahead().len() + open >= room
    }

    fn apply(&self, settlements: &[Settlement]) -> Result<(), SourceError> {
        let state = &mut *self.world.lock();
        let atomic = self.world.plan.atomic();
        let zombies_pass = state.fault == Some(ModelFault::ZombieAccepted);
        if state.holdings[self.assignment.0].phase == Phase::Fenced && !zombies_pass {
            return Err(self.fenced());
        }
        if state.roll(state.weather.settle) {
            return Err(away("settle"));
        }
        // all or nothing: look before the first one counts
        for Settlement { token, disposition } in settlements {
            let Disposition::Done { effects, mark, .. } = disposition else { continue };
            assert!(atomic || effects.is_empty(), "effects that nobody asked for");
            let marks = self.world.plan.kind == Kind::Embedded;
            assert!(marks || mark.is_none(), "a mark that nobody asked for");
            if let Some(reason) = effects.iter().find_map(|e| refusal(state, e)) {
                return Err(SourceError::Rejected { token: *token, reason });
            }
        }
        let torn = state.fault == Some(ModelFault::EffectsWithoutPosition) && state.roll(0.1);
        for Settlement { token, disposition } in settlements {
            let record = self.record(state, token.0);
            if torn {
                self.write_effects(state, disposition);
                continue;
            }
            let done = matches!(disposition, Disposition::Done { .. });
            self.write_effects(state, disposition);
            if let Disposition::Done { mark, .. } = disposition {
                let new = state.holdings[self.assignment.0].done(token.0);
                assert!(new || zombies_pass, "position {} was not open", token.0);
                if let Some(mark) = mark {
                    state.mark(self.plugin, mark);
                }
            }
            state.note(What::Settled { assignment: self.assignment, record, done });
        }
        if torn {
            return Err(away("commit"));
        }
        if atomic {
            state.commit_with_effects(self.assignment);
        } else {
            let plan = &self.world.plan;
            state.commit_if_due(self.assignment, plan.commit_every, plan.ahead);
        }
        Ok(())
    }

    fn write_effects(&self, state: &mut State, disposition: &Disposition) {
        let Disposition::Done { effects, .. } = disposition else { return };
        for effect in effects {
            let place = state.place(&effect.topic, 0).expect("a topic that exists");
            state.write(place, effect.clone(), 0, Writer::Settlement(self.assignment));
        }
    }

    fn record(&self, state: &State, position: u64) -> RecordNo {
        let log = &state.logs[self.place.0];
        let at = log.binary_search_by_key(&position, |r| state.trace.records[r.0].event.position);
        log[at.expect("a position that was delivered")]
    }

    fn fenced(&self) -> SourceError {
        SourceError::Fenced(format!("{} is fenced", self.id))
    }
}

#[async_trait]
impl Partition for FakePartition {
    fn id(&self) -> &PartitionId {
        &self.id
    }

    async fn recv(&mut self, max: usize) -> Result<Vec<Delivery>, SourceError> {
        assert!(max > 0, "asked for nothing");
        loop {
            let appended = self.world.appended.notified();
            let deliveries = self.take(max)?;
            if !deliveries.is_empty() {
                return Ok(deliveries);
            }
            appended.await;
        }
    }

    async fn settle(&mut self, settlements: &[Settlement]) -> Result<(), SourceError> {
        let result = self.world.call(self.member, || self.apply(settlements)).await;
        if result.is_ok() {
            // writes wake whoever reads them
            self.world.appended.notify_waiters();
        }
        result
    }
}

/// Why the broker can never take a record, or does not now.
pub fn refusal(state: &mut State, record: &Outgoing) -> Option<String> {
    if record.headers.iter().any(|h| &*h.name == REFUSED) {
        return Some(format!("{} is too large", super::sink::call_of(record)));
    }
    let letter = state.place(&record.topic, 0).map(|p| state.trace.places[p.0].kind);
    let letter = matches!(letter, Some(PlaceKind::Letters(_)));
    (letter && state.roll(state.weather.letter_refused)).then(|| "no letters today".to_owned())
}

pub fn away(call: &str) -> SourceError {
    SourceError::Unavailable(format!("the broker is away: {call}"))
}
