//! Counters of a log.

use prometheus_client::{metrics::counter::Counter, registry::Registry};

/// Counters of a log since it was opened.
#[derive(Debug, Clone, Default)]
pub struct LogStats {
    /// Fsynced commits.
    pub commits: Counter,
    /// Records appended: published, outputs and dead letters.
    pub records: Counter,
    /// Bytes of batches appended.
    pub bytes: Counter,
    /// Commits that failed, such as on a full disk.
    pub failed_commits: Counter,
    /// Times that the storage was opened again after a fault.
    pub reopened: Counter,
    /// Events deleted by retention.
    pub expired: Counter,
    /// Events deleted by retention that a group had not finished: lost to that group.
    pub expired_unread: Counter,
    /// Cursors that retention moved forward because their events were deleted.
    pub cursors_moved: Counter,
}

impl LogStats {
    /// Registers the counters under the prefix `sandbar_log`.
    pub fn register(&self, registry: &mut Registry) {
        let log = registry.sub_registry_with_prefix("sandbar_log");
        let mut add = |name: &str, help: &str, counter: &Counter| {
            log.register(name, help, counter.clone());
        };
        add("commits", "Fsynced commits", &self.commits);
        add("records", "Records appended", &self.records);
        add("bytes", "Bytes of batches appended", &self.bytes);
        add("failed_commits", "Commits that failed", &self.failed_commits);
        add("reopened", "Times the storage was opened again after a fault", &self.reopened);
        add("expired", "Events deleted by retention", &self.expired);
        add(
            "expired_unread",
            "Events deleted by retention before a group finished them",
            &self.expired_unread,
        );
        add("cursors_moved", "Cursors moved forward by retention", &self.cursors_moved);
    }
}
