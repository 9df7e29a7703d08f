//! Which group has which queue: a queue gives each message to one of its consumers, so
//! two groups on one queue would take each other's events.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, LazyLock},
};

use parking_lot::Mutex;
use sandbar_core::SourceError;

use crate::queues::Queue;

type Holders = HashMap<String, (Arc<str>, usize)>;

/// Groups by the URLs of their queues, and how often each is subscribed. Of the process and
/// not of a connection: two connections may lead to one queue.
static HOLDERS: LazyLock<Mutex<Holders>> = LazyLock::new(Mutex::default);

/// That a group has a queue, until this is dropped.
pub(crate) struct Claim {
    url: String,
}

impl Claim {
    /// Claims `queue` for `group`, which may have it already.
    ///
    /// # Errors
    /// [`SourceError::Fatal`] while another group has it.
    pub fn new(queue: &Queue, group: &Arc<str>) -> Result<Self, SourceError> {
        match HOLDERS.lock().entry(queue.url.clone()) {
            Entry::Occupied(mut held) => {
                let (holder, count) = held.get_mut();
                if holder != group {
                    return Err(SourceError::Fatal(format!(
                        "topic {}: group {holder} is subscribed to it, and on SQS a topic has one \
                         group: {group} would take events from it; give each a queue of its own \
                         (by SNS, for instance), or use a broker that fans out",
                        queue.topic
                    )));
                }
                *count += 1;
            }
            Entry::Vacant(free) => {
                free.insert((group.clone(), 1));
            }
        }
        Ok(Self { url: queue.url.clone() })
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if let Entry::Occupied(mut held) = HOLDERS.lock().entry(std::mem::take(&mut self.url)) {
            held.get_mut().1 -= 1;
            if held.get().1 == 0 {
                held.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_is_one_groups_until_its_last_subscription_ends() {
        let (a, b): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
        let url = "http://groups/t".to_owned();
        let queue = Queue { topic: "t".into(), name: "t".into(), url, size_max: 1 };
        let first = Claim::new(&queue, &a).unwrap();
        let second = Claim::new(&queue, &a).unwrap();
        drop(first);
        let error = Claim::new(&queue, &b).map(drop).unwrap_err().to_string();
        assert!(error.starts_with("topic t: group a is subscribed"), "{error}");
        drop(second);
        assert!(Claim::new(&queue, &b).is_ok());
    }
}
