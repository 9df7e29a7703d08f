//! What an adapter counts on behalf of one subscription.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counters that only the adapter can keep. Written by it, read by the metrics.
#[derive(Debug, Default)]
pub struct SourceStats {
    committed: AtomicU64,
    aborted: AtomicU64,
    /// Parts per thousand.
    metadata_fill: AtomicU64,
}

impl SourceStats {
    /// Counts a committed transaction.
    pub fn transaction_committed(&self) {
        self.committed.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a transaction that was given up; what it held is done again.
    pub fn transaction_aborted(&self) {
        self.aborted.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes how full the commit metadata of the fullest partition is, 0 to 1 (contract C3).
    pub fn set_metadata_fill(&self, fill: f64) {
        self.metadata_fill.store((fill.clamp(0.0, 1.0) * 1000.0) as u64, Ordering::Relaxed);
    }

    /// Transactions committed.
    pub fn transactions_committed(&self) -> u64 {
        self.committed.load(Ordering::Relaxed)
    }

    /// Transactions given up.
    pub fn transactions_aborted(&self) -> u64 {
        self.aborted.load(Ordering::Relaxed)
    }

    /// How full the commit metadata of the fullest partition is, 0 to 1.
    pub fn metadata_fill(&self) -> f64 {
        self.metadata_fill.load(Ordering::Relaxed) as f64 / 1000.0
    }
}
