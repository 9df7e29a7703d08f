//! A consumer of one queue: deliveries, their settlement, and the fence.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use futures::{FutureExt, StreamExt, future};
use lapin::{
    Channel, Consumer,
    options::{BasicAckOptions, BasicNackOptions},
};
use sandbar_core::{
    AckToken, Delivery, Disposition, Partition, PartitionId, Settlement, SourceError,
};
use tokio::{sync::oneshot, time::timeout};

use crate::{config::Settings, error, message, topology};

/// A bounded subscription looks this often whether its queue is empty.
const LOOK: Duration = Duration::from_millis(100);

/// One consumer on a channel of its own. Delivery tags are the channel's, so what was
/// handed out by an earlier one can never settle through a later one.
pub(crate) struct RabbitPartition {
    pub id: PartitionId,
    pub settings: Arc<Settings>,
    pub channel: Channel,
    pub consumer: Consumer,
    /// The position of the next delivery. A queue numbers nothing, so we do: from the
    /// microseconds of the time of opening on, so that no number is ever used again.
    pub position: u64,
    /// Delivery tags that are not settled.
    pub open: BTreeSet<u64>,
    /// How many these are, for others to see.
    pub count: Arc<AtomicUsize>,
    /// Ends when the queue is empty.
    pub until_end: bool,
    /// Why nothing can be settled any more.
    pub fenced: Option<String>,
    /// Told when that happens.
    pub lost: Option<oneshot::Sender<()>>,
}

impl RabbitPartition {
    fn check(&self) -> Result<(), SourceError> {
        match &self.fenced {
            None => Ok(()),
            Some(reason) => Err(SourceError::Fenced(format!(
                "{}: {reason}; what was not settled is delivered again",
                self.id
            ))),
        }
    }

    /// Ends the assignment. The broker takes back all that is not settled.
    fn fence(&mut self, reason: String) -> SourceError {
        let reason = self.fenced.get_or_insert(reason).clone();
        self.open.clear();
        self.count.store(0, Ordering::Relaxed);
        if let Some(lost) = self.lost.take() {
            // the source may be closing: then nobody opens it again
            let _ = lost.send(());
        }
        SourceError::Fenced(format!(
            "{}: {reason}; what was not settled is delivered again",
            self.id
        ))
    }

    fn admit(&mut self, delivery: lapin::message::Delivery) -> Delivery {
        let (tag, position) = (delivery.delivery_tag, self.position);
        self.position += 1;
        self.open.insert(tag);
        self.count.store(self.open.len(), Ordering::Relaxed);
        let redeliveries = message::redeliveries(&delivery);
        let event = message::event(delivery, &self.id.topic, position, &self.settings.config);
        Delivery { event, token: AckToken(tag), redeliveries }
    }

    fn arrived(
        &mut self,
        next: Option<lapin::Result<lapin::message::Delivery>>,
    ) -> Result<Delivery, SourceError> {
        match next {
            Some(Ok(delivery)) => Ok(self.admit(delivery)),
            Some(Err(e)) => Err(self.fence(error::words(&e))),
            None if self.channel.status().connected() => {
                Err(self.fence("the broker cancelled the consumer: its queue is gone".into()))
            }
            None => Err(self.fence("the channel was closed".into())),
        }
    }

    /// The next delivery; `None` at the end of a subscription that has one.
    async fn first(&mut self) -> Result<Option<Delivery>, SourceError> {
        let mut empty = false;
        loop {
            let next = match self.until_end {
                false => self.consumer.next().await,
                true => match timeout(LOOK, self.consumer.next()).await {
                    Ok(next) => next,
                    // twice: what is on its way to us is not counted as ready any more
                    Err(_) if self.is_empty().await? && empty => return Ok(None),
                    Err(_) => {
                        empty = !empty;
                        continue;
                    }
                },
            };
            return self.arrived(next).map(Some);
        }
    }

    async fn is_empty(&mut self) -> Result<bool, SourceError> {
        let ready = topology::passive(&self.channel, &self.consumer.queue()).await;
        ready.map(|ready| ready == 0).map_err(|e| self.fence(error::words(&e)))
    }

    /// Acknowledges `done`, in as few words as the order of the tags allows.
    async fn acknowledge(&mut self, mut done: BTreeSet<u64>) -> lapin::Result<()> {
        for tag in &done {
            self.open.remove(tag);
        }
        // every tag up to here is settled: one word for them all
        let before_open = match self.open.first() {
            Some(first) => done.range(..first).next_back().copied(),
            None => done.last().copied(),
        };
        if let Some(up_to) = before_open {
            self.channel.basic_ack(up_to, BasicAckOptions { multiple: true }).await?;
            done = done.split_off(&(up_to + 1));
        }
        let single = BasicAckOptions { multiple: false };
        future::try_join_all(done.into_iter().map(|t| self.channel.basic_ack(t, single))).await?;
        Ok(())
    }
}

#[async_trait]
impl Partition for RabbitPartition {
    fn id(&self) -> &PartitionId {
        &self.id
    }

    async fn recv(&mut self, max: usize) -> Result<Vec<Delivery>, SourceError> {
        self.check()?;
        let Some(first) = self.first().await? else { return Ok(Vec::new()) };
        // nothing is awaited from here on: no loss by cancelling
        let mut ready = vec![first];
        while ready.len() < max {
            match self.consumer.next().now_or_never() {
                Some(next) => match self.arrived(next) {
                    Ok(delivery) => ready.push(delivery),
                    // what was received before belongs to the broker again
                    Err(lost) => return Err(lost),
                },
                None => break,
            }
        }
        Ok(ready)
    }

    async fn settle(&mut self, settlements: &[Settlement]) -> Result<(), SourceError> {
        self.check()?;
        // all or nothing: look before the first one counts
        Settlement::without_effects(settlements, &self.id)?;
        Settlement::without_state(settlements, &self.id)?;
        let (mut done, mut released) = (BTreeSet::new(), BTreeSet::new());
        let is_ordered = self.settings.config.exclusive;
        for Settlement { token: AckToken(tag), disposition } in settlements {
            if !self.open.contains(tag) {
                // to name a tag that is not open would close the channel
                tracing::warn!(partition = %self.id, tag, "settled twice, or never delivered");
                continue;
            }
            match disposition {
                Disposition::Done { .. } => done.insert(*tag),
                // the broker would put it behind those that are not given back yet: it gets them
                // all at once, in their order, when the channel is closed
                Disposition::Release { .. } if is_ordered => continue,
                Disposition::Release { .. } => released.insert(*tag),
            };
        }
        done.retain(|tag| !released.contains(tag));
        let requeue = BasicNackOptions { multiple: false, requeue: true };
        let sent = async {
            self.acknowledge(done).await?;
            for tag in released {
                self.channel.basic_nack(tag, requeue).await?;
                self.open.remove(&tag);
            }
            Ok(())
        };
        let sent: lapin::Result<()> = sent.await;
        self.count.store(self.open.len(), Ordering::Relaxed);
        sent.map_err(|e| self.fence(error::words(&e)))
    }
}
