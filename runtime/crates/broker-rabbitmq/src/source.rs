//! One subscription: a consumer on each of its queues.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use async_trait::async_trait;
use lapin::{
    Channel, Consumer,
    options::{BasicConsumeOptions, BasicQosOptions},
    types::FieldTable,
};
use parking_lot::Mutex;
use sandbar_core::{
    Guarantees, PartitionId, ResumeFrom, Source, SourceError, SourceEvent, SubscriptionSpec,
};
use tokio::{
    select,
    sync::{mpsc, oneshot},
    task::JoinHandle,
};

use crate::{
    config::Settings,
    error,
    link::{self, Backoff, Link},
    message,
    partition::RabbitPartition,
    topology::{Lack, Topology, queue_name},
};

type Change = Result<SourceEvent, SourceError>;

/// What a source promises, by whether one process at a time reads a queue.
pub(crate) fn guarantees(settings: &Settings) -> Guarantees {
    let exclusive = settings.config.exclusive;
    Guarantees {
        ordered: exclusive,
        atomic_effects: false,
        atomic_marks: false,
        atomic_state: false,
        tombstones: true,
        delayed_release: false,
        spread_over_processes: !exclusive,
        fan_out: true,
        retained: false,
        redelivery_counted: true,
    }
}

/// What all subscriptions of a connection share.
pub(crate) struct Shared {
    pub settings: Arc<Settings>,
    pub link: Arc<Link>,
    pub topology: Arc<Topology>,
    /// The queues that are read, or were.
    queues: Mutex<Vec<Arc<Queue>>>,
}

/// A queue and who reads it.
struct Queue {
    group: String,
    name: String,
    id: PartitionId,
    /// Deliveries in our hands.
    open: Arc<AtomicUsize>,
}

impl Shared {
    pub fn new(settings: Arc<Settings>, link: Arc<Link>, topology: Arc<Topology>) -> Arc<Self> {
        Arc::new(Self { settings, link, topology, queues: Mutex::default() })
    }

    /// What waits in the queues of `group`, as the distance between two positions.
    pub async fn cursors(
        &self,
        group: &str,
    ) -> Result<Vec<(PartitionId, ResumeFrom, ResumeFrom)>, SourceError> {
        let queues = self.queues.lock().clone();
        let mut found = Vec::new();
        for queue in queues.iter().filter(|queue| queue.group == group) {
            let Some(ready) = self.topology.ready(&queue.name).await? else { continue };
            let waits = u64::from(ready) + queue.open.load(Ordering::Relaxed) as u64;
            found.push((queue.id.clone(), ResumeFrom(0), ResumeFrom(waits)));
        }
        Ok(found)
    }
}

/// A subscription.
pub(crate) struct RabbitSource {
    guarantees: Guarantees,
    changes: mpsc::Receiver<Change>,
    readers: Vec<JoinHandle<Result<(), SourceError>>>,
}

impl RabbitSource {
    pub fn open(
        shared: &Arc<Shared>,
        connection: &str,
        spec: SubscriptionSpec,
    ) -> Result<Self, SourceError> {
        let fatal =
            |what: String| Err(SourceError::Fatal(format!("connection {connection}: {what}")));
        if spec.exactly_once {
            return fatal(
                "RabbitMQ cannot acknowledge and publish in one step: no exactly-once".into(),
            );
        }
        if spec.topics.is_empty() {
            return fatal(format!("group {} subscribes to no topic", spec.group));
        }
        if let Some(glob) = spec.topics.iter().find(|topic| topic.contains(['*', '?'])) {
            return fatal(format!(
                "`{glob}` is a pattern, and RabbitMQ cannot list exchanges: name the topics, or \
                 name one and bind its queue by patterns of routing keys (`bindings`)"
            ));
        }
        if let Some(long) = spec.topics.iter().find(|t| queue_name(&spec.group, t).len() > 255) {
            let queue = queue_name(&spec.group, long);
            return fatal(format!("the queue's name `{queue}` is longer than 255 bytes"));
        }
        let (sender, changes) = mpsc::channel(16);
        let reader = |topic: &String| {
            let queue = Arc::new(Queue {
                group: spec.group.clone(),
                name: queue_name(&spec.group, topic),
                id: PartitionId { topic: topic.as_str().into(), partition: 0 },
                open: Arc::default(),
            });
            let mut queues = shared.queues.lock();
            queues.retain(|other| other.name != queue.name);
            queues.push(queue.clone());
            let prefetch = u16::try_from(spec.prefetch.max(1)).unwrap_or(u16::MAX);
            let (shared, sender) = (shared.clone(), sender.clone());
            tokio::spawn(
                Reader { shared, queue, prefetch, until_end: spec.until_end, sender }.run(),
            )
        };
        let readers = spec.topics.iter().map(reader).collect();
        Ok(Self { guarantees: guarantees(&shared.settings), changes, readers })
    }
}

#[async_trait]
impl Source for RabbitSource {
    fn guarantees(&self) -> Guarantees {
        self.guarantees
    }

    async fn next(&mut self) -> Change {
        let ended = || Err(SourceError::Fatal("the subscription has ended".into()));
        self.changes.recv().await.unwrap_or_else(ended)
    }

    async fn close(self: Box<Self>) -> Result<(), SourceError> {
        // this is what the readers wait for
        drop(self.changes);
        let mut closed = Ok(());
        for reader in self.readers {
            let one = reader.await.unwrap_or_else(|e| Err(SourceError::Unavailable(e.to_string())));
            closed = closed.and(one);
        }
        closed
    }
}

/// A consumer that was just made.
struct Opened {
    partition: RabbitPartition,
    channel: Channel,
    /// Held until the channel is closed. A consumer that nobody holds is cancelled, and that
    /// alone gives nothing back: the next process would be handed what waits in the queue
    /// before that which this one still has (O1). Closing does both in one step.
    consumer: Consumer,
    /// Told by the partition when it can settle nothing any more, or is gone.
    lost: oneshot::Receiver<()>,
}

/// Keeps a consumer on one queue for as long as its source lives.
struct Reader {
    shared: Arc<Shared>,
    queue: Arc<Queue>,
    prefetch: u16,
    until_end: bool,
    sender: mpsc::Sender<Change>,
}

impl Reader {
    async fn run(self) -> Result<(), SourceError> {
        let sender = self.sender.clone();
        let mut backoff = Backoff::new();
        loop {
            let Opened { partition, channel, consumer, lost } = select! {
                biased;
                () = sender.closed() => return Ok(()),
                opened = self.open() => match opened {
                    Ok(opened) => opened,
                    Err(error @ SourceError::Unavailable(_)) => {
                        // a report that finds no room says what those before it say
                        let _ = sender.try_send(Err(error));
                        select! {
                            () = sender.closed() => return Ok(()),
                            () = backoff.pause() => continue,
                        }
                    }
                    Err(fatal) => {
                        let _ = sender.send(Err(fatal)).await;
                        return Ok(());
                    }
                },
            };
            backoff = Backoff::new();
            if sender.send(Ok(SourceEvent::Assigned(Box::new(partition)))).await.is_err() {
                return link::close(&channel).await;
            }
            let lost = select! {
                biased;
                lost = lost => lost.is_ok(),
                () = sender.closed() => false,
            };
            let closed = link::close(&channel).await;
            drop(consumer);
            self.queue.open.store(0, Ordering::Relaxed);
            if !lost {
                // given back by the pipeline, which asks for nothing more
                sender.closed().await;
                return closed;
            }
        }
    }

    async fn open(&self) -> Result<Opened, SourceError> {
        let Self { shared, queue, .. } = self;
        shared.topology.queue(&queue.name, &queue.id.topic).await.map_err(|lack| match lack {
            // it may appear
            Lack::Missing(what) => SourceError::Unavailable(format!(
                "{what}: declare it, or set `create-topics` to true"
            )),
            Lack::Other(error) => error,
        })?;
        let channel = shared.link.channel().await?;
        let refused = |e| error::request(&format!("read queue {}", queue.name), &e);
        channel.basic_qos(self.prefetch, BasicQosOptions::default()).await.map_err(refused)?;
        let name = queue.name.as_str().into();
        let options = BasicConsumeOptions::default();
        let consumer = channel
            .basic_consume(name, "".into(), options, FieldTable::default())
            .await
            .map_err(refused)?;
        let (tell, lost) = oneshot::channel();
        let partition = RabbitPartition {
            id: queue.id.clone(),
            settings: shared.settings.clone(),
            channel: channel.clone(),
            consumer: consumer.clone(),
            position: message::now_ms().saturating_mul(1000),
            open: BTreeSet::new(),
            count: queue.open.clone(),
            until_end: self.until_end,
            fenced: None,
            lost: Some(tell),
        };
        Ok(Opened { partition, channel, consumer, lost })
    }
}
