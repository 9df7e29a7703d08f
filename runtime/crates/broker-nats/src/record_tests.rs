use super::*;

fn round_trip(record: &Outgoing, config: &NatsConfig) -> Event {
    let message = Message {
        subject: "orders.c7".into(),
        reply: None,
        payload: record.payload.clone().unwrap_or_default(),
        headers: Some(headers(record, config)),
        status: None,
        description: None,
        length: 0,
    };
    event(message, &record.topic, (7, 5), config)
}

#[test]
fn events_come_back_as_they_went() {
    let config = NatsConfig::default();
    let mut record = Outgoing::new("t", "x")
        .with_key(vec![0xff, 0])
        .with_header("a", "1")
        .with_header("a", "")
        .with_header("b", vec![0xff])
        .with_header("b", "plain")
        .with_header("c", " edge ")
        .with_header("cloudEvents:id", "7")
        .with_header("", "nameless")
        .with_header("Nats-Rollup", "all")
        .with_header("sandbar-key", "not ours");
    record.headers.push(Header { name: "n".into(), value: None });
    record.payload = None;
    let event = round_trip(&record, &config);
    assert_eq!((event.key.clone(), event.payload.clone()), (record.key.clone(), None));
    let mut sent = record.headers.clone();
    let mut got = event.headers.to_vec();
    sent.sort_by(|a, b| a.name.cmp(&b.name));
    got.sort_by(|a, b| a.name.cmp(&b.name));
    assert_eq!(got, sent);
    let map = headers(&record, &config);
    assert!(map.get("Nats-Rollup").is_none(), "an order to the server");
    assert_eq!(map.get("a").map(HeaderValue::as_str), Some("1"), "text stays text");
}

#[test]
fn the_key_is_a_header_or_a_token_of_the_subject() {
    let record = Outgoing::new("orders.c7", "x").with_key("k").with_header("id", "h");
    let by = |header: Option<&str>, token| NatsConfig {
        key_header: header.map(str::to_owned),
        key_token: token,
        ..NatsConfig::default()
    };
    let key = |config: NatsConfig, record: &Outgoing| {
        let event = round_trip(record, &config);
        event.key.map(|k| String::from_utf8(k.to_vec()).unwrap())
    };
    assert_eq!(key(by(None, None), &record).as_deref(), Some("k"));
    assert_eq!(key(by(Some("id"), None), &record).as_deref(), Some("h"), "the header as given");
    assert_eq!(key(by(Some("other"), None), &record).as_deref(), Some("k"));
    let keyless = Outgoing { key: None, ..record.clone() };
    assert_eq!(key(by(None, Some(2)), &keyless).as_deref(), Some("c7"));
    assert_eq!(key(by(None, Some(9)), &keyless), None);

    let topic = |name: &str, keyed: Option<&str>| Topic {
        name: name.into(),
        stream: "s".into(),
        filter: String::new(),
        keyed: keyed.map(str::to_owned),
    };
    let to = |name: &str, key: &str| {
        let record = Outgoing::new(name, "x").with_key(key.to_owned());
        subject(&record, &topic(name, None), &by(None, Some(2)))
    };
    assert_eq!(to("orders.*", "c7").unwrap(), "orders.c7");
    assert_eq!(to("orders.plain", "c7").unwrap(), "orders.plain");
    assert!(to("orders.*", "a.b").unwrap_err().contains("no token"));
    assert!(to("*.orders", "c7").unwrap_err().contains("wildcard"));
    let keyed = subject(&record, &topic("t", Some("sandbar-keyed.s.")), &by(None, None));
    assert_eq!(keyed.unwrap(), "sandbar-keyed.s.aw");
}

#[test]
fn only_a_repetition_has_the_id_of_another() {
    let mut record = Outgoing::new("t", "x");
    assert_eq!(message_id(&record), None);
    record.attributes = vec![("source".into(), "/s".into()), ("id".into(), "1".into())];
    let id = message_id(&record).unwrap();
    assert!(id.starts_with("sandbar:/s#1#"), "{id}");
    assert_eq!(message_id(&record.clone()).unwrap(), id);
    assert_ne!(message_id(&Outgoing { payload: Some("y".into()), ..record.clone() }).unwrap(), id);
    let given = record.clone().with_header("Idempotency-Key", "abc");
    assert_eq!(message_id(&given).as_deref(), Some("sandbar:abc"));
    // these repeat what they carry, and each counts
    assert_eq!(message_id(&given.with_header("__dlq.errors.topic", "t")), None);
    assert_eq!(message_id(&Outgoing { topic: "sandbar-inbox.g".into(), ..record.clone() }), None);
    // what we added is not shown, what others sent is
    assert!(round_trip(&record, &NatsConfig::default()).header(MESSAGE_ID).is_none());
}
