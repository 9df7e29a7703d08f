//! What goes in comes out, and what cannot go in says why.

use std::{
    collections::BTreeSet,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use sandbar_core::{Event, Header, Outgoing, PublishError, Sink};
use tokio::time::{sleep, timeout};

use super::{
    Bench, PATIENCE,
    bench::spec,
    consumer::{Got, numbers},
};

/// Publishes `records` to a topic of their own and gives what arrives, in the order of
/// the records, which a number in a header tells.
async fn through(bench: &Bench, what: &str, mut records: Vec<Outgoing>) -> Vec<Event> {
    let connection = bench.connect().await;
    let topic = bench.topic(&connection, what).await;
    let spec = spec(&topic);
    let mut consumer = bench.open(&connection, &spec).await;
    for (n, record) in records.iter_mut().enumerate() {
        record.topic = topic.as_str().into();
        record.headers.insert(0, Header::new(NUMBER, n.to_string()));
    }
    bench.publish(&connection, &records).await;
    let mut got = bench.handle(&mut consumer, records.len()).await;
    got.sort_by_key(header_number);
    consumer.close().await;
    bench.nothing_left(&connection, &spec).await;
    got.into_iter().map(|g| g.delivery.event).collect()
}

const NUMBER: &str = "number";

fn header_number(got: &Got) -> usize {
    let header = got.event().header(NUMBER).and_then(|h| h.value.clone()).expect("its number");
    String::from_utf8(header.to_vec()).expect("text").parse().expect("a number")
}

pub async fn payloads_and_keys(bench: &Bench) {
    let every_byte: Vec<u8> = (0..=255).collect();
    let record = |payload: &[u8]| Outgoing::new("", payload.to_vec());
    let records = vec![
        record(b"plain"),
        record(&every_byte),
        record(b""),
        record(b"\0"),
        record(b"\xff\xfe\0\r\n"),
        record("{\"text\": \"ü ✓ \u{1F600}\"}\r\n ".as_bytes()),
        record(b"with a key").with_key("key"),
        record(b"with a binary key").with_key(every_byte.clone()),
        record(b"with an empty key").with_key(""),
        record(b"with a key that is text").with_key("schlüssel 1/2: a=b"),
    ];
    let arrived = through(bench, "payloads", records.clone()).await;
    for (event, sent) in arrived.iter().zip(&records) {
        assert_eq!((&event.payload, &event.key), (&sent.payload, &sent.key));
    }
}

/// Bytes that no compression makes small.
fn noise(length: usize) -> Bytes {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut byte = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    (0..length).map(|_| byte()).collect()
}

pub async fn large_records(bench: &Bench) {
    let payload = noise(bench.declared().largest_payload);
    let records = vec![Outgoing::new("", payload).with_key("key"); 3];
    let arrived = through(bench, "large", records.clone()).await;
    for (event, sent) in arrived.iter().zip(&records) {
        assert!(event.payload == sent.payload && event.key == sent.key, "it arrives as it was");
    }
}

/// The result for each of `records`, published together, again while the broker is not
/// ready; fails where that has no end.
async fn results(sink: &dyn Sink, records: &[Outgoing]) -> Vec<Result<(), PublishError>> {
    let publishing = async {
        let mut results = sink.publish(records).await;
        assert_eq!(results.len(), records.len(), "one result per record");
        for (result, record) in results.iter_mut().zip(records) {
            while matches!(result, Err(PublishError::Unavailable(_))) {
                sleep(Duration::from_millis(20)).await;
                let again = sink.publish(std::slice::from_ref(record)).await;
                *result = again.into_iter().next().expect("one result per record");
            }
        }
        results
    };
    let waited = timeout(PATIENCE, publishing).await;
    waited.expect("`Unavailable` without end: what can never work is `Rejected`")
}

pub async fn too_large_is_rejected(bench: &Bench) {
    let connection = bench.connect().await;
    let topic = bench.topic(&connection, "too-large").await;
    let spec = spec(&topic);
    let mut consumer = bench.open(&connection, &spec).await;
    let mut records = bench.numbered(&topic, 0, 3);
    records[1].payload = Some(noise(bench.declared().too_large.expect("a bound")));
    let results = results(&*connection.sink(), &records).await;
    assert!(matches!(results[..], [Ok(()), Err(PublishError::Rejected(_)), Ok(())]), "{results:?}");
    let mut got = consumer.take(2).await;
    // a sink that loses its channel over it may publish again what was not confirmed by then
    let distinct = |got: &[Got]| numbers(got).into_iter().collect::<BTreeSet<_>>();
    while distinct(&got).len() < 2 {
        got.extend(consumer.take(1).await);
    }
    assert_eq!(distinct(&got), [0, 2].into());
    consumer.done(&got).await.expect("settles");
    consumer.close().await;
    bench.nothing_left(&connection, &spec).await;
}

/// One record of a batch that can never be published fails alone.
pub async fn publish_failure_per_record(bench: &Bench) {
    let connection = bench.connect().await;
    let topic = bench.topic(&connection, "failures").await;
    let mut consumer = bench.open(&connection, &spec(&topic)).await;
    let mut records = bench.numbered(&topic, 0, 4);
    let no_topic = "no topic *";
    for n in [0, 2] {
        records[n].topic = no_topic.into();
    }
    let results = results(&*connection.sink(), &records).await;
    for (n, result) in results.iter().enumerate() {
        match result {
            Ok(()) => assert_eq!(n % 2, 1, "{no_topic} was published to"),
            Err(PublishError::Rejected(reason)) => {
                assert_eq!(n % 2, 0, "record {n} was rejected: {reason}");
                assert!(reason.contains(no_topic), "it does not name the topic: {reason}");
            }
            Err(e) => panic!("record {n}: {e}"),
        }
    }
    let got = consumer.take(2).await;
    assert_eq!(numbers(&got), [1, 3]);
    consumer.done(&got).await.expect("settles");
    consumer.close().await;
}

/// A topic that does not exist, and may not be made, is named.
pub async fn unknown_topics_are_named(bench: &Bench) {
    let connection = bench.connect_strict().await;
    let topic = super::bench::unique("unknown");
    let ensured = [topic.clone()];
    bench.refused("ensure_topics", &topic, || connection.ensure_topics(&ensured)).await;
    bench.refused("read", &topic, || connection.read(&topic, sandbar_core::ReadFrom::Start)).await;
    let results = results(&*connection.sink(), &[Outgoing::new(&*topic, "lost")]).await;
    match &results[..] {
        [Err(PublishError::Rejected(reason))] => {
            assert!(reason.contains(&topic), "it does not name the topic: {reason}");
        }
        other => panic!("published to an unknown topic: {other:?}"),
    }
}

pub async fn headers(bench: &Bench) {
    let keeps = bench.declared().headers;
    let mut record = Outgoing::new("", "with headers");
    for n in 0..10 {
        // not in the order of their names
        record = record.with_header(format!("x-{}", (n * 7) % 10), format!("value {n}"));
    }
    record = record
        .with_header("Mixed_Case.Name", "text: ü ✓, with \"quotes\"")
        .with_header("binary", &b"\xff\xfe\0\r\n"[..])
        .with_header("empty", "");
    if keeps.repeated {
        record = record.with_header("x-0", "again").with_header("x-0", "and again");
    }
    if keeps.null {
        record.headers.push(Header { name: "null".into(), value: None });
    }
    let plain = Outgoing::new("", "without");
    let [arrived, bare] = through(bench, "headers", vec![record.clone(), plain])
        .await
        .try_into()
        .expect("both arrived");
    let mut expected = record.headers;
    expected.insert(0, Header::new(NUMBER, "0"));
    let mut headers = arrived.headers.to_vec();
    if !keeps.ordered {
        for all in [&mut expected, &mut headers] {
            all.sort_by(|a, b| a.name.cmp(&b.name));
        }
    }
    assert_eq!(headers, expected, "all of them, and no others");
    assert_eq!(bare.headers[..], [Header::new(NUMBER, "1")]);
}

pub async fn cloudevents_attributes(bench: &Bench) {
    let sorted = |attributes: &[(String, String)]| {
        let mut attributes = attributes.to_vec();
        attributes.sort();
        attributes
    };
    let mut record = Outgoing::new("", "{}").with_header("x-other", "1");
    record.attributes = [
        ("specversion", "1.0"),
        ("id", "A234-1234-1234"),
        ("source", "https://example.com/storage/tenant?a=b%20c"),
        ("type", "com.example.someevent"),
        ("subject", "größe ✓ 100 % \"x\""),
        ("time", "2018-04-05T17:31:00Z"),
        ("dataschema", "https://example.com/schema"),
        ("datacontenttype", "application/json"),
        ("comexampleextension1", "value"),
        ("comexampleothervalue", "5"),
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b9c7c989f97918e1-01"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .to_vec();
    let plain = Outgoing::new("", "a plain event");
    let [arrived, bare] = through(bench, "cloudevents", vec![record.clone(), plain])
        .await
        .try_into()
        .expect("both arrived");
    assert_eq!(sorted(&arrived.attributes), sorted(&record.attributes));
    assert_eq!(arrived.id(), "https://example.com/storage/tenant?a=b%20c#A234-1234-1234");
    assert_eq!(arrived.payload.as_deref(), Some(&b"{}"[..]));
    assert!(bare.attributes.is_empty(), "{:?}", bare.attributes);
}

pub async fn tombstones(bench: &Bench) {
    let empty = || Outgoing::new("", "").with_key("key");
    let tombstone = Outgoing { payload: None, ..empty() };
    if bench.guarantees().tombstones {
        let arrived = through(bench, "tombstones", vec![tombstone, empty()]).await;
        assert_eq!((&arrived[0].payload, &arrived[1].payload), (&None, &Some(Bytes::new())));
        assert!(arrived.iter().all(|e| e.key.as_deref() == Some(&b"key"[..])));
        return;
    }
    let connection = bench.connect().await;
    let topic = bench.topic(&connection, "tombstones").await;
    let mut consumer = bench.open(&connection, &spec(&topic)).await;
    let records = [Outgoing { topic: topic.as_str().into(), ..tombstone }];
    match &results(&*connection.sink(), &records).await[..] {
        [Ok(())] => {
            let got = consumer.take(1).await;
            assert_eq!(got[0].event().payload, Some(Bytes::new()), "as empty");
            consumer.done(&got).await.expect("settles");
        }
        [Err(PublishError::Rejected(_))] => {}
        other => panic!("{other:?}"),
    }
    consumer.close().await;
}

/// A record that nobody can decode is delivered as the bytes that it has.
pub async fn poison(bench: &Bench) {
    let envelope = Outgoing::new("", "{\"specversion\":\"1.0\",")
        .with_header("content-type", "application/cloudevents+json");
    let attribute = Outgoing::new("", &b"\xc3\x28"[..])
        .with_header("ce_id", &b"\xff\xfe"[..])
        .with_header("content-type", "application/json; charset=\"");
    let records = vec![envelope, attribute, Outgoing::new("", "sound")];
    let arrived = through(bench, "poison", records.clone()).await;
    for (event, sent) in arrived.iter().zip(&records) {
        assert_eq!(event.payload, sent.payload);
        for header in &sent.headers {
            assert_eq!(event.header(&header.name), Some(header));
        }
    }
    assert_eq!(arrived[1].attribute("id"), None, "what is no text is no attribute");
}

pub async fn timestamps(bench: &Bench) {
    let now = || {
        let now = SystemTime::UNIX_EPOCH.elapsed().expect("a clock after 1970").as_millis();
        u64::try_from(now).expect("not that late")
    };
    let before = now();
    let arrived = through(bench, "timestamps", vec![Outgoing::new("", "now")]).await;
    let timestamp = arrived[0].timestamp_ms;
    // brokers may run on other clocks, and cut off below the second
    let around = before.saturating_sub(2_000)..=now() + 2_000;
    assert!(around.contains(&timestamp), "{timestamp} is not in {around:?}");
}
