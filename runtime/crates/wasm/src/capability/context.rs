//! `sandbar:events/context`: facts about the plugin and the call. Always linked.

use tokio::time::Instant;
use wasmtime::component::{HasData, Linker};

use crate::{
    bindings::sandbar::events::context::{self, Host},
    state::{Facts, State},
};

/// The facts of one store, borrowed for one host call.
pub(crate) struct ContextView<'a> {
    facts: &'a Facts,
    deadline: Instant,
}

struct Context;

impl HasData for Context {
    type Data<'a> = ContextView<'a>;
}

pub(crate) fn add_to_linker(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    context::add_to_linker::<State, Context>(linker, |state| ContextView {
        facts: &state.facts,
        deadline: state.deadline,
    })
}

impl Host for ContextView<'_> {
    fn plugin_name(&mut self) -> wasmtime::Result<String> {
        Ok(self.facts.name.clone())
    }

    fn plugin_version(&mut self) -> wasmtime::Result<String> {
        Ok(self.facts.version.clone())
    }

    fn connection(&mut self) -> wasmtime::Result<String> {
        Ok(self.facts.connection.clone())
    }

    fn remaining_ms(&mut self) -> wasmtime::Result<u64> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        Ok(u64::try_from(left.as_millis()).unwrap_or(u64::MAX))
    }
}
