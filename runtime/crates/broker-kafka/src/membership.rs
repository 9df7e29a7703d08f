//! As which member of the group a transaction commits offsets (KIP-447).

use rdkafka::{
    bindings,
    consumer::{Consumer, ConsumerGroupMetadata},
};

use crate::assignment::GroupConsumer;

/// Member and generation as they are now. The group takes offsets under them as long as
/// they are the present ones, which is what fences a member that was given up (contract E2).
/// `None` while this is no member: what is asked for after that must be asked for again.
pub(crate) fn current(consumer: &GroupConsumer) -> Option<ConsumerGroupMetadata> {
    let metadata = consumer.group_metadata()?;
    // Asked second: should the member have been lost in between, then all its partitions
    // are fenced before it joins again, and those who commit look at that afterwards.
    is_member(consumer).then_some(metadata)
}

/// Whether librdkafka has a member id and a generation. Without both, the group would take
/// offsets from anyone.
#[allow(unsafe_code)] // rdkafka does not show what is in the metadata; see SAFETY
fn is_member(consumer: &GroupConsumer) -> bool {
    // SAFETY: the client lives as long as `consumer`. The metadata are ours until they are
    // destroyed, once, and their member id is a NUL-terminated string until then.
    unsafe {
        let metadata = bindings::rd_kafka_consumer_group_metadata(consumer.client().native_ptr());
        if metadata.is_null() {
            return false;
        }
        let member = *bindings::rd_kafka_consumer_group_metadata_member_id(metadata) != 0;
        let generation = bindings::rd_kafka_consumer_group_metadata_generation_id(metadata);
        bindings::rd_kafka_consumer_group_metadata_destroy(metadata);
        member && generation >= 0
    }
}
