//! Topics that were found to exist, so that each is looked for once.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use parking_lot::RwLock;
use sandbar_core::{PublishError, SourceError};

use crate::{admin::Admin, creation::Kept};

/// Topics that were seen. Asking first tells "no such topic" from "no broker", and
/// creates topics as configured instead of as the broker would.
pub(crate) struct KnownTopics {
    admin: Arc<Admin>,
    seen: RwLock<HashSet<Arc<str>>>,
}

impl KnownTopics {
    pub fn new(admin: Arc<Admin>) -> Self {
        Self { admin, seen: RwLock::default() }
    }

    /// Those of `topics` that cannot be written to, and why.
    pub async fn refused(
        &self,
        topics: impl Iterator<Item = &Arc<str>>,
    ) -> HashMap<Arc<str>, PublishError> {
        let new: HashSet<Arc<str>> = {
            let seen = self.seen.read();
            topics.filter(|t| !seen.contains(*t)).cloned().collect()
        };
        let mut refused = HashMap::new();
        for topic in new {
            match self.admin.ensure(&[topic.to_string()], Kept::AsConfigured).await {
                Ok(()) => {
                    self.seen.write().insert(topic);
                }
                Err(SourceError::Unavailable(m)) => {
                    refused.insert(topic, PublishError::Unavailable(m));
                }
                Err(e) => {
                    refused.insert(topic, PublishError::Rejected(e.to_string()));
                }
            }
        }
        refused
    }

    /// `topic` is gone: the next attempt looks again, and says which.
    pub fn forget(&self, topic: &str) {
        self.seen.write().remove(topic);
    }
}
