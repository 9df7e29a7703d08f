//! A group: who holds which partition, how far each has come, and what is committed.

use std::{sync::Arc, time::Duration};

use sandbar_core::{DrainGuard, ResumeFrom, SourceError, SourceEvent, Watermark};
use tokio::time::{Instant, timeout};

use crate::{
    broker::FakePartition,
    faults::ModelFault,
    trace::{Assignment, AssignmentNo, MemberNo, PlaceNo, PluginNo, What},
    world::{Cursor, Life, State, World},
};

/// A partition as its adapter sees it, while it is assigned.
pub struct Holding {
    pub watermark: Watermark,
    /// Where to read on.
    pub next: u64,
    pub phase: Phase,
    /// The pipeline has let go of it.
    pub dropped: bool,
    /// What an earlier assignment finished past the position.
    carried: Vec<(u64, u64)>,
    /// Position after the furthest event that is done.
    furthest: u64,
    /// The first position that there is no event at.
    first_gap: u64,
    committed_at: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    Open,
    /// About to go: nothing more is delivered, but settlements count.
    Revoking,
    Fenced,
}

impl Holding {
    pub fn done(&mut self, position: u64) -> bool {
        self.furthest = self.furthest.max(position + 1);
        self.watermark.finish(position)
    }

    /// Whether an earlier assignment finished it.
    pub fn was_finished(&self, position: u64) -> bool {
        self.carried.iter().any(|(from, to)| (*from..*to).contains(&position))
    }

    /// What is finished past the position.
    pub fn ahead(&self) -> Vec<(u64, u64)> {
        let mut ahead = self.watermark.finished_ahead();
        // what lies beyond the place read so far is not in the watermark yet
        let beyond = self.carried.iter().filter(|(_, to)| *to > self.next);
        ahead.extend(beyond.map(|(from, to)| ((*from).max(self.next), *to)));
        ahead
    }

    fn cursor(&self, room: usize, fault: Option<ModelFault>) -> Cursor {
        let ResumeFrom(position) = self.watermark.resume_from();
        let ahead = if room > 0 { self.ahead() } else { Vec::new() };
        let position = match fault {
            Some(ModelFault::LaterPositionsCommitted) => position.max(self.furthest),
            Some(ModelFault::GapsStall) => position.min(self.first_gap),
            _ => position,
        };
        Cursor { position, ahead }
    }
}

impl World {
    /// Gives a partition to a member of the group, from the committed position on.
    pub fn assign(self: &Arc<Self>, plugin: PluginNo, place: PlaceNo, member: MemberNo) {
        let mut state = self.lock();
        let cursor = state.cursors.entry((plugin, place)).or_default().clone();
        let assignment = AssignmentNo(state.holdings.len());
        let (mut from, mut carried) = (cursor.position, cursor.ahead);
        match state.fault {
            Some(ModelFault::FinishedAheadForgotten) => carried.clear(),
            Some(ModelFault::CursorForgotten) => from = 0,
            _ => {}
        }
        let log = state.logs[place.0].iter().map(|r| state.trace.records[r.0].event.position);
        let first_gap = (0..).zip(log).find(|(at, position)| at != position);
        let first_gap = first_gap.map_or(u64::MAX, |(at, _)| at);
        state.holdings.push(Holding {
            watermark: Watermark::new(ResumeFrom(from)),
            next: from,
            phase: Phase::Open,
            dropped: false,
            carried,
            furthest: from,
            first_gap,
            committed_at: Instant::now(),
        });
        state.trace.assignments.push(Assignment { member, plugin, place });
        state.owners.insert((plugin, place), assignment);
        state.note(What::Assigned { assignment, from });
        let queue = state.lives[member.0].queue.clone();
        drop(state);
        let partition = FakePartition::new(self.clone(), assignment);
        // a member that has just ended drops it, and gives it back untouched
        let _ = queue.try_send(Ok(SourceEvent::Assigned(Box::new(partition))));
    }

    /// Asks the owner of a partition to give it up and waits until it has, or must have.
    pub async fn revoke(self: &Arc<Self>, assignment: AssignmentNo, allowed: Duration) {
        let drained = {
            let mut state = self.lock();
            state.holdings[assignment.0].phase = Phase::Revoking;
            let deadline = state.now() + allowed;
            state.note(What::Revoking { assignment, deadline });
            state.tell_revoked(assignment, allowed)
        };
        let drained = timeout(allowed, drained).await.is_ok();
        let mut state = self.lock();
        if state.holdings[assignment.0].phase == Phase::Fenced {
            // its process died, or left, while we waited
            return;
        }
        if drained {
            state.note(What::Drained { assignment });
        }
        state.leave(assignment, self.plan.ahead);
        drop(state);
        self.appended.notify_waiters();
    }

    /// Takes a partition from a member that does not know, as when its session expired.
    pub fn lose(&self, assignment: AssignmentNo) {
        self.lock().fence(assignment, true);
        self.appended.notify_waiters();
    }

    /// Commits everywhere where it is time for it.
    pub fn commit_due(&self) {
        let mut state = self.lock();
        let owned: Vec<_> = state.owners.values().copied().collect();
        for assignment in owned {
            state.commit_if_due(assignment, self.plan.commit_every, self.plan.ahead);
        }
    }
}

impl State {
    /// Tells the member that `assignment` goes. The receiver resolves when it is drained.
    pub fn tell_revoked(
        &self,
        assignment: AssignmentNo,
        allowed: Duration,
    ) -> tokio::sync::oneshot::Receiver<()> {
        let late = self.fault == Some(ModelFault::DeadlineMisstated);
        let (drained, done) = DrainGuard::new(if late { 10 * allowed } else { allowed });
        let Assignment { member, place, .. } = self.trace.assignments[assignment.0];
        let id = self.trace.places[place.0].id.clone();
        // a member that has ended drops the guard: it has drained
        let _ = self.lives[member.0].queue.try_send(Ok(SourceEvent::Revoking { id, drained }));
        done
    }

    /// Whether the holder's source has failed.
    pub fn is_failing(&self, assignment: AssignmentNo) -> bool {
        let Life { failing, .. } = self.lives[self.trace.assignments[assignment.0].member.0];
        failing
    }

    /// The last commit of an assignment, and its fence; whether the commit went through.
    pub fn leave(&mut self, assignment: AssignmentNo, ahead: usize) -> bool {
        let committed = match self.fault {
            Some(ModelFault::LastCommitSkipped) => true,
            _ => self.commit(assignment, ahead),
        };
        self.fence(assignment, false);
        committed
    }

    pub fn fence(&mut self, assignment: AssignmentNo, lost: bool) {
        let holding = &mut self.holdings[assignment.0];
        if holding.phase != Phase::Fenced {
            holding.phase = Phase::Fenced;
            self.note(What::Fenced { assignment, lost });
            self.owners.retain(|_, owner| *owner != assignment);
        }
    }

    pub fn commit_if_due(&mut self, assignment: AssignmentNo, every: Duration, ahead: usize) {
        if self.holdings[assignment.0].committed_at.elapsed() >= every {
            self.commit(assignment, ahead);
        }
    }

    /// Makes the position durable, unless the broker is not in the mood.
    pub fn commit(&mut self, assignment: AssignmentNo, ahead: usize) -> bool {
        let key = {
            let Assignment { plugin, place, .. } = self.trace.assignments[assignment.0];
            (plugin, place)
        };
        let cursor = self.holdings[assignment.0].cursor(ahead, self.fault);
        let now = &self.cursors[&key];
        if now.position == cursor.position && now.ahead == cursor.ahead {
            return true;
        }
        if self.roll(self.weather.commit) {
            return false;
        }
        self.store(assignment, cursor);
        true
    }

    /// The position as part of a transaction.
    pub fn commit_with_effects(&mut self, assignment: AssignmentNo) {
        let cursor = self.holdings[assignment.0].cursor(usize::MAX, self.fault);
        self.store(assignment, cursor);
    }

    fn store(&mut self, assignment: AssignmentNo, cursor: Cursor) {
        let Assignment { plugin, place, .. } = self.trace.assignments[assignment.0];
        self.holdings[assignment.0].committed_at = Instant::now();
        let Cursor { position, ahead } = cursor.clone();
        self.note(What::Committed { assignment, position, ahead });
        self.cursors.insert((plugin, place), cursor);
    }

    /// Whether the member's adapter has an error to pass on; for the tests' own use.
    pub fn tell(&self, member: MemberNo, error: SourceError) {
        let _ = self.lives[member.0].queue.try_send(Err(error));
    }
}
