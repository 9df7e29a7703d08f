//! What a subscription uses beside its handler and its outputs.

use std::{fmt, sync::Arc};

use sandbar_core::{Connection, Marks, SourceError, StateStore, StateWrite};

use crate::{Environment, Ordering, SubscriptionConfig, attempt::guarded};

/// Services that only some settings need; none by default, in real time.
#[derive(Clone, Default)]
pub struct Services {
    /// Where the marks of handled events are kept: for [`SubscriptionConfig::dedup`].
    pub marks: Option<Arc<dyn Marks>>,
    /// Where changes of state go that the source does not write itself; the same place
    /// as `marks`. For handlers that keep state.
    pub state: Option<Arc<dyn StateStore>>,
    /// The connection that the events come from, to read halted keys: for
    /// [`OnDeadLetter::HaltKey`](crate::OnDeadLetter).
    pub connection: Option<Arc<dyn Connection>>,
    /// Time of day and chance.
    pub environment: Environment,
}

impl fmt::Debug for Services {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Services")
            .field("marks", &self.marks.is_some())
            .field("state", &self.state.is_some())
            .field("connection", &self.connection.as_ref().map(|c| c.name().to_owned()))
            .finish_non_exhaustive()
    }
}

impl Services {
    /// Makes changes of the state of `group`; answers for each of `writes`.
    pub(crate) async fn write_state(
        &self,
        group: &str,
        writes: &[StateWrite],
    ) -> Result<Vec<Result<(), String>>, SourceError> {
        let away = |reason: String| SourceError::Unavailable(reason);
        let Some(state) = &self.state else {
            return Err(away("the handler keeps state, and there is no store for that".into()));
        };
        let panicked = |panic| away(format!("the store of state panicked: {panic}"));
        let answers = guarded(state.write(group, writes)).await.map_err(panicked)??;
        match answers.len() == writes.len() {
            true => Ok(answers),
            false => Err(away(format!(
                "the store of state answered for {} of {} events",
                answers.len(),
                writes.len()
            ))),
        }
    }

    /// Refuses settings that cannot be kept.
    pub(crate) fn check(&self, config: &SubscriptionConfig) -> Result<(), SourceError> {
        let unordered = config.ordering == Ordering::None;
        let complaint = if config.dedup.is_some() && self.marks.is_none() {
            "it is to know what it has handled, and has no store for that"
        } else if config.halts_keys() && self.connection.is_none() {
            "a dead letter is to halt its key, and there is no connection to read halted keys from"
        } else if config.halts_keys() && unordered {
            "a dead letter is to halt its key, which means nothing without an ordering"
        } else if !config.retry_tiers.is_empty() && !unordered {
            "retries through topics lose the order that is asked for"
        } else {
            return Ok(());
        };
        Err(SourceError::Fatal(format!("subscription `{}`: {complaint}", config.name)))
    }
}
