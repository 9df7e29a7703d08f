//! Counters of a log.

use prometheus_client::metrics::counter::Counter;

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
    /// Events deleted because they were asked to be.
    pub trimmed: Counter,
    /// Deleted events that a group had not finished: lost to that group.
    pub expired_unread: Counter,
    /// Cursors moved forward because their events were deleted.
    pub cursors_moved: Counter,
    /// Events of compacted topics removed because a newer one has their key.
    pub superseded: Counter,
    /// Marks of handled events removed because they had expired.
    pub marks_expired: Counter,
    /// Keys of state removed because they had expired.
    pub state_expired: Counter,
}

impl LogStats {
    /// Every counter with its name, to stand behind `sandbar_log_`, and its meaning.
    pub fn counters(&self) -> [(&'static str, &'static str, &Counter); 12] {
        [
            ("commits", "Fsynced commits", &self.commits),
            ("records", "Records appended", &self.records),
            ("bytes", "Bytes of batches appended", &self.bytes),
            ("failed_commits", "Commits that failed, such as on a full disk", &self.failed_commits),
            ("reopened", "Times the storage was opened again after a fault", &self.reopened),
            ("expired", "Events deleted by retention", &self.expired),
            ("trimmed", "Events deleted on request", &self.trimmed),
            ("expired_unread", "Events deleted before a group finished them", &self.expired_unread),
            (
                "cursors_moved",
                "Cursors moved forward because their events were deleted",
                &self.cursors_moved,
            ),
            (
                "superseded",
                "Events of compacted topics removed for a newer one of their key",
                &self.superseded,
            ),
            ("marks_expired", "Marks of handled events that have expired", &self.marks_expired),
            ("state_expired", "Keys of plugins' state that have expired", &self.state_expired),
        ]
    }
}
