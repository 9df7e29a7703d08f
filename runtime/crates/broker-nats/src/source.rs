//! One subscription: it finds its topics and reads each as a partition.

use std::{collections::HashSet, sync::Arc, time::Duration};

use async_trait::async_trait;
use sandbar_core::{
    DrainGuard, Guarantees, Source, SourceError, SourceEvent, StartAt, SubscriptionSpec, reserved,
};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::{
    partition::{NatsPartition, Slot},
    pull::{Ended, Puller, Reading},
    streams::{Streams, Topic, bounds},
    subject::CorePartition,
    topics,
};

/// Pause between looks for topics.
const LOOK: Duration = Duration::from_secs(2);
/// Longest time that leaving may take.
const CLOSE: Duration = Duration::from_secs(20);
/// Oldest server that knows one active reader among several.
const PINNING: (i64, i64, i64) = (2, 11, 0);

/// What a source of this connection promises.
pub(crate) fn guarantees(exclusive: bool) -> Guarantees {
    Guarantees {
        ordered: exclusive,
        atomic_effects: false,
        atomic_marks: false,
        atomic_state: false,
        tombstones: true,
        // a delayed event would be overtaken
        delayed_release: !exclusive,
        spread_over_processes: !exclusive,
        fan_out: true,
        retained: true,
        redelivery_counted: true,
    }
}

pub(crate) type Events = mpsc::Sender<Result<SourceEvent, SourceError>>;

/// The pipeline's side of a subscription.
pub(crate) struct NatsSource {
    guarantees: Guarantees,
    events: mpsc::Receiver<Result<SourceEvent, SourceError>>,
    stop: watch::Sender<bool>,
    ended: oneshot::Receiver<Result<(), SourceError>>,
}

impl NatsSource {
    pub fn open(streams: &Arc<Streams>, spec: SubscriptionSpec) -> Result<Self, SourceError> {
        let name = &streams.link.name;
        let fatal = |what: String| Err(SourceError::Fatal(format!("connection {name}: {what}")));
        if spec.topics.is_empty() {
            return fatal(format!("group {} subscribes to no topic", spec.group));
        }
        if spec.exactly_once {
            return fatal(format!(
                "group {} asks for exactly-once, and JetStream cannot write outputs together with \
                 an acknowledgement: use at-least-once, or Kafka or the embedded log",
                spec.group
            ));
        }
        for topic in spec.topics.iter().filter(|topic| !topics::is_glob(topic)) {
            topics::valid(topic)?;
        }
        let (sender, events) = mpsc::channel(64);
        let (stop, stopping) = watch::channel(false);
        let (end, ended) = oneshot::channel();
        let guarantees = guarantees(streams.link.config.exclusive);
        let subscription = Arc::new(Subscription {
            streams: streams.clone(),
            spec,
            events: sender,
            stop: stopping,
        });
        tokio::spawn(async move {
            // the source may be gone: then nobody asks how it ended
            let _ = end.send(subscription.run().await);
        });
        Ok(Self { guarantees, events, stop, ended })
    }
}

#[async_trait]
impl Source for NatsSource {
    fn guarantees(&self) -> Guarantees {
        self.guarantees
    }

    async fn next(&mut self) -> Result<SourceEvent, SourceError> {
        let ended = || Err(SourceError::Fatal("the subscription has ended".into()));
        self.events.recv().await.unwrap_or_else(ended)
    }

    async fn close(mut self: Box<Self>) -> Result<(), SourceError> {
        // dropping the source says this too
        let _ = self.stop.send(true);
        self.events.close();
        let unclear = |what: &str| {
            SourceError::Unavailable(format!(
                "{what}: what was settled last may be delivered again"
            ))
        };
        match timeout(CLOSE, &mut self.ended).await {
            Ok(Ok(Ok(()))) => Ok(()),
            Ok(Ok(Err(e))) => Err(unclear(&e.to_string())),
            Ok(Err(_)) => Err(unclear("the subscription ended without a word")),
            Err(_) => Err(unclear("the group could not be left in time")),
        }
    }
}

/// What a subscription's tasks share.
pub(crate) struct Subscription {
    pub streams: Arc<Streams>,
    pub spec: SubscriptionSpec,
    pub events: Events,
    pub stop: watch::Receiver<bool>,
}

/// What a subscription reads.
#[derive(Default)]
struct Readers {
    topics: HashSet<Arc<str>>,
    tasks: JoinSet<Left>,
    /// Whether all topics that were there at first are read.
    begun: bool,
}

/// A topic that is no longer read.
struct Left {
    topic: Arc<str>,
    /// Whether the pipeline let go of it, and wants no more.
    done: bool,
    /// Whether the server has heard all that was settled.
    result: Result<(), SourceError>,
}

impl Subscription {
    /// Looks for topics until it is stopped; then waits for all that is read.
    async fn run(self: Arc<Self>) -> Result<(), SourceError> {
        let mut readers = Readers::default();
        let mut stop = self.stop.clone();
        let mut reported = None;
        let mut result = Ok(());
        while !stopped(&stop) {
            let trouble = match self.look(&mut readers).await {
                Ok(missing) => missing,
                Err(SourceError::Unavailable(why)) => Some(why),
                Err(fatal) => {
                    let _ = self.events.send(Err(fatal)).await;
                    break;
                }
            };
            if trouble != reported {
                if let Some(why) = trouble.clone() {
                    let _ = self.events.send(Err(SourceError::Unavailable(why))).await;
                }
                reported = trouble;
            }
            tokio::select! {
                _ = stop.changed() => {}
                Some(Ok(left)) = readers.tasks.join_next(), if !readers.tasks.is_empty() => {
                    if !left.done {
                        // read again when it is found again
                        readers.topics.remove(&left.topic);
                    }
                    result = result.and(left.result);
                }
                () = sleep(LOOK) => {}
            }
        }
        while let Some(ended) = readers.tasks.join_next().await {
            if let Ok(left) = ended {
                result = result.and(left.result);
            }
        }
        result
    }

    /// Begins to read the topics that are there and not yet read. Says which are not there.
    async fn look(self: &Arc<Self>, readers: &mut Readers) -> Result<Option<String>, SourceError> {
        let mut missing = None;
        let mut globs = Vec::new();
        let link = &self.streams.link;
        // reported also while there is nothing to ask for
        link.client().await?;
        for name in &self.spec.topics {
            let core =
                link.config.at_most_once && !self.spec.until_end && !reserved::is_reserved(name);
            if readers.topics.contains(name.as_str()) {
                continue;
            } else if core {
                let partition = CorePartition::open(link, &self.spec.group, name).await?;
                let _ = self.events.send(Ok(SourceEvent::Assigned(Box::new(partition)))).await;
                readers.topics.insert(name.as_str().into());
            } else if topics::is_glob(name) {
                globs.push(name);
            } else if link.config.create_topics {
                self.begin(self.streams.ensure(name, false).await?, readers).await?;
            } else if let Some((topic, _)) = self.streams.find(name).await? {
                self.begin(topic, readers).await?;
            } else {
                missing = Some(format!("connection {}: topic {name} does not exist", link.name));
            }
        }
        if !globs.is_empty() {
            for topic in self.streams.topics().await? {
                let wanted = globs.iter().any(|glob| topics::matches(glob, &topic.name));
                if wanted && !readers.topics.contains(&topic.name) {
                    self.begin(topic, readers).await?;
                }
            }
        }
        readers.begun = true;
        Ok(missing)
    }

    async fn begin(
        self: &Arc<Self>,
        topic: Topic,
        readers: &mut Readers,
    ) -> Result<(), SourceError> {
        let link = &self.streams.link;
        let (major, minor, patch) = PINNING;
        if link.config.exclusive && !link.client().await?.is_server_compatible(major, minor, patch)
        {
            return Err(SourceError::Fatal(format!(
                "connection {}: `exclusive` needs a NATS server {major}.{minor} or newer: update \
                 it, or set `exclusive = false`, which gives up the order of events",
                link.name
            )));
        }
        // all events of a topic that appears later are later than the subscription
        let start = if readers.begun { StartAt::Earliest } else { self.spec.start };
        let info = self.streams.join(&self.spec.group, &topic, start).await?;
        let until = match self.spec.until_end {
            true => Some(bounds(&self.streams.existing(&topic.name).await?.1).1),
            false => None,
        };
        let name = topic.name.clone();
        let reads = Reading {
            consumer: info.name.clone(),
            prefetch: self.spec.prefetch.clamp(1, 100_000),
            until,
            topic,
        };
        let slot = Arc::new(Slot::new(reads.topic.partition(), link.clone()));
        let puller = Puller::open(self.streams.clone(), slot.clone(), reads, &info).await?;
        tracing::info!(partition = %slot.id, group = self.spec.group, "partition begins");
        let assigned = SourceEvent::Assigned(Box::new(NatsPartition(slot.clone())));
        if self.events.send(Ok(assigned)).await.is_err() {
            return Ok(());
        }
        readers.topics.insert(name.clone());
        let subscription = self.clone();
        readers.tasks.spawn(async move { subscription.serve(name, slot, puller).await });
        Ok(())
    }

    /// Reads one topic until the pipeline lets go of it.
    async fn serve(&self, topic: Arc<str>, slot: Arc<Slot>, mut puller: Puller) -> Left {
        let client = puller.client();
        let mut stop = self.stop.clone();
        let ended = tokio::select! {
            ended = self.work(&slot, &mut puller, &mut stop) => ended,
            () = slot.stay_alive(&client) => {
                tracing::warn!(partition = %slot.id, "the server does not answer: partition lost");
                slot.fence("the server has not answered, and may give to others what is open");
                Ended::Lapsed
            }
        };
        let result = puller.leave(matches!(ended, Ended::Lapsed)).await;
        slot.fence("it was given up");
        tokio::select! {
            () = slot.dropped() => {}
            _ = stop.wait_for(|stop| *stop) => {}
        }
        Left { topic, done: matches!(ended, Ended::Done), result }
    }

    async fn work(
        &self,
        slot: &Slot,
        puller: &mut Puller,
        stop: &mut watch::Receiver<bool>,
    ) -> Ended {
        let ended = puller.run(stop).await;
        match &ended {
            Ended::Done | Ended::Lapsed => {}
            Ended::Gone(why) => {
                tracing::warn!(partition = %slot.id, why, "partition lost");
                slot.fence(why);
            }
            Ended::Taken => {
                tracing::warn!(partition = %slot.id, "no longer the active reader");
                // the next reader waits for what is under way here
                puller.give_back(false).await;
                let (guard, drained) = DrainGuard::new(self.spec.drain_timeout);
                let deadline = guard.deadline();
                let id = slot.id.clone();
                let revoking = SourceEvent::Revoking { id, drained: guard };
                if self.events.send(Ok(revoking)).await.is_ok() {
                    // dropped either way: then it is drained
                    let _ = tokio::time::timeout_at(deadline, drained).await;
                }
                slot.fence("this process is no longer its active reader");
            }
        }
        ended
    }
}

pub(crate) fn stopped(stop: &watch::Receiver<bool>) -> bool {
    *stop.borrow() || stop.has_changed().is_err()
}
