//! Where the records of an assigned partition come from: the member's own fetching, or a reader that it
//! has together with others.

use std::{sync::Arc, time::Duration};

use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{Consumer, base_consumer::PartitionQueue},
    error::{KafkaError, KafkaResult},
};
use sandbar_core::{Event, PartitionId};
use tokio::sync::Notify;

use crate::{
    admin::native,
    assignment::{Group, GroupConsumer},
    feed::Member,
    record,
    sharing::Sharing,
};

/// Longest time that a seek may take.
const TIMEOUT: Duration = Duration::from_secs(1);

/// Begins paused.
#[derive(Default)]
pub(crate) struct Intake {
    /// librdkafka's own queue of this partition. It is not emptied unless it is read, and when it is
    /// full only this partition's fetching stops.
    queue: Option<PartitionQueue<Group>>,
    /// Set where the subscription may read together with others.
    member: Option<Member>,
    /// What comes next; not known before the first record where the group had committed nothing.
    next: Option<u64>,
    /// Everything that was there was read. Known only where the subscription comes to an end.
    pub at_end: bool,
}

impl Intake {
    /// `wake` is told when there may be something to read.
    pub fn new(
        id: &PartitionId,
        mut queue: PartitionQueue<Group>,
        sharing: Option<&Arc<Sharing>>,
        wake: &Arc<Notify>,
    ) -> Self {
        let on_records = wake.clone();
        // called on librdkafka's threads with its lock held: do no more than this
        queue.set_nonempty_callback(move || on_records.notify_one());
        let member = sharing.map(|sharing| sharing.join(id, wake));
        Self { queue: Some(queue), member, ..Self::default() }
    }

    /// Begins at what is `committed`, or at `start` where that is nothing.
    pub fn begin(
        &mut self,
        consumer: &GroupConsumer,
        id: &PartitionId,
        committed: Option<u64>,
        start: Offset,
    ) -> KafkaResult<()> {
        self.next = committed;
        let follows = committed.zip(self.member.as_mut()).is_some_and(|(next, m)| m.follow(next));
        let from = committed.and_then(|position| i64::try_from(position).ok());
        if follows { Ok(()) } else { seek(consumer, id, from.map_or(start, Offset::Offset)) }
    }

    /// Hands what is ready to `take`, which says whether it takes more.
    pub fn read(&mut self, id: &PartitionId, mut take: impl FnMut(Event) -> bool) {
        if let Some(member) = self.member.as_ref().filter(|member| member.follows()) {
            let Some((mut open, next)) = member.open().zip(self.next.as_mut()) else { return };
            while let Some(event) = open.next(*next) {
                *next = event.position + 1;
                if !take(event) {
                    return;
                }
            }
            return;
        }
        let Some(queue) = &self.queue else { return };
        loop {
            match queue.poll(Duration::ZERO) {
                Some(Ok(message)) => {
                    let event = record::event(&message, &id.topic);
                    self.at_end = false;
                    self.next = Some(event.position + 1);
                    if !take(event) {
                        return;
                    }
                }
                Some(Err(KafkaError::PartitionEOF(_))) => self.at_end = true,
                // has been reported through the client's error callback
                Some(Err(_)) => {}
                None => return,
            }
        }
    }

    /// Changes the side where that is due. With `true` there may be something to read.
    pub fn arrange(&mut self, consumer: &GroupConsumer, id: &PartitionId) -> KafkaResult<bool> {
        let Some((member, next)) = self.member.as_mut().zip(self.next) else { return Ok(false) };
        if !member.follows() {
            if !member.follow(next) {
                return Ok(false);
            }
            if let Err(e) = pause(consumer, id) {
                member.leave();
                return Err(e);
            }
            // what was fetched ahead: it comes again from the other side
            while self.queue.as_ref().is_some_and(|queue| queue.poll(Duration::ZERO).is_some()) {}
            return Ok(true);
        }
        if member.must_leave(next) {
            seek(consumer, id, Offset::Offset(i64::try_from(next).unwrap_or(i64::MAX)))?;
            member.leave();
            return Ok(true);
        }
        Ok(false)
    }
}

fn pause(consumer: &GroupConsumer, id: &PartitionId) -> KafkaResult<()> {
    let mut list = TopicPartitionList::with_capacity(1);
    list.add_partition(&id.topic, native(id.partition));
    consumer.pause(&list)
}

/// Has the client read a partition from `from`; what it had read of it before is dropped.
fn seek(consumer: &GroupConsumer, id: &PartitionId, from: Offset) -> KafkaResult<()> {
    let mut list = TopicPartitionList::with_capacity(1);
    list.add_partition_offset(&id.topic, native(id.partition), from)?;
    // first: it would make the lookup of a logical offset wait for half a second
    consumer.resume(&list)?;
    let list = consumer.seek_partitions(list, TIMEOUT)?;
    list.elements().iter().try_for_each(|element| element.error())
}
