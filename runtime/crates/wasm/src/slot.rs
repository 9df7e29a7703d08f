//! The place of a plugin in the pipeline: which generation serves.

use std::sync::Arc;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use sandbar_core::{Call, Handler, Outcomes};

use crate::Generation;

/// Holds the generation that serves. Calls in flight finish on the one they began
/// on, the next batch goes to the current one (contract H2).
#[derive(Debug)]
pub struct HandlerSlot(ArcSwap<Generation>);

impl HandlerSlot {
    /// A slot served by `generation`.
    pub fn new(generation: Arc<Generation>) -> Self {
        Self(ArcSwap::new(generation))
    }

    /// Lets `generation` serve from now on and returns the old one, which lives until
    /// its last call is through.
    pub fn swap(&self, generation: Arc<Generation>) -> Arc<Generation> {
        self.0.swap(generation)
    }

    /// The generation that serves.
    pub fn current(&self) -> Arc<Generation> {
        self.0.load_full()
    }
}

#[async_trait]
impl Handler for HandlerSlot {
    async fn handle(&self, calls: &[&Call]) -> Outcomes {
        self.current().call(calls).await
    }

    fn max_batch(&self) -> usize {
        self.0.load().max_batch()
    }

    fn min_batch(&self) -> usize {
        self.0.load().min_batch()
    }
}
