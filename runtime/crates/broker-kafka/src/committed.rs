//! What a group had committed of its partitions before they were assigned here.

use std::{ffi::CStr, slice, sync::Arc, thread, time::Duration};

use rdkafka::{Offset, TopicPartitionList, consumer::Consumer, error::KafkaResult};
use sandbar_core::PartitionId;

use crate::{
    admin::{native, position},
    assignment::{Group, GroupConsumer},
    error,
    ledger::Cursor,
    partition::Slot,
};

/// Longest time that one request may take: bounds how long the end of a source waits for it.
const TIMEOUT: Duration = Duration::from_secs(1);
/// Pause between attempts.
const PAUSE: Duration = Duration::from_millis(100);
/// Attempts that pass in silence: an open transaction of the last owner takes its time.
const SILENT: usize = 20;

/// A committed offset with its metadata, which any program may have written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Committed {
    pub position: u64,
    pub metadata: Vec<u8>,
}

/// The list that commits `cursors`. Their positions are those to resume from, which is
/// what `store_offsets`, `commit` and transactions expect.
pub(crate) fn offsets<'a>(
    cursors: impl Iterator<Item = (&'a PartitionId, &'a Cursor)>,
) -> KafkaResult<TopicPartitionList> {
    let mut list = TopicPartitionList::new();
    for (id, cursor) in cursors {
        let mut element = list.add_partition(&id.topic, native(id.partition));
        let position = i64::try_from(cursor.position.0).unwrap_or(i64::MAX);
        element.set_offset(Offset::Offset(position))?;
        if !cursor.metadata.is_empty() {
            element.set_metadata(&cursor.metadata);
        }
    }
    Ok(list)
}

/// What the group has committed of `partitions`, in their order. Blocks. While a
/// transaction has offsets of one of them open, this is an error that passes.
pub(crate) fn fetch(
    consumer: &GroupConsumer,
    partitions: &[&PartitionId],
    timeout: Duration,
) -> KafkaResult<Vec<Option<Committed>>> {
    let mut list = TopicPartitionList::with_capacity(partitions.len());
    for id in partitions {
        list.add_partition(&id.topic, native(id.partition));
    }
    let list = consumer.committed_offsets(list, timeout)?;
    partitions.iter().map(|id| read(&list, id)).collect()
}

fn read(list: &TopicPartitionList, id: &PartitionId) -> KafkaResult<Option<Committed>> {
    let Some(element) = list.find_partition(&id.topic, native(id.partition)) else {
        return Ok(None);
    };
    element.error()?;
    let Offset::Offset(_) = element.offset() else { return Ok(None) };
    let metadata = metadata(list, id);
    Ok(position(element.offset()).map(|position| Committed { position, metadata }))
}

/// The metadata as bytes: rdkafka's own access panics where they are no UTF-8, and any
/// program of the group may have written them.
#[allow(unsafe_code)] // reads librdkafka's list; see SAFETY
fn metadata(list: &TopicPartitionList, id: &PartitionId) -> Vec<u8> {
    // SAFETY: `list` owns its native list and its `cnt` elements, and lives as long as the
    // borrow; nothing changes it meanwhile. An element's topic is a NUL-terminated string and
    // its metadata is null or `metadata_size` readable bytes, copied before the borrow ends.
    unsafe {
        let native_list = &*list.ptr();
        let count = usize::try_from(native_list.cnt).unwrap_or_default();
        if count == 0 {
            return Vec::new();
        }
        slice::from_raw_parts(native_list.elems, count)
            .iter()
            .find(|e| {
                e.partition == native(id.partition)
                    && CStr::from_ptr(e.topic).to_bytes() == id.topic.as_bytes()
            })
            .filter(|e| !e.metadata.is_null())
            .map(|e| slice::from_raw_parts(e.metadata.cast::<u8>(), e.metadata_size).to_vec())
            .unwrap_or_default()
    }
}

/// Finds out, on a thread of its own, what the group had committed of partitions that
/// were just assigned, and lets their intake begin there, or at `start` where that is nothing.
/// Goes on until it knows, or until they are gone.
pub(crate) fn learn(
    group: Arc<Group>,
    slots: Vec<Arc<Slot>>,
    start: Offset,
) -> std::io::Result<()> {
    thread::Builder::new().name("kafka-cursors".into()).spawn(move || {
        let mut slots = slots;
        for attempt in 0_usize.. {
            slots.retain(|slot| !slot.is_fenced());
            if slots.is_empty() {
                return;
            }
            match group.with_consumer(|consumer| begin(consumer, &mut slots, start)) {
                None => return,
                Some(Ok(())) => continue,
                Some(Err(e)) if attempt >= SILENT => {
                    let reason = error::describe(&e);
                    group.report("cursors", &format!("committed positions not known: {reason}"));
                }
                Some(Err(_)) => {}
            }
            thread::park_timeout(PAUSE);
        }
    })?;
    Ok(())
}

/// Lets each of `slots` begin, and takes out those that did.
fn begin(consumer: &GroupConsumer, slots: &mut Vec<Arc<Slot>>, start: Offset) -> KafkaResult<()> {
    let ids: Vec<&PartitionId> = slots.iter().map(|slot| &slot.id).collect();
    for committed in fetch(consumer, &ids, TIMEOUT)?.into_iter().rev() {
        // as many as were asked for
        let Some(slot) = slots.last() else { break };
        slot.begin(committed, |intake, at| intake.begin(consumer, &slot.id, at, start))?;
        slots.pop();
    }
    Ok(())
}
