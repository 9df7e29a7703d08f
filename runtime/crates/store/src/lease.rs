//! At most one subscription per group: two would share one cursor and undo each
//! other's progress.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use parking_lot::Mutex;

/// The groups that have a subscription.
#[derive(Debug, Default)]
pub(crate) struct Leases(Mutex<HashSet<Arc<str>>>);

impl Leases {
    pub(crate) fn acquire(self: &Arc<Self>, group: &str) -> Option<LeaseGuard> {
        let group: Arc<str> = group.into();
        if !self.0.lock().insert(Arc::clone(&group)) {
            return None;
        }
        let lease = Arc::new(Lease { group, fenced: AtomicBool::new(false) });
        Some(LeaseGuard { lease, leases: Arc::clone(self) })
    }

    pub(crate) fn is_held(&self, group: &str) -> bool {
        self.0.lock().contains(group)
    }
}

/// The right of one subscription to move its group's cursors.
#[derive(Debug)]
pub(crate) struct Lease {
    pub(crate) group: Arc<str>,
    fenced: AtomicBool,
}

impl Lease {
    /// Whether the subscription is closed, so that another one may own the cursors.
    pub(crate) fn is_fenced(&self) -> bool {
        self.fenced.load(Ordering::Acquire)
    }
}

/// Held by the source; the right ends with it.
#[derive(Debug)]
pub(crate) struct LeaseGuard {
    pub(crate) lease: Arc<Lease>,
    leases: Arc<Leases>,
}

impl Drop for LeaseGuard {
    fn drop(&mut self) {
        // fenced before the group is free: no two leases of it are ever valid at once
        self.lease.fenced.store(true, Ordering::Release);
        self.leases.0.lock().remove(&self.lease.group);
    }
}
