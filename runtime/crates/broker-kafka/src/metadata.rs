//! What travels in the metadata of a committed offset (contract C3): which events
//! beyond it are finished, so that they are not handled again after a restart.
//!
//! The text is `sb1:` and, in base64 without padding, a checksum of four bytes, one
//! byte for the form, and the finished events as seen from the committed offset:
//! - form 0: LEB128 numbers in pairs, each a distance to skip and a length that is finished
//! - form 1: a bitmap, least significant bit first
//!
//! Kafka keeps it with the offset as a string of at most 4,096 bytes
//! (`offset.metadata.max.bytes`). The checksum covers the offset too: tools that move a
//! group and leave the metadata behind must not make us pass over other events.

use base64::{Engine, prelude::BASE64_STANDARD_NO_PAD};

/// Longest metadata that brokers take unless configured otherwise.
pub(crate) const LIMIT: usize = 4096;

/// The family of formats, and this version of it.
const FAMILY: &str = "sb";
const PREFIX: &str = "sb1:";
const CHECKSUM: usize = 4;
const RANGES: u8 = 0;
const BITMAP: u8 = 1;

/// Half-open ranges of finished positions, in order and apart from each other.
pub(crate) type Ranges = Vec<(u64, u64)>;

/// Why metadata says nothing to us.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unreadable {
    /// Written by another program.
    #[error("it was written by another program")]
    Foreign,
    /// Ours, of a version that is not known here.
    #[error("it has a version that is not known here")]
    Version,
    /// Cut short, altered, or moved to another offset.
    #[error("it is damaged or belongs to another offset")]
    Damaged,
}

/// The text for `finished` beyond the committed offset `from`; empty for none. It may
/// exceed [`LIMIT`]: see [`fitting`].
pub(crate) fn encode(from: u64, finished: &[(u64, u64)]) -> String {
    let Some(&(_, end)) = finished.last() else { return String::new() };
    let mut body = vec![RANGES];
    let mut at = from;
    for &(start, end) in finished {
        write_number(&mut body, start - at);
        write_number(&mut body, end - start);
        at = end;
    }
    let bits = usize::try_from((end - from).div_ceil(8)).unwrap_or(usize::MAX);
    if bits < body.len() - 1 {
        body = vec![0; bits + 1];
        body[0] = BITMAP;
        for position in finished.iter().flat_map(|&(start, end)| start - from..end - from) {
            // below `bits`, which is a usize
            body[1 + (position / 8) as usize] |= 1 << (position % 8);
        }
    }
    let mut bytes = checksum(from, &body).to_vec();
    bytes.append(&mut body);
    let mut text = String::from(PREFIX);
    BASE64_STANDARD_NO_PAD.encode_string(bytes, &mut text);
    text
}

/// As [`encode`], but without the farthest of `finished` where they would not fit.
pub(crate) fn fitting(from: u64, finished: &[(u64, u64)]) -> String {
    let whole = encode(from, finished);
    if whole.len() <= LIMIT {
        return whole;
    }
    // a shorter prefix of the ranges never makes a longer text
    let (mut fits, mut too_many) = (0, finished.len());
    while too_many - fits > 1 {
        let middle = fits.midpoint(too_many);
        if encode(from, &finished[..middle]).len() <= LIMIT {
            fits = middle;
        } else {
            too_many = middle;
        }
    }
    encode(from, &finished[..fits])
}

/// How full metadata of this length is; 1 is [`LIMIT`].
pub(crate) fn fill(length: usize) -> f64 {
    length as f64 / LIMIT as f64
}

/// The most that so many ranges within so many positions can [`fill`]: two numbers each.
pub(crate) fn most((ranges, positions): (usize, u64)) -> f64 {
    let number = (u64::BITS - positions.leading_zeros()).div_ceil(7).max(1) as usize;
    fill(PREFIX.len() + (CHECKSUM + 1 + ranges * 2 * number).div_ceil(3) * 4)
}

/// The finished positions that were committed together with the offset `from`.
pub(crate) fn decode(from: u64, metadata: &[u8]) -> Result<Ranges, Unreadable> {
    if metadata.is_empty() {
        return Ok(Ranges::new());
    }
    let text = str::from_utf8(metadata).map_err(|_| Unreadable::Foreign)?;
    let Some(encoded) = text.strip_prefix(PREFIX) else {
        let version = text.strip_prefix(FAMILY).and_then(|rest| rest.split_once(':'));
        let ours =
            version.is_some_and(|(v, _)| !v.is_empty() && v.bytes().all(|b| b.is_ascii_digit()));
        return Err(if ours { Unreadable::Version } else { Unreadable::Foreign });
    };
    let bytes = BASE64_STANDARD_NO_PAD.decode(encoded).map_err(|_| Unreadable::Damaged)?;
    let (sum, body) = bytes.split_at_checked(CHECKSUM).ok_or(Unreadable::Damaged)?;
    if *sum != checksum(from, body) {
        return Err(Unreadable::Damaged);
    }
    match body.split_first() {
        Some((&RANGES, numbers)) => read_ranges(from, numbers),
        Some((&BITMAP, bits)) => read_bitmap(from, bits),
        _ => None,
    }
    .ok_or(Unreadable::Damaged)
}

fn checksum(from: u64, body: &[u8]) -> [u8; CHECKSUM] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&from.to_le_bytes()).update(body);
    let mut sum = [0; CHECKSUM];
    hasher.finalize_xof().fill(&mut sum);
    sum
}

fn read_ranges(from: u64, mut numbers: &[u8]) -> Option<Ranges> {
    let mut ranges = Ranges::new();
    let mut at = from;
    while !numbers.is_empty() {
        let start = at.checked_add(read_number(&mut numbers)?)?;
        let end = start.checked_add(read_number(&mut numbers)?)?;
        push(&mut ranges, start, end);
        at = end;
    }
    Some(ranges)
}

fn read_bitmap(from: u64, bits: &[u8]) -> Option<Ranges> {
    let mut ranges = Ranges::new();
    for (byte, eight) in (0_u64..).zip(bits) {
        for bit in (0..8).filter(|bit| eight & (1 << bit) != 0) {
            let position = from.checked_add(byte * 8 + bit)?;
            push(&mut ranges, position, position.checked_add(1)?);
        }
    }
    Some(ranges)
}

/// Appends a range that begins no earlier than the last one ends.
pub(crate) fn push(ranges: &mut Ranges, start: u64, end: u64) {
    match ranges.last_mut() {
        Some(last) if last.1 == start => last.1 = end,
        _ if start < end => ranges.push((start, end)),
        _ => {}
    }
}

fn write_number(to: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        to.push(number as u8 | 0x80);
        number >>= 7;
    }
    to.push(number as u8);
}

fn read_number(from: &mut &[u8]) -> Option<u64> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = from.split_first()?;
        *from = rest;
        let part = u64::from(byte & 0x7f);
        // the tenth byte has room for one bit alone
        if shift == 63 && part > 1 {
            return None;
        }
        number |= part << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// The model: a set of positions.
    fn ranges(positions: &BTreeSet<u64>) -> Ranges {
        let mut ranges = Ranges::new();
        positions.iter().for_each(|&p| push(&mut ranges, p, p + 1));
        ranges
    }

    fn positions(ranges: &Ranges) -> BTreeSet<u64> {
        ranges.iter().flat_map(|&(start, end)| start..end).collect()
    }

    proptest! {
        #[test]
        fn c3_what_is_encoded_is_decoded(
            from in prop_oneof![0..10_u64, Just(u64::MAX / 2)],
            finished in prop_oneof![
                prop::collection::btree_set(0..200_u64, 0..150),
                prop::collection::btree_set(0..5_000_u64, 0..50),
            ],
        ) {
            let finished: BTreeSet<u64> = finished.into_iter().map(|p| from + p).collect();
            let text = encode(from, &ranges(&finished));
            prop_assert!(text.is_ascii());
            let extent = (finished.len(), finished.last().map_or(0, |last| last + 1 - from));
            prop_assert!(fill(text.len()) <= most(extent));
            prop_assert_eq!(positions(&decode(from, text.as_bytes()).unwrap()), finished);
        }

        #[test]
        fn c3_what_does_not_fit_loses_its_far_end_alone(
            steps in prop::collection::vec((1..4_000_u64, 1..300_u64), 1_000..3_000),
        ) {
            let mut finished = Ranges::new();
            let mut at = 7;
            for (skip, length) in steps {
                finished.push((at + skip, at + skip + length));
                at += skip + length;
            }
            let text = fitting(7, &finished);
            prop_assert!(text.len() <= LIMIT);
            let kept = decode(7, text.as_bytes()).unwrap();
            prop_assert_eq!(&kept[..], &finished[..kept.len()]);
            prop_assert!(encode(7, &finished[..(kept.len() + 1).min(finished.len())]).len() > LIMIT);
        }

        #[test]
        fn c3_damage_is_noticed(
            finished in prop::collection::btree_set(0..500_u64, 1..80),
            at in any::<prop::sample::Index>(),
            with in any::<u8>(),
            cut in any::<bool>(),
        ) {
            let mut text = encode(3, &ranges(&finished.iter().map(|p| p + 3).collect())).into_bytes();
            let at = at.index(text.len());
            prop_assume!(cut || text[at] != with);
            if cut { text.truncate(at) } else { text[at] = with }
            // nothing at all is what an upstream client commits
            prop_assert!(decode(3, &text).is_err() || text.is_empty());
        }

        #[test]
        fn c3_nothing_that_a_stranger_wrote_is_believed(metadata in prop::collection::vec(any::<u8>(), 1..200)) {
            prop_assert!(decode(0, &metadata).is_err());
        }
    }

    #[test]
    fn c3_metadata_belongs_to_its_offset() {
        let text = encode(10, &[(12, 15)]);
        assert_eq!(decode(10, text.as_bytes()), Ok(vec![(12, 15)]));
        assert_eq!(decode(11, text.as_bytes()), Err(Unreadable::Damaged));
    }

    #[test]
    fn c3_other_versions_and_programs_are_told_apart() {
        assert_eq!(decode(0, b"sb2:AAAA"), Err(Unreadable::Version));
        for foreign in ["host-17", "sb", "sb:x", "sbx:1", "1700000000"] {
            assert_eq!(decode(0, foreign.as_bytes()), Err(Unreadable::Foreign), "{foreign}");
        }
        assert_eq!(decode(0, b"\xff\xfe"), Err(Unreadable::Foreign));
        assert_eq!(decode(0, b""), Ok(vec![]));
    }

    #[test]
    fn c3_the_smaller_form_is_chosen() {
        // every second of 1,000: two bytes each as ranges, one bit each in the bitmap
        let alternating: Ranges = (0..500).map(|n| (2 * n + 1, 2 * n + 2)).collect();
        assert!(encode(0, &alternating).len() < 190);
        // one long range: a handful of bytes, whatever its length
        assert!(encode(0, &[(1, 10_000_000)]).len() < 20);
        // as full as the window of a subscription ever makes it with every second one waiting
        let window: Ranges = (0..1024).map(|n| (3 * n + 1, 3 * n + 3)).collect();
        assert!(fill(encode(0, &window).len()) < 0.2);
    }
}
