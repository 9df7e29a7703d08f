use proptest::{collection::vec, option, prelude::*};

use super::*;

fn bytes() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..300).prop_map(Bytes::from)
}

prop_compose! {
    fn record()(
        key in option::of(bytes()),
        payload in option::of(bytes()),
        headers in vec(("[a-z\u{e9}]{0,20}", option::of(bytes())), 0..4),
        attributes in vec(("[a-z]{1,20}", ".{0,20}"), 0..3),
    ) -> Outgoing {
        let headers = headers
            .into_iter()
            .map(|(name, value)| Header { name: format!("h-{name}").into(), value })
            .collect();
        Outgoing { connection: None, topic: "t".into(), key, payload, headers, attributes }
    }
}

fn encode(base: u64, timestamp: u64, records: &[Outgoing]) -> Bytes {
    let mut writer = BatchWriter::new(base, timestamp, 0);
    for record in records {
        writer.push(record);
    }
    writer.finish()
}

/// What a reader must see of a record that was published.
fn expected(record: &Outgoing) -> (Option<Bytes>, Option<Bytes>, Vec<Header>) {
    let attributes =
        record.attributes.iter().map(|(n, v)| Header::new(format!("ce_{n}"), v.clone()));
    let headers = attributes.chain(record.headers.iter().cloned()).collect();
    (record.key.clone(), record.payload.clone(), headers)
}

proptest! {
    #[test]
    fn every_record_comes_back_byte_for_byte(
        records in vec(record(), 1..20),
        base in 0..u64::MAX / 2,
        timestamp in any::<u64>(),
        from in 0..25u64,
    ) {
        let encoded = encode(base, timestamp, &records);
        let lengths: usize = records.iter().map(encoded_length).sum();
        prop_assert_eq!(encoded.len(), HEADER + lengths);
        let batch = Batch::check(encoded, base).unwrap();
        let events: Vec<_> =
            batch.events(&"t".into(), 3, base + from).collect::<Result<_, _>>().unwrap();
        prop_assert_eq!(events.len(), records.len().saturating_sub(from as usize));
        for (i, event) in events.iter().enumerate() {
            let record = &records[from as usize + i];
            prop_assert_eq!((event.partition, event.position), (3, base + from + i as u64));
            prop_assert_eq!(event.timestamp_ms, timestamp);
            prop_assert_eq!(
                (event.key.clone(), event.payload.clone(), event.headers.to_vec()),
                expected(record)
            );
            prop_assert_eq!(&*event.attributes, &record.attributes[..]);
        }
    }

    #[test]
    fn any_changed_or_missing_byte_is_noticed(
        records in vec(record(), 1..5),
        at in any::<prop::sample::Index>(),
        flip in 1..=255u8,
    ) {
        let good = encode(7, 1, &records);
        let mut bad = good.to_vec();
        let at = at.index(bad.len());
        bad[at] ^= flip;
        prop_assert!(Batch::check(bad.into(), 7).is_err());
        prop_assert!(Batch::check(good.slice(..at), 7).is_err());
    }

    #[test]
    fn garbage_behind_a_right_checksum_never_panics(
        garbage in vec(any::<u8>(), 0..200),
        count in any::<u32>(),
    ) {
        let mut bytes = encode(0, 0, &[]).to_vec();
        bytes[HEADER - 4..HEADER].copy_from_slice(&count.to_le_bytes());
        bytes.extend(garbage);
        let crc = crc32fast::hash(&bytes[BODY_AT..]);
        bytes[CRC_AT..BODY_AT].copy_from_slice(&crc.to_le_bytes());
        let batch = Batch::check(bytes.into(), 0).unwrap();
        // stops at the first error, as every reader does
        let decoded = batch.events(&"t".into(), 0, 0).take_while(Result::is_ok).count();
        prop_assert!(decoded <= 200);
    }
}

#[test]
fn null_and_empty_are_kept_apart() {
    let header = |value| Header { name: "h".into(), value };
    let mut record = Outgoing::new("t", Bytes::new());
    record.headers = vec![header(None), header(Some(Bytes::new()))];
    let mut tombstone = record.clone().with_key(Bytes::new());
    tombstone.payload = None;
    let batch = Batch::check(encode(0, 0, &[record, tombstone]), 0).unwrap();
    let events: Vec<_> = batch.events(&"t".into(), 0, 0).map(Result::unwrap).collect();
    assert_eq!(events[0].key, None);
    assert_eq!(events[0].payload, Some(Bytes::new()));
    assert_eq!(*events[0].headers, [header(None), header(Some(Bytes::new()))]);
    assert_eq!(events[1].key, Some(Bytes::new()));
    assert_eq!(events[1].payload, None);
}

#[test]
fn a_batch_under_a_wrong_offset_is_refused() {
    let encoded = encode(7, 1, &[Outgoing::new("t", "x")]);
    let misplaced = CodecError::Misplaced { expected: 8, found: 7 };
    assert_eq!(Batch::check(encoded, 8).unwrap_err(), misplaced);
}

#[test]
fn the_layout_is_frozen() {
    let mut record = Outgoing::new("t", "pay").with_key("k").with_header("h", "v");
    record.attributes = vec![("id".into(), "1".into())];
    // changing this needs a new VERSION, and a reader for both
    let written = encode(258, 3, &[record]);
    assert_eq!(&written[..CRC_AT], [1]);
    assert_eq!(
        written[BODY_AT..],
        *b"\x02\x01\0\0\0\0\0\0\x03\0\0\0\0\0\0\0\x01\0\0\0\x13\x02k\x04pay\x02\x05ce_id\x021\x01h\x02v"
    );
}
