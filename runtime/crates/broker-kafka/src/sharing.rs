//! One reader of a partition for all subscriptions of this process that are about equally far.
//!
//! A subscription is a member of a group of its own, with positions of its own, and each member
//! could fetch for itself. Where several hold the same partition, those whose positions are near each
//! other leave the fetching to one consumer that belongs to no group ([`Feed`]): their members stay,
//! with that partition paused. Positions, fences and transactions are the members' as ever; shared
//! is only where the records come from.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
    thread,
    time::Duration,
};

use parking_lot::Mutex;
use rdkafka::{Message, consumer::BaseConsumer};
use sandbar_core::PartitionId;
use tokio::sync::Notify;

use crate::{
    client::Listener,
    config::Settings,
    feed::{Feed, Member},
};

pub(crate) type SharedConsumer = BaseConsumer<Listener>;

/// The partitions that subscriptions of one connection hold.
pub(crate) struct Sharing {
    connection: Arc<str>,
    settings: Arc<Settings>,
    feeds: Mutex<HashMap<PartitionId, Weak<Feed>>>,
    /// There for as long as a feed reads.
    consumer: Mutex<Weak<SharedConsumer>>,
}

impl Sharing {
    pub fn new(connection: Arc<str>, settings: Arc<Settings>) -> Arc<Self> {
        let (feeds, consumer) = (Mutex::default(), Mutex::new(Weak::new()));
        Arc::new(Self { connection, settings, feeds, consumer })
    }

    /// Takes part in `id`; `wake` is told when there may be something to read.
    pub fn join(self: &Arc<Self>, id: &PartitionId, wake: &Arc<Notify>) -> Member {
        let mut feeds = self.feeds.lock();
        let feed = feeds.get(id).and_then(Weak::upgrade).unwrap_or_else(|| {
            feeds.retain(|_, feed| feed.strong_count() > 0);
            let feed = Arc::new(Feed::new(id.clone(), self.clone()));
            feeds.insert(id.clone(), Arc::downgrade(&feed));
            feed
        });
        // with the lock held: a feed without members may be gone the next moment
        Member::new(feed, wake.clone())
    }

    /// Partitions that are read for more than one just now.
    pub fn shared(&self) -> usize {
        let feeds: Vec<_> = self.feeds.lock().values().filter_map(Weak::upgrade).collect();
        feeds.iter().filter(|feed| feed.followers() > 1).count()
    }

    /// The consumer that reads for all.
    pub fn consumer(&self) -> Option<Arc<SharedConsumer>> {
        let mut known = self.consumer.lock();
        if let Some(consumer) = known.upgrade() {
            return Some(consumer);
        }
        let context = Listener::new(self.connection.clone());
        match self.settings.shared().create_with_context(context).map(Arc::new) {
            Ok(consumer) => {
                *known = Arc::downgrade(&consumer);
                Some(consumer)
            }
            Err(e) => {
                let connection = &*self.connection;
                tracing::warn!(connection, "partitions are read for each plugin alone: {e}");
                None
            }
        }
    }

    /// Lets the consumer say what it has to say beside records.
    pub fn serve(&self) {
        let Some(consumer) = self.consumer.lock().upgrade() else { return };
        while let Some(news) = consumer.poll(Duration::ZERO) {
            // trouble of the client: the members have it too, and report it
            let Ok(message) = news else { continue };
            // each partition has a queue of its own: this record would be missing there
            let id = PartitionId {
                topic: message.topic().into(),
                partition: u32::try_from(message.partition()).unwrap_or_default(),
            };
            let feed = self.feeds.lock().get(&id).and_then(Weak::upgrade);
            if let Some(feed) = feed {
                feed.fail("a record came by the wrong queue");
            }
        }
        let_go(consumer);
    }
}

/// Drops a reference to the consumer. The last one closes it, which waits for its threads.
pub(crate) fn let_go(consumer: Arc<SharedConsumer>) {
    if let Some(consumer) = Arc::into_inner(consumer) {
        thread::spawn(move || drop(consumer));
    }
}
