use super::*;

const KEY: &str = "sandbar-key";

fn received(message: &Message) -> Received {
    Received {
        id: "m".into(),
        receipt: "r".into(),
        body: message.body.clone(),
        attributes: message.attributes.clone(),
        group: message.fifo.as_ref().map(|fifo| fifo.group.as_str().into()),
        sent_ms: 5,
        receives: 1,
    }
}

fn round_trip(record: &Outgoing, fifo: bool) -> Event {
    received(&Message::new(record, KEY, fifo)).into_event(&"t".into(), KEY)
}

#[test]
fn key_payload_and_headers_come_back_as_they_were() {
    let keys = [None, Some(&b""[..]), Some(b"k"), Some(b"\xff\0"), Some(b"sandbar:x")];
    let payloads = [None, Some(&b""[..]), Some(b"text"), Some(b"\xff\0"), Some(b"-")];
    for (key, payload) in keys.iter().flat_map(|k| payloads.iter().map(move |p| (k, p))) {
        for fifo in [false, true] {
            let record = Outgoing {
                key: key.map(Bytes::copy_from_slice),
                payload: payload.map(Bytes::copy_from_slice),
                ..Outgoing::new("t", "").with_header("b", "1").with_header("a", vec![0xff])
            };
            let event = round_trip(&record, fifo);
            assert_eq!((event.key, event.payload), (record.key, record.payload));
            assert_eq!(*event.headers, *record.headers);
            assert_eq!(event.timestamp_ms, 5);
        }
    }
}

#[test]
fn attributes_of_cloud_events_are_message_attributes() {
    let mut record = Outgoing::new("t", "{}").with_header("ce_id", "stale");
    record.attributes = vec![("id".into(), "1".into()), ("source".into(), "/s".into())];
    let message = Message::new(&record, KEY, false);
    assert_eq!(message.attributes[0], ("ce_id".into(), Value::Text("1".into())));
    assert_eq!(round_trip(&record, false).id(), "/s#1");
}

#[test]
fn foreign_messages_have_their_group_as_key_and_their_body_as_payload() {
    let mut foreign = received(&Message::new(&Outgoing::new("t", "x"), KEY, false));
    foreign.group = Some("g".into());
    foreign.attributes.push((BODY.into(), Value::Text("base64".into())));
    foreign.body = "no base64!".into();
    let event = foreign.into_event(&"t".into(), KEY);
    assert_eq!(event.key.as_deref(), Some(&b"g"[..]));
    assert_eq!(event.payload.as_deref(), Some(&b"no base64!"[..]));
}

#[test]
fn equal_keys_share_a_group_and_events_without_one_share_none() {
    let fifo = |record: &Outgoing| Message::new(record, KEY, true).fifo.unwrap();
    let plain = Outgoing::new("t", "x");
    assert_eq!(fifo(&plain.clone().with_key("k")).group, "k");
    for key in [&b""[..], b"a b", b"\xff", b"sandbar:k", &[b'x'; 129]] {
        let keyed = plain.clone().with_key(key.to_vec());
        assert!(fifo(&keyed).group.starts_with(OWN_GROUP));
        assert_eq!(fifo(&keyed).group, fifo(&keyed).group);
        assert!(fifo(&keyed).group.len() <= 128);
    }
    assert_ne!(fifo(&plain).group, fifo(&plain).group);
    assert!(fifo(&plain).group.len() <= 128);
}

#[test]
fn only_the_same_event_has_the_same_deduplication_id() {
    let id = |record: &Outgoing| Message::new(record, KEY, true).fifo.unwrap().deduplication;
    let plain = Outgoing::new("t", "x");
    assert_ne!(id(&plain), id(&plain), "equal events without an id are two");
    let mut known = plain.with_header("traceparent", "1");
    known.attributes = vec![("id".into(), "1".into())];
    assert_eq!(id(&known), id(&known));
    let mut traced = known.clone();
    traced.headers[0] = Header::new("traceparent", "2");
    assert_eq!(id(&known), id(&traced), "tried again under another span");
    let mut other_id = known.clone();
    other_id.attributes[0].1 = "2".into();
    let tombstone = |payload| Outgoing { payload, ..known.clone() };
    let others = [
        known.clone().with_key("k"),
        known.clone().with_header("attempt", "2"),
        Outgoing { topic: "u".into(), ..known.clone() },
        other_id,
        tombstone(None),
        tombstone(Some(Bytes::new())),
    ];
    let mut ids: Vec<_> = others.iter().chain([&known]).map(id).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 7);
}

#[test]
fn positions_name_a_message() {
    let message = received(&Message::new(&Outgoing::new("t", "x"), KEY, false));
    let other = Received { id: "n".into(), ..message.clone() };
    assert_eq!(message.position(), Received { receives: 2, ..message.clone() }.position());
    assert_ne!(message.position(), other.position());
}

#[test]
fn the_size_counts_names_types_and_values_of_attributes() {
    let record = Outgoing::new("t", "1234").with_header("ab", "c").with_header("d", vec![0xff]);
    assert_eq!(Message::new(&record, KEY, false).size(), 4 + (2 + 6 + 1) + (1 + 6 + 1));
    let binary = Outgoing::new("t", vec![0xff; 3]);
    assert_eq!(Message::new(&binary, KEY, false).size(), 4 + BODY.len() + 6 + 6);
}
