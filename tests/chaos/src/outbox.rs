//! A producer for brokers whose clients neither queue nor repeat: events wait here, in order,
//! until the broker has acknowledged them.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result};
use async_trait::async_trait;
use tokio::{
    sync::{mpsc, watch},
    time::{sleep, timeout},
};
use tokio_util::task::AbortOnDropHandle;

use crate::broker::Sender;

/// Events that wait at the most: an outage of a minute.
const WAITING: usize = 20_000;
/// Longest time for an acknowledgement; then the attempt is repeated.
const ACKNOWLEDGED: Duration = Duration::from_secs(10);
/// Pause before that.
const AGAIN: Duration = Duration::from_millis(200);
/// What is sent is acknowledged within this, or the broker is not coming back.
const FLUSH: Duration = Duration::from_secs(180);

/// An event to send.
#[derive(Debug)]
pub struct Event {
    /// Different for each event of a run.
    pub id: u64,
    pub key: u32,
    pub payload: String,
}

/// How one broker is written to.
#[async_trait]
pub trait Publish: Send + 'static {
    /// Events that are taken at once, each of another key.
    const AT_ONCE: usize = 1;

    /// Writes all of `events`, and returns when all are acknowledged. Where that fails or takes
    /// too long all of them are given again.
    async fn publish(&mut self, events: &[Event]) -> Result<()>;
}

/// The queue of one topic.
pub struct Outbox {
    queue: mpsc::Sender<Event>,
    queued: AtomicU64,
    acknowledged: watch::Receiver<u64>,
    _task: AbortOnDropHandle<()>,
}

impl Outbox {
    pub fn new(publish: impl Publish) -> Arc<Self> {
        let (queue, events) = mpsc::channel(WAITING);
        let (done, acknowledged) = watch::channel(0);
        let task = AbortOnDropHandle::new(tokio::spawn(deliver(publish, events, done)));
        Arc::new(Self { queue, queued: AtomicU64::new(0), acknowledged, _task: task })
    }
}

#[async_trait]
impl Sender for Outbox {
    async fn send(&self, key: u32, payload: String) -> Result<()> {
        let id = self.queued.fetch_add(1, Ordering::Relaxed);
        self.queue.send(Event { id, key, payload }).await.context("the producer has ended")
    }

    async fn flush(&self) -> Result<()> {
        let queued = self.queued.load(Ordering::Relaxed);
        let mut acknowledged = self.acknowledged.clone();
        let all = acknowledged.wait_for(|done| *done >= queued);
        let all = timeout(FLUSH, all).await;
        all.context("not everything that was sent is acknowledged")??;
        Ok(())
    }
}

async fn deliver<P: Publish>(
    mut publish: P,
    mut events: mpsc::Receiver<Event>,
    done: watch::Sender<u64>,
) {
    let mut next = None;
    loop {
        let Some(first) = (match next.take() {
            Some(event) => Some(event),
            None => events.recv().await,
        }) else {
            return;
        };
        let mut keys = HashSet::from([first.key]);
        let mut batch = vec![first];
        while batch.len() < P::AT_ONCE {
            match events.try_recv() {
                Ok(event) if keys.insert(event.key) => batch.push(event),
                Ok(event) => {
                    next = Some(event);
                    break;
                }
                Err(_) => break,
            }
        }
        // the broker is away, or said nothing: an event that is repeated has the same id
        while !matches!(timeout(ACKNOWLEDGED, publish.publish(&batch)).await, Ok(Ok(()))) {
            sleep(AGAIN).await;
        }
        done.send_modify(|done| *done += batch.len() as u64);
    }
}

#[cfg(test)]
mod tests {
    use anyhow::ensure;
    use parking_lot::Mutex;

    use super::*;

    /// Fails every third call, and once after it has taken what it was given.
    struct Shaky {
        calls: u32,
        taken: Arc<Mutex<Vec<(u64, u32)>>>,
    }

    #[async_trait]
    impl Publish for Shaky {
        const AT_ONCE: usize = 10;

        async fn publish(&mut self, events: &[Event]) -> Result<()> {
            self.calls += 1;
            ensure!(!self.calls.is_multiple_of(3), "away");
            self.taken.lock().extend(events.iter().map(|event| (event.id, event.key)));
            ensure!(self.calls != 2, "no answer");
            Ok(())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn all_arrive_in_the_order_of_their_keys_and_none_of_a_key_with_another() {
        let taken = Arc::new(Mutex::default());
        let outbox = Outbox::new(Shaky { calls: 0, taken: taken.clone() });
        for n in 0..100 {
            outbox.send(n % 7, String::new()).await.unwrap();
        }
        outbox.flush().await.unwrap();
        let mut taken = taken.lock().clone();
        assert!(taken.len() > 100, "what was not answered is repeated");
        taken.sort_by_key(|(_, key)| *key);
        taken.dedup();
        assert!(taken.chunk_by(|a, b| a.1 == b.1).all(|of_key| of_key.is_sorted()));
        let ids: HashSet<_> = taken.iter().map(|(id, _)| *id).collect();
        assert_eq!(ids, (0..100).collect());
    }
}
