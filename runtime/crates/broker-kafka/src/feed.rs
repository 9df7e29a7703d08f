//! A partition that is read once for several subscriptions.
//!
//! Its records are kept for a while in a [`Window`], from which each follower takes its own. Whoever has
//! taken the newest fetches the next, so the fastest sets the pace; who falls out of the window
//! reads by itself until it has caught up.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::{Mutex, MutexGuard};
use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{Consumer, base_consumer::PartitionQueue},
    error::KafkaResult,
};
use sandbar_core::{Event, PartitionId};
use tokio::sync::Notify;

use crate::{
    admin::native,
    client::Listener,
    error, record,
    sharing::{SharedConsumer, Sharing, let_go},
    window::Window,
};

/// How long each reads for itself after something went wrong.
const REST: Duration = Duration::from_secs(10);

/// The followers to be woken. A lock of its own: librdkafka's threads wait for it.
type Wakers = Arc<Mutex<Vec<(u64, Arc<Notify>)>>>;

pub(crate) struct Feed {
    id: PartitionId,
    sharing: Arc<Sharing>,
    /// Subscriptions that hold the partition.
    members: AtomicUsize,
    wakers: Wakers,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    reading: Option<Reading>,
    /// Number of this reading, or of the next.
    number: u64,
    /// Number of the next follower.
    follower: u64,
    rest_until: Option<Instant>,
}

struct Reading {
    queue: PartitionQueue<Listener>,
    consumer: Arc<SharedConsumer>,
    window: Window,
    followers: usize,
}

impl Feed {
    pub fn new(id: PartitionId, sharing: Arc<Sharing>) -> Self {
        let (wakers, state) = (Wakers::default(), Mutex::default());
        Self { id, sharing, members: AtomicUsize::new(0), wakers, state }
    }

    pub fn followers(&self) -> usize {
        self.state.lock().reading.as_ref().map_or(0, |reading| reading.followers)
    }

    /// Ends what is read now: its followers go on by themselves.
    pub fn fail(&self, reason: &str) {
        self.failed(&mut self.state.lock(), reason);
    }

    fn failed(&self, state: &mut State, reason: &str) {
        tracing::info!(partition = %self.id, reason, "no longer read once for several plugins");
        state.rest_until = Some(Instant::now() + REST);
        self.end(state);
    }

    fn end(&self, state: &mut State) {
        state.number += 1;
        let Some(Reading { queue, consumer, .. }) = state.reading.take() else { return };
        drop(queue);
        let mut list = TopicPartitionList::with_capacity(1);
        list.add_partition(&self.id.topic, native(self.id.partition));
        if let Err(e) = consumer.incremental_unassign(&list) {
            tracing::debug!(partition = %self.id, "not unassigned: {e}");
        }
        let_go(consumer);
    }

    /// `None` where there is no consumer for it, which has been said.
    fn begin(&self, at: u64) -> KafkaResult<Option<Reading>> {
        let Some(consumer) = self.sharing.consumer() else { return Ok(None) };
        let (topic, partition) = (&*self.id.topic, native(self.id.partition));
        let mut list = TopicPartitionList::with_capacity(1);
        let offset = Offset::Offset(i64::try_from(at).unwrap_or(i64::MAX));
        list.add_partition_offset(topic, partition, offset)?;
        // before the assignment takes effect: later, records could go to the common queue
        let Some(mut queue) = consumer.split_partition_queue(topic, partition) else {
            return Ok(None);
        };
        let wakers = self.wakers.clone();
        queue.set_nonempty_callback(move || {
            wakers.lock().iter().for_each(|(_, wake)| wake.notify_one());
        });
        consumer.incremental_assign(&list)?;
        Ok(Some(Reading { queue, consumer, window: Window::new(at), followers: 0 }))
    }
}

/// A subscription's part in a partition, for as long as it holds it.
pub(crate) struct Member {
    feed: Arc<Feed>,
    wake: Arc<Notify>,
    follows: Option<Follows>,
}

struct Follows {
    reading: u64,
    follower: u64,
}

impl Member {
    pub fn new(feed: Arc<Feed>, wake: Arc<Notify>) -> Self {
        feed.members.fetch_add(1, Ordering::Relaxed);
        Self { feed, wake, follows: None }
    }

    /// Whether records come from here.
    pub fn follows(&self) -> bool {
        self.follows.is_some()
    }

    /// Has the records from `next` on come from here, if somebody else holds the partition too and
    /// this is where it is read, or it is not read yet.
    pub fn follow(&mut self, next: u64) -> bool {
        if self.is_alone() {
            return false;
        }
        let mut state = self.feed.state.lock();
        if state.rest_until.is_some_and(|until| Instant::now() < until) {
            return false;
        }
        if state.reading.is_none() {
            match self.feed.begin(next) {
                Ok(Some(reading)) => state.reading = Some(reading),
                Ok(None) => state.rest_until = Some(Instant::now() + REST),
                Err(e) => self.feed.failed(&mut state, &error::describe(&e)),
            }
        }
        let State { reading, number, follower, .. } = &mut *state;
        let Some(reading) = reading.as_mut().filter(|r| r.window.is_near(next)) else {
            return false;
        };
        reading.followers += 1;
        *follower += 1;
        self.follows = Some(Follows { reading: *number, follower: *follower });
        self.feed.wakers.lock().push((*follower, self.wake.clone()));
        self.wake.notify_one();
        true
    }

    /// Whether the records from `next` on must come from elsewhere: they are gone from here, or nobody
    /// else holds the partition any more.
    pub fn must_leave(&self, next: u64) -> bool {
        let Some(follows) = &self.follows else { return false };
        let state = self.feed.state.lock();
        let reading = state.reading.as_ref().filter(|_| state.number == follows.reading);
        self.is_alone() || reading.is_none_or(|reading| !reading.window.covers(next))
    }

    pub fn leave(&mut self) {
        let Some(follows) = self.follows.take() else { return };
        self.feed.wakers.lock().retain(|(follower, _)| *follower != follows.follower);
        let mut state = self.feed.state.lock();
        if state.number != follows.reading {
            return;
        }
        let Some(reading) = &mut state.reading else { return };
        reading.followers -= 1;
        if reading.followers == 0 {
            self.feed.end(&mut state);
        }
    }

    /// What there is to read; `None` where that is elsewhere.
    pub fn open(&self) -> Option<Open<'_>> {
        let follows = self.follows.as_ref()?;
        let state = self.feed.state.lock();
        (state.number == follows.reading).then_some(Open { feed: &self.feed, state })
    }

    fn is_alone(&self) -> bool {
        self.feed.members.load(Ordering::Relaxed) < 2
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.leave();
        self.feed.members.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A feed, for one follower at a time.
pub(crate) struct Open<'a> {
    feed: &'a Feed,
    state: MutexGuard<'a, State>,
}

impl Open<'_> {
    /// The first record that is not before `next`; `None` where none is ready, and where what follows
    /// is not here any more.
    pub fn next(&mut self, next: u64) -> Option<Event> {
        let failure = loop {
            let reading = self.state.reading.as_mut()?;
            if !reading.window.covers(next) {
                return None;
            }
            if let Some(record) = reading.window.from(next) {
                return Some(record.clone());
            }
            match reading.queue.poll(Duration::ZERO)? {
                Ok(message) => {
                    let record = record::event(&message, &self.feed.id.topic);
                    if !reading.window.push(record) {
                        break "positions went back".to_owned();
                    }
                }
                Err(e) => break error::describe(&e),
            }
        };
        self.feed.failed(&mut self.state, &failure);
        None
    }
}
