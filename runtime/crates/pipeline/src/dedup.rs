//! Which events a subscription has handled (contract I1 to I3), and which are under way.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use sandbar_core::{Mark, Marks, SourceError};
use tokio::sync::oneshot;

use crate::faults::{Fault, planted};

use crate::attempt::guarded;

/// The marks of one subscription. To look an event up one has to hold its claim, and
/// keeps it until the mark is durable: nothing comes between the question and the mark.
pub(crate) struct Dedup {
    marks: Arc<dyn Marks>,
    group: String,
    window: Duration,
    under_way: Arc<UnderWay>,
}

/// Events under way by their id, with those who wait for one.
#[derive(Default)]
struct UnderWay(Mutex<BTreeMap<String, Vec<oneshot::Sender<()>>>>);

/// The right to handle the event of an id; dropping it lets the next one try.
pub(crate) struct Claim {
    id: String,
    of: Arc<UnderWay>,
}

impl Claim {
    pub(crate) fn id(&self) -> &String {
        &self.id
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let waiting = self.of.0.lock().remove(&self.id);
        for waits in waiting.into_iter().flatten() {
            // whoever waited may have gone
            let _ = waits.send(());
        }
    }
}

impl Dedup {
    pub(crate) fn new(marks: Arc<dyn Marks>, group: String, window: Duration) -> Self {
        Self { marks, group, window, under_way: Arc::default() }
    }

    /// The claim on `id`, or what resolves when whoever holds it has let go.
    pub(crate) fn claim(&self, id: String) -> Result<Claim, oneshot::Receiver<()>> {
        if planted(Fault::MarksNotHeld) {
            return Ok(Claim { id, of: Arc::default() });
        }
        let mut under_way = self.under_way.0.lock();
        if let Some(waiting) = under_way.get_mut(&id) {
            let (free, waits) = oneshot::channel();
            waiting.push(free);
            return Err(waits);
        }
        under_way.insert(id.clone(), Vec::new());
        Ok(Claim { id, of: self.under_way.clone() })
    }

    /// Which of `ids` were handled within the window, in their order.
    pub(crate) async fn seen(&self, ids: &[String], now_ms: u64) -> Result<Vec<bool>, SourceError> {
        let seen = guarded(self.marks.seen(&self.group, ids, now_ms)).await.map_err(panicked)??;
        if seen.len() == ids.len() {
            return Ok(seen);
        }
        let (n, m) = (seen.len(), ids.len());
        Err(SourceError::Unavailable(format!("the store of marks answered for {n} of {m} events")))
    }

    /// The mark of the event that `claim` is for, handled now.
    pub(crate) fn mark_of(&self, claim: &Claim, now_ms: u64) -> Mark {
        let forever = planted(Fault::MarksForever);
        let window = if forever { Duration::MAX } else { self.window };
        let window = u64::try_from(window.as_millis()).unwrap_or(u64::MAX);
        Mark { id: claim.id.clone(), expires_ms: now_ms.saturating_add(window) }
    }

    /// Makes `marks` durable.
    pub(crate) async fn mark(&self, marks: &[Mark]) -> Result<(), SourceError> {
        guarded(self.marks.mark(&self.group, marks)).await.map_err(panicked)?
    }
}

fn panicked(panic: String) -> SourceError {
    SourceError::Unavailable(format!("the store of marks panicked: {panic}"))
}
