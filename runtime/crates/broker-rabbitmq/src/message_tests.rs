use super::*;
use lapin::types::{DecimalValue, FieldArray};

fn config() -> RabbitMqConfig {
    RabbitMqConfig::default()
}

fn sent(record: &Outgoing, config: &RabbitMqConfig) -> Message {
    Message::new(record, config).unwrap()
}

/// What comes out at the other end.
fn through(record: &Outgoing, config: &RabbitMqConfig) -> Event {
    let message = sent(record, config);
    let data = record.payload.clone().unwrap_or_default().to_vec();
    received(message.properties, message.routing_key.as_str(), data, config)
}

fn received(
    properties: BasicProperties,
    routing_key: &str,
    data: Vec<u8>,
    config: &RabbitMqConfig,
) -> Event {
    let mut delivery = Delivery::mock(1, "x".into(), routing_key.into(), false, data);
    delivery.properties = properties;
    event(delivery, &"t".into(), 7, config)
}

fn table(entries: &[(&str, AMQPValue)]) -> BasicProperties {
    let mut table = FieldTable::default();
    for (name, value) in entries {
        table.insert((*name).into(), value.clone());
    }
    BasicProperties::default().with_headers(table)
}

fn text(event: &Event, name: &str) -> Option<String> {
    let value = event.header(name)?.value.as_ref()?;
    Some(String::from_utf8(value.to_vec()).unwrap())
}

#[test]
fn keys_of_every_kind_come_back_as_they_were() {
    let long = "k".repeat(300);
    let keys: [Option<&[u8]>; 6] = [
        None,
        Some(b""),
        Some(b"k.1"),
        Some(&[0, 255]),
        Some("ü".as_bytes()),
        Some(long.as_bytes()),
    ];
    let constant = RabbitMqConfig { routing_key: Some("constant".into()), ..config() };
    for key in keys {
        for config in [config(), constant.clone()] {
            let key = key.map(Bytes::copy_from_slice);
            let record = Outgoing { key: key.clone(), ..Outgoing::new("t", "x") };
            assert_eq!(through(&record, &config).key, key);
        }
    }
    // a text goes as the routing key alone: nothing of ours is needed to read it
    let message = sent(&Outgoing::new("t", "x").with_key("k.1"), &config());
    assert_eq!(message.routing_key.as_str(), "k.1");
    assert!(header(&message.properties, KEY).is_none());
    let event = through(&Outgoing::new("t", "x").with_key("k.1"), &config());
    assert_eq!(event.headers.len(), 0);
}

#[test]
fn the_key_header_goes_before_the_routing_key() {
    let config = RabbitMqConfig { key_header: Some("customer".into()), ..config() };
    let with = table(&[("customer", AMQPValue::LongInt(42))]);
    let event = received(with, "orders.eu", vec![], &config);
    assert_eq!(event.key.as_deref(), Some(&b"42"[..]));
    assert_eq!(text(&event, ROUTING_KEY).as_deref(), Some("orders.eu"));
    let without = received(BasicProperties::default(), "orders.eu", vec![], &config);
    assert_eq!(without.key.as_deref(), Some(&b"orders.eu"[..]));
    assert_eq!(without.header(ROUTING_KEY), None);
    // forwarded, it is routed as it was
    let headers = event.headers.to_vec();
    let again = Outgoing { key: event.key.clone(), headers, ..Outgoing::new("t", "x") };
    assert_eq!(sent(&again, &config).routing_key.as_str(), "orders.eu");
}

#[test]
fn tombstones_and_empty_payloads_stay_apart() {
    let mut record = Outgoing::new("t", "");
    assert_eq!(through(&record, &config()).payload, Some(Bytes::new()));
    record.payload = None;
    let event = through(&record, &config());
    assert_eq!((event.payload, event.headers.len()), (None, 0));
}

#[test]
fn headers_come_back_as_they_were() {
    let mut record = Outgoing::new("t", "x")
        .with_header("a", "")
        .with_header("a", vec![0, 255])
        .with_header("b", "2");
    record.headers.push(Header { name: "a".into(), value: None });
    record.headers.push(Header { name: "c".into(), value: None });
    let event = through(&record, &config());
    let mut expected = record.headers.clone();
    // names are sorted by the table; the values of one name keep their order
    expected.sort_by(|a, b| a.name.cmp(&b.name));
    assert_eq!(*event.headers, *expected);
}

#[test]
fn properties_are_headers() {
    let record = PROPERTIES
        .iter()
        .fold(Outgoing::new("t", "x"), |r, (name, ..)| r.with_header(*name, format!("<{name}>")));
    let message = sent(&record, &config());
    let properties = &message.properties;
    let id = |p: &Option<ShortString>| p.as_ref().map(ToString::to_string);
    assert_eq!(id(properties.correlation_id()).as_deref(), Some("<correlation-id>"));
    assert_eq!(id(properties.kind()).as_deref(), Some("<type>"));
    assert_eq!(properties.delivery_mode(), &Some(2));
    // only the time is left for the table
    assert_eq!(properties.headers().as_ref().unwrap().inner().len(), 1);
    let event = through(&record, &config());
    assert_eq!(*event.headers, *record.headers);
    // what is no short text stays what it is
    let odd = Outgoing::new("t", "x").with_header("type", vec![255]);
    assert_eq!(*through(&odd, &config()).headers, *odd.headers);
}

#[test]
fn values_of_every_type_become_text() {
    let nested: BTreeMap<ShortString, AMQPValue> =
        [("count".into(), AMQPValue::LongLongInt(2)), ("queue".into(), long(Some(&"q".into())))]
            .into();
    let death: FieldArray = vec![AMQPValue::FieldTable(nested.into())].into();
    let event = received(
        table(&[
            ("bool", AMQPValue::Boolean(true)),
            ("byte", AMQPValue::ShortShortUInt(255)),
            ("int", AMQPValue::LongLongInt(-5)),
            ("double", AMQPValue::Double(1.5)),
            ("decimal", AMQPValue::DecimalValue(DecimalValue { scale: 2, value: 125 })),
            ("time", AMQPValue::Timestamp(1_700_000_000)),
            ("never", AMQPValue::Timestamp(u64::MAX)),
            ("void", AMQPValue::Void),
            ("x-death", AMQPValue::FieldArray(death)),
            ("cloudEvents:id", AMQPValue::LongInt(9)),
            ("cloudEvents_time", AMQPValue::Timestamp(0)),
        ]),
        "",
        vec![],
        &config(),
    );
    for (name, expected) in [
        ("bool", "true"),
        ("byte", "255"),
        ("int", "-5"),
        ("double", "1.5"),
        ("decimal", "1.25"),
        ("time", "2023-11-14T22:13:20Z"),
        ("never", "18446744073709551615"),
        ("x-death", r#"[{"count":2,"queue":"q"}]"#),
    ] {
        assert_eq!(text(&event, name).as_deref(), Some(expected), "{name}");
    }
    assert_eq!(event.header("void").unwrap().value, None);
    assert_eq!(event.attribute("id"), Some("9"));
    assert_eq!(event.attribute("time"), Some("1970-01-01T00:00:00Z"));
}

#[test]
fn attributes_travel_as_the_binding_says_and_their_id_as_message_id() {
    let mut record = Outgoing::new("t", "{}");
    let attributes =
        [("id", "1"), ("source", "/s"), ("type", "t"), ("datacontenttype", "application/json")];
    record.attributes = attributes.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect();
    let message = sent(&record, &config());
    let headers = message.properties.headers().as_ref().unwrap().inner();
    assert!(headers.contains_key("cloudEvents_source") && !headers.contains_key("content-type"));
    assert_eq!(message.properties.content_type().as_ref().unwrap().as_str(), "application/json");
    assert_eq!(message.properties.message_id().as_ref().unwrap().as_str(), "1");
    let event = through(&record, &config());
    for (name, value) in attributes {
        assert_eq!(event.attribute(name), Some(value));
    }
    assert_eq!((event.id().as_str(), event.header(MESSAGE_ID)), ("/s#1", None));
}

#[test]
fn i1_a_message_id_is_the_identity_of_a_plain_event() {
    let properties = BasicProperties::default().with_message_id("m-1".into());
    let event = received(properties, "", vec![], &config());
    assert_eq!(event.id(), "m-1");
    assert_eq!(text(&event, MESSAGE_ID).as_deref(), Some("m-1"));
    assert_eq!(received(BasicProperties::default(), "", vec![], &config()).id(), "t/0/7");
}

#[test]
fn times_are_milliseconds_whoever_wrote_them() {
    let seconds = BasicProperties::default().with_timestamp(5);
    assert_eq!(received(seconds, "", vec![], &config()).timestamp_ms, 5000);
    let exact = table(&[(MILLISECONDS, AMQPValue::LongLongInt(5001))]).with_timestamp(5);
    assert_eq!(received(exact, "", vec![], &config()).timestamp_ms, 5001);
    let before = now_ms();
    assert!(through(&Outgoing::new("t", "x"), &config()).timestamp_ms >= before);
    assert!(received(BasicProperties::default(), "", vec![], &config()).timestamp_ms >= before);
}

#[test]
fn redeliveries_are_the_brokers_count() {
    let mut delivery = Delivery::mock(1, "x".into(), "".into(), false, vec![]);
    assert_eq!(redeliveries(&delivery), 0);
    delivery.redelivered = true;
    assert_eq!(redeliveries(&delivery), 1);
    delivery.properties = table(&[(DELIVERY_COUNT, AMQPValue::LongInt(3))]);
    assert_eq!(redeliveries(&delivery), 3);
}

#[test]
fn what_amqp_cannot_carry_is_rejected_before_it_is_sent() {
    let large = Outgoing::new("t", "x").with_header("h", vec![0; 130 * 1024]);
    let name = Outgoing::new("t", "x").with_header("n".repeat(256), "");
    let topic = Outgoing::new("t".repeat(256), "x");
    for (record, expected) in [(large, "128 KiB"), (name, "255 bytes"), (topic, "255 bytes")] {
        let error = Message::new(&record, &config()).unwrap_err().to_string();
        assert!(error.contains(expected) || error.contains("one AMQP frame"), "{error}");
    }
}

#[test]
fn only_what_must_be_read_by_somebody_is_mandatory() {
    assert!(!sent(&Outgoing::new("orders", "x"), &config()).mandatory);
    assert!(sent(&Outgoing::new(reserved::inbox("g"), "x"), &config()).mandatory);
    let strict = RabbitMqConfig { mandatory: true, ..config() };
    assert!(sent(&Outgoing::new("orders", "x"), &strict).mandatory);
}
