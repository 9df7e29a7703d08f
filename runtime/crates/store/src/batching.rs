//! Which partition a record goes to, and how records are cut into batches.

use bytes::Bytes;
use sandbar_core::Outgoing;

use crate::codec::{self, BatchWriter, HEADER};

/// A page of redb; larger values take the next power of two of it.
const PAGE: usize = 4096;
/// What redb itself needs in the page of a single value, rounded up generously.
const PAGE_OVERHEAD: usize = 64;
/// Largest batch, unless one record alone is larger. A reader loads whole batches.
const LARGEST: usize = 256 * 1024 - PAGE_OVERHEAD;

/// The partition of a record. With a key: CRC-32 (IEEE) of the key modulo the number
/// of partitions, which is also what librdkafka does by default. Without one: all of a
/// commit go to one partition, `turn` chooses it.
pub(crate) fn partition(key: Option<&[u8]>, partitions: u32, turn: u32) -> u32 {
    key.map_or(turn, crc32fast::hash) % partitions
}

/// Encodes records that follow each other from offset `base` on.
pub(crate) fn encode(records: &[Outgoing], base: u64, timestamp_ms: u64) -> Vec<Bytes> {
    let lengths: Vec<usize> = records.iter().map(codec::encoded_length).collect();
    let mut rest: usize = lengths.iter().sum();
    let (mut batches, mut at) = (Vec::new(), 0);
    while at < records.len() {
        let limit = limit(HEADER + rest);
        let mut bytes = HEADER;
        let from = at;
        while at < records.len() && (at == from || bytes + lengths[at] <= limit) {
            bytes += lengths[at];
            at += 1;
        }
        let mut batch = BatchWriter::new(base + from as u64, timestamp_ms, bytes - HEADER);
        for record in &records[from..at] {
            batch.push(record);
        }
        batches.push(batch.finish());
        rest -= bytes - HEADER;
    }
    batches
}

/// How large the next batch may be when `rest` bytes are to be stored. A value just
/// above a power of two would waste half of its pages: it is cut there instead.
fn limit(rest: usize) -> usize {
    let pages = (rest + PAGE_OVERHEAD).next_power_of_two();
    if rest >= LARGEST {
        LARGEST
    } else if pages <= PAGE || rest >= pages / 4 * 3 {
        rest
    } else {
        pages / 2 - PAGE_OVERHEAD
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::{collection::vec, prelude::*};

    use super::*;
    use crate::codec::Batch;

    /// Bytes that redb takes for a batch.
    fn pages(batch: &Bytes) -> usize {
        (batch.len() + PAGE_OVERHEAD).next_power_of_two().max(PAGE)
    }

    proptest! {
        #[test]
        fn batches_follow_each_other_without_a_gap(
            sizes in vec(prop_oneof![1..200usize, 1000..1100usize, 10_000..300_000usize], 1..300),
            base in 0..1_000_000u64,
        ) {
            let records: Vec<_> =
                sizes.iter().map(|n| Outgoing::new("t", vec![0u8; *n])).collect();
            let topic: Arc<str> = "t".into();
            let mut next = base;
            for encoded in encode(&records, base, 1) {
                let batch = Batch::check(encoded.clone(), next).unwrap();
                prop_assert!(encoded.len() <= LARGEST || batch.count == 1);
                for event in batch.events(&topic, 0, 0) {
                    let event = event.unwrap();
                    let index = (event.position - base) as usize;
                    prop_assert_eq!(event.position, next);
                    prop_assert_eq!(event.payload.unwrap().len(), sizes[index]);
                    next += 1;
                }
            }
            prop_assert_eq!(next, base + records.len() as u64);
        }

        /// Uncut, a value may take nearly twice its size.
        #[test]
        fn small_records_waste_a_third_of_their_size_and_a_page_at_most(
            sizes in vec(1..200usize, 1..3000),
        ) {
            let records: Vec<_> =
                sizes.iter().map(|n| Outgoing::new("t", vec![0u8; *n])).collect();
            let batches = encode(&records, 0, 1);
            let bytes: usize = batches.iter().map(Bytes::len).sum();
            let used: usize = batches.iter().map(pages).sum();
            prop_assert!(used <= bytes * 4 / 3 + PAGE, "{} bytes took {}", bytes, used);
        }
    }

    #[test]
    fn the_hash_of_a_key_never_changes() {
        // published values of CRC-32: a change would move keys to other partitions
        assert_eq!(partition(Some(b"123456789"), u32::MAX, 0), 0xcbf4_3926);
        assert_eq!(partition(Some(b""), 7, 3), 0);
        assert_eq!(partition(None, 4, 6), 2);
    }

    #[test]
    fn kibibyte_records_fill_their_pages() {
        let records = vec![Outgoing::new("t", vec![0u8; 1024]); 1000];
        let batches = encode(&records, 0, 1);
        let used: usize = batches.iter().map(pages).sum();
        assert!(used < 1000 * 1024 * 11 / 10, "1000 KiB took {used} bytes");
    }
}
