//! What is to be done later.

use std::collections::BTreeMap;

use tokio::time::Instant;

/// Things by the time when they are due, and in the order in which they came within it.
pub(crate) struct Agenda<T> {
    due: BTreeMap<(Instant, u64), T>,
    count: u64,
}

impl<T> Default for Agenda<T> {
    fn default() -> Self {
        Self { due: BTreeMap::new(), count: 0 }
    }
}

impl<T> Agenda<T> {
    pub(crate) fn push(&mut self, due: Instant, thing: T) {
        self.due.insert((due, self.count), thing);
        self.count += 1;
    }

    /// The first thing that is due by `now`.
    pub(crate) fn pop(&mut self, now: Instant) -> Option<T> {
        let first = self.due.first_entry().filter(|first| first.key().0 <= now)?;
        Some(first.remove())
    }

    /// When the next thing is due.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.due.first_key_value().map(|((due, _), _)| *due)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.due.values()
    }

    /// Everything, due or not.
    pub(crate) fn clear(&mut self) -> impl Iterator<Item = T> + use<T> {
        std::mem::take(&mut self.due).into_values()
    }
}
