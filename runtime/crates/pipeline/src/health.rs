//! How a partition is doing, for operators.

use std::{sync::Arc, time::Duration};

use sandbar_core::PartitionId;
use tokio::time::Instant;

use crate::{
    SubscriptionStats,
    backoff::Throttle,
    condition::{AWAY_FOR, PartitionCondition},
    ledger::Ledger,
};

/// How often it is said without a reason.
const TICK: Duration = Duration::from_secs(1);

/// What keeps one partition from going on, if anything does.
pub(crate) struct Health {
    id: PartitionId,
    stats: Arc<SubscriptionStats>,
    halted: Option<String>,
    /// Why the broker is thought to be away, and when this was last seen.
    away: Option<(String, Instant)>,
    log: Throttle,
    tick: Instant,
}

impl Health {
    pub(crate) fn new(id: PartitionId, stats: Arc<SubscriptionStats>) -> Self {
        let tick = Instant::now() + TICK;
        let health = Self { id, stats, halted: None, away: None, log: Throttle::default(), tick };
        health.tell(&Ledger::default());
        health
    }

    /// Whether an event stops the partition for good.
    pub(crate) fn is_halted(&self) -> bool {
        self.halted.is_some()
    }

    pub(crate) fn is_away(&self) -> bool {
        self.away.is_some()
    }

    pub(crate) fn halt(&mut self, reason: String, ledger: &Ledger) {
        tracing::error!(
            plugin = self.stats.name(), partition = %self.id, reason,
            "partition halted: the event stays uncommitted until the plugin is restarted"
        );
        self.halted.get_or_insert(reason);
        self.tell(ledger);
    }

    /// The broker does not do what it should.
    pub(crate) fn complain(&mut self, reason: &str, ledger: &Ledger) {
        if let Some(held) = self.log.due() {
            tracing::warn!(
                plugin = self.stats.name(), partition = %self.id, held_lines = held, reason,
                "the broker does not take what it should: trying again"
            );
        }
        self.away = Some((reason.to_owned(), Instant::now()));
        self.tell(ledger);
    }

    /// There is nothing to complain of any more.
    pub(crate) fn recovered(&mut self, ledger: &Ledger) {
        self.away = None;
        self.tell(ledger);
    }

    /// When to call [`tick`](Self::tick).
    pub(crate) fn next_tick(&self) -> Instant {
        self.tick
    }

    pub(crate) fn tick(&mut self, now: Instant, ledger: &Ledger) {
        if self.tick <= now {
            self.tick = now + TICK;
            self.tell(ledger);
        }
    }

    fn tell(&self, ledger: &Ledger) {
        let away = self.away.as_ref().filter(|(_, at)| at.elapsed() < AWAY_FOR);
        let condition = PartitionCondition {
            in_flight: ledger.len(),
            oldest: ledger.oldest(),
            halted: self.halted.clone(),
            away: away.map(|(reason, _)| reason.clone()),
        };
        self.stats.set_partition(&self.id, Some(condition));
    }
}

impl Drop for Health {
    fn drop(&mut self) {
        self.stats.set_partition(&self.id, None);
    }
}
