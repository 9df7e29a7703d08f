//! A member of a group.

use std::sync::Arc;

use async_trait::async_trait;
use sandbar_core::{Guarantees, Source, SourceError, SourceEvent};
use tokio::sync::mpsc;

use crate::{
    trace::{MemberNo, What},
    world::World,
};

pub struct FakeSource {
    pub world: Arc<World>,
    pub member: MemberNo,
    pub queue: mpsc::Receiver<Result<SourceEvent, SourceError>>,
}

#[async_trait]
impl Source for FakeSource {
    fn guarantees(&self) -> Guarantees {
        self.world.plan.guarantees()
    }

    async fn next(&mut self) -> Result<SourceEvent, SourceError> {
        // the world holds the other end
        self.queue.recv().await.expect("a group that goes on")
    }

    async fn close(self: Box<Self>) -> Result<(), SourceError> {
        let Self { world, member, queue } = *self;
        // what was never taken from here is given back untouched
        drop(queue);
        world.travel(member).await;
        let mut state = world.lock();
        let held = state.held_by(member);
        for assignment in &held {
            assert!(state.holdings[assignment.0].dropped, "{assignment} outlives its source");
        }
        let mut committed = true;
        for assignment in held {
            committed &= state.leave(assignment, world.plan.ahead);
        }
        state.note(What::Closed { member, committed });
        if committed { Ok(()) } else { Err(super::partition::away("the last commit")) }
    }
}
