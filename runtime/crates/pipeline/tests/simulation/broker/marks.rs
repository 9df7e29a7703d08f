//! The store of what was handled.

use std::sync::Arc;

use async_trait::async_trait;
use sandbar_core::{Mark, Marks, SourceError};

use super::partition::away;
use crate::{
    trace::{MemberNo, PluginNo, What},
    world::{State, World},
};

pub struct FakeMarks {
    pub world: Arc<World>,
    pub member: MemberNo,
    pub plugin: PluginNo,
}

impl State {
    pub fn mark(&mut self, plugin: PluginNo, mark: &Mark) {
        let expires_ms = mark.expires_ms;
        let known = self.marks.entry((plugin, mark.id.clone())).or_default();
        *known = (*known).max(expires_ms);
        self.note(What::Marked { plugin, id: mark.id.clone(), expires_ms });
    }
}

#[async_trait]
impl Marks for FakeMarks {
    async fn seen(&self, _: &str, ids: &[String], now_ms: u64) -> Result<Vec<bool>, SourceError> {
        let look = || {
            let state = &mut *self.world.lock();
            if state.roll(state.weather.marks) {
                return Err(away("seen"));
            }
            let expiry = |id: &String| state.marks.get(&(self.plugin, id.clone()));
            Ok(ids.iter().map(|id| expiry(id).is_some_and(|at| *at > now_ms)).collect())
        };
        self.world.call(self.member, look).await
    }

    async fn mark(&self, _: &str, marks: &[Mark]) -> Result<(), SourceError> {
        let write = || {
            let state = &mut *self.world.lock();
            marks.iter().for_each(|mark| state.mark(self.plugin, mark));
            if state.roll(state.weather.marks) { Err(away("mark")) } else { Ok(()) }
        };
        self.world.call(self.member, write).await
    }
}
