//! Requests about positions: those of groups, and those that a topic retains.

use std::{sync::Weak, time::Duration};

use rdkafka::{
    Offset, TopicPartitionList,
    admin::AdminOptions,
    consumer::{CommitMode, Consumer},
    error::{KafkaError, KafkaResult, RDKafkaErrorCode},
};
use sandbar_core::{Extent, PartitionId, ResumeFrom, SourceError, reserved};

use crate::{
    admin::{Admin, Probe, TIMEOUT, native, partitions, position},
    error,
};

/// How long a member may take to say what its group has committed, between its transactions: bounds how long its
/// end waits.
const MEMBER: Duration = Duration::from_secs(3);

impl Admin {
    /// Where `group` resumes, and the end, of every partition it has committed; of a group that reads here, in the
    /// topics that it reads.
    pub fn cursors(
        &self,
        group: &str,
    ) -> Result<Vec<(PartitionId, ResumeFrom, ResumeFrom)>, SourceError> {
        let probe = self.shared()?;
        let committed = match self.asked_by_member(&probe, group)? {
            Some(committed) => committed,
            None => {
                let probe = self.probe(Some(group))?;
                let all = partitions(&probe.metadata()?);
                if all.count() == 0 {
                    return Ok(Vec::new());
                }
                let committed = probe.0.committed_offsets(all, TIMEOUT);
                committed.map_err(|e| probe.error(&positions_of(group), &e))?
            }
        };
        let mut known = TopicPartitionList::new();
        for element in committed.elements() {
            if position(element.offset()).is_some() {
                known.add_partition(element.topic(), element.partition());
            }
        }
        let ends = probe.offsets(&known, Offset::End)?;
        let mut cursors = Vec::with_capacity(known.count());
        for end in ends.elements() {
            let resume = committed.find_partition(end.topic(), end.partition());
            let resume = resume.and_then(|e| position(e.offset()));
            if let (Some(resume), Some(end_at)) = (resume, position(end.offset())) {
                let id = PartitionId {
                    topic: end.topic().into(),
                    partition: u32::try_from(end.partition()).unwrap_or_default(),
                };
                cursors.push((id, ResumeFrom(resume), ResumeFrom(end_at)));
            }
        }
        cursors.sort();
        Ok(cursors)
    }

    /// What `group` has committed, asked by its member in this process, which knows its coordinator; `None` where
    /// there is none.
    fn asked_by_member(
        &self,
        probe: &Probe,
        group: &str,
    ) -> Result<Option<TopicPartitionList>, SourceError> {
        let member = self.groups.lock().get(group).and_then(Weak::upgrade);
        let Some(member) = member else { return Ok(None) };
        let mut all = TopicPartitionList::new();
        match member.topics() {
            Some(topics) => {
                for topic in topics {
                    for partition in 0..probe.partitions(topic)?.unwrap_or_default() {
                        all.add_partition(topic, native(partition));
                    }
                }
            }
            None => all = partitions(&probe.metadata()?),
        }
        if all.count() == 0 {
            return Ok(Some(all));
        }
        let asked = member.with_consumer(|consumer| consumer.committed_offsets(all, MEMBER));
        // no failure of the client that all share
        asked.transpose().map_err(|e| error::request(&positions_of(group), &e, None))
    }

    /// What each partition of `topic` retains.
    pub fn extents(&self, topic: &str) -> Result<Vec<Extent>, SourceError> {
        let probe = self.shared()?;
        let all = self.every(&probe, topic)?;
        let (first, end) =
            (probe.offsets(&all, Offset::Beginning)?, probe.offsets(&all, Offset::End)?);
        let ids = all.elements().into_iter().map(|element| id(topic, element.partition()));
        let extent = |id: PartitionId| {
            let of = |list: &TopicPartitionList| {
                let element = list.find_partition(topic, native(id.partition))?;
                position(element.offset()).map(ResumeFrom)
            };
            let (first, end) = of(&first).zip(of(&end)).ok_or_else(|| {
                SourceError::Unavailable(format!("the bounds of {id} are not known"))
            })?;
            Ok(Extent { id, first, end })
        };
        ids.map(extent).collect()
    }

    /// Puts the cursor of a group that has no member somewhere else.
    pub fn move_cursor(
        &self,
        group: &str,
        partition: &PartitionId,
        to: ResumeFrom,
    ) -> Result<(), SourceError> {
        let what = format!("move the cursor of {group} on {partition} to {}", to.0);
        let probe = self.probe(Some(group))?;
        match commit(&probe, [(partition.clone(), to)]) {
            Ok(()) => Ok(()),
            Err(e) if is_active(&e) => {
                Err(SourceError::Fatal(format!("could not {what}: the group has a subscription")))
            }
            Err(e) => Err(probe.error(&what, &e)),
        }
    }

    /// Gives `group` a cursor at the end of each partition of `topic` where it has none. What
    /// lies in a topic of Sandbar's own was sent to this group alone, since whenever it lies
    /// there: that cursor is at the beginning. A topic that is yet to appear gets none.
    pub fn begin(&self, group: &str, topic: &str) -> Result<(), SourceError> {
        let what = format!("look up where group {group} is in {topic}");
        let probe = self.probe(Some(group))?;
        if probe.partitions(topic)?.is_none_or(|count| count == 0) {
            return Ok(());
        }
        let all = self.every(&probe, topic)?;
        let committed =
            probe.0.committed_offsets(all, TIMEOUT).map_err(|e| probe.error(&what, &e))?;
        let mut new = TopicPartitionList::new();
        for element in committed.elements() {
            element.error().map_err(|e| probe.error(&what, &e))?;
            if position(element.offset()).is_none() {
                new.add_partition(topic, element.partition());
            }
        }
        let at = if reserved::is_reserved(topic) { Offset::Beginning } else { Offset::End };
        let cursors = probe.offsets(&new, at)?;
        let cursors = cursors.elements().into_iter().filter_map(|element| {
            Some((id(topic, element.partition()), ResumeFrom(position(element.offset())?)))
        });
        match commit(&probe, cursors) {
            // whoever is a member did this before it became one
            Err(e) if is_active(&e) => Ok(()),
            result => result.map_err(|e| probe.error(&what, &e)),
        }
    }

    /// The partitions of a topic that has to exist.
    fn every(&self, probe: &Probe, topic: &str) -> Result<TopicPartitionList, SourceError> {
        let count = probe.partitions(topic)?.filter(|n| *n > 0).ok_or_else(|| {
            let connection = &self.connection;
            SourceError::Fatal(format!("topic {topic} does not exist on connection {connection}"))
        })?;
        let mut all = TopicPartitionList::new();
        for partition in 0..count {
            all.add_partition(topic, native(partition));
        }
        Ok(all)
    }

    /// Deletes the records of a partition before a position.
    pub async fn trim(&self, id: &PartitionId, before: ResumeFrom) -> Result<(), SourceError> {
        let what = format!("delete the events of {id} before {}", before.0);
        let refused = |e: &KafkaError| {
            use RDKafkaErrorCode as E;
            let error = error::request(&what, e, None);
            match error::code(e) {
                // a compacted topic, a position or a topic that is not there
                Some(
                    E::PolicyViolation
                    | E::OffsetOutOfRange
                    | E::NoEnt
                    | E::UnknownTopicOrPartition,
                ) => SourceError::Fatal(error.to_string()),
                _ => error,
            }
        };
        let mut list = TopicPartitionList::new();
        let at = Offset::Offset(i64::try_from(before.0).unwrap_or(i64::MAX));
        list.add_partition_offset(&id.topic, native(id.partition), at).map_err(|e| refused(&e))?;
        let client = self.client()?;
        let options = AdminOptions::new().request_timeout(Some(TIMEOUT));
        let outcome = client.delete_records(&list, &options).await;
        let outcome = outcome.inspect_err(|_| client.inner().context().failed());
        let outcome = outcome.map_err(|e| refused(&e))?;
        match outcome.find_partition(&id.topic, native(id.partition)) {
            Some(element) => element.error().map_err(|e| refused(&e)),
            None => Err(SourceError::Unavailable(format!("could not {what}: no answer"))),
        }
    }
}

fn positions_of(group: &str) -> String {
    format!("look up the positions of group {group}")
}

fn id(topic: &str, partition: i32) -> PartitionId {
    PartitionId { topic: topic.into(), partition: u32::try_from(partition).unwrap_or_default() }
}

/// Commits positions for the group of `probe`.
fn commit(
    probe: &Probe,
    positions: impl IntoIterator<Item = (PartitionId, ResumeFrom)>,
) -> KafkaResult<()> {
    let mut list = TopicPartitionList::new();
    for (id, ResumeFrom(position)) in positions {
        let offset = Offset::Offset(i64::try_from(position).unwrap_or(i64::MAX));
        list.add_partition_offset(&id.topic, native(id.partition), offset)?;
    }
    match list.count() {
        0 => Ok(()),
        _ => probe.0.commit(&list, CommitMode::Sync),
    }
}

/// Whether a group refused a position because it has members.
fn is_active(error: &KafkaError) -> bool {
    use RDKafkaErrorCode as E;
    matches!(
        error::code(error),
        Some(E::UnknownMemberId | E::IllegalGeneration | E::RebalanceInProgress)
    )
}
