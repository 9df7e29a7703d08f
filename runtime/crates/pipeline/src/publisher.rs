//! Publishing at once for a handler, to where it may publish anyway.

use std::sync::Arc;

use async_trait::async_trait;
use sandbar_core::{Outgoing, PublishRefusal, Publisher};

use crate::{
    Outputs, SubscriptionStats,
    outbox::{Denial, Outbox},
};

/// Publishes what a handler asks for in the middle of a call: to the connections and the
/// topics that it may publish to by returning events.
#[derive(Debug)]
pub struct DirectPublisher {
    outputs: Outputs,
    allow: Vec<String>,
    stats: Arc<SubscriptionStats>,
}

impl DirectPublisher {
    /// One that publishes to `outputs`, topics that `allow` lists (exact or with `*`), and
    /// counts in `stats`.
    pub fn new(outputs: Outputs, allow: Vec<String>, stats: Arc<SubscriptionStats>) -> Self {
        Self { outputs, allow, stats }
    }
}

#[async_trait]
impl Publisher for DirectPublisher {
    async fn publish(&self, events: Vec<Outgoing>) -> Result<(), PublishRefusal> {
        let denial = events.iter().find_map(|event| self.outputs.denial(Some(&self.allow), event));
        if let Some(Denial::Connection(name) | Denial::Topic(name)) = denial {
            return Err(PublishRefusal::Denied(name.to_owned()));
        }
        let mut outbox = Outbox::default();
        for event in events {
            let to = self.outputs.find(event.connection.as_deref());
            outbox.push(to.unwrap_or(&self.outputs.default), 0, event);
        }
        let round = outbox.round(false).await;
        self.stats.published.inc_by(round.published);
        match (round.rejected.into_iter().next(), round.unavailable) {
            (Some((_, reason)), _) => Err(PublishRefusal::Rejected(reason)),
            (None, Some(reason)) => Err(PublishRefusal::Unavailable(reason)),
            (None, None) => Ok(()),
        }
    }
}

#[cfg(test)]
#[path = "publisher_tests.rs"]
mod tests;
