//! What is special about SQS, against both servers that stand in for it.

mod common;

use std::{future::Future, time::Duration};

use aws_sdk_sqs::types::{MessageAttributeValue, MessageSystemAttributeName};
use common::{LEASE, Server, unique};
use sandbar_broker_sqs::Sqs;
use sandbar_core::{
    AckToken, Connection, Delivery, Disposition, Outgoing, Partition, PublishError, Settlement,
    Source, SourceError, SourceEvent, SubscriptionSpec,
};
use tokio::time::timeout;

/// Longest that anything here may take; what is waited for is a condition.
const PATIENCE: Duration = Duration::from_secs(60);

async fn on_both<F: Future<Output = ()>>(test: impl Fn(Server) -> F) {
    for server in [common::moto(), common::elasticmq()].into_iter().flatten() {
        println!("against {}", server.endpoint);
        test(server).await;
    }
}

/// A topic that exists, and a subscription of it.
async fn subscribed(sqs: &Sqs, topic: &str) -> (Box<dyn Source>, Box<dyn Partition>) {
    let spec = SubscriptionSpec::new(format!("g-{topic}"), vec![topic.to_owned()]);
    let mut source = sqs.subscribe(spec).await.unwrap();
    let partition = assigned(&mut source).await;
    (source, partition)
}

async fn assigned(source: &mut Box<dyn Source>) -> Box<dyn Partition> {
    loop {
        match timeout(PATIENCE, source.next()).await.expect("no event came") {
            Ok(SourceEvent::Assigned(partition)) => return partition,
            Ok(_) => panic!("SQS takes no partition away"),
            Err(SourceError::Unavailable(_)) => {}
            Err(e) => panic!("{e}"),
        }
    }
}

async fn take(partition: &mut Box<dyn Partition>, count: usize) -> Vec<Delivery> {
    let mut all = Vec::new();
    while all.len() < count {
        let more = timeout(PATIENCE, partition.recv(count - all.len())).await;
        all.extend(more.expect("no event came").unwrap());
    }
    all
}

async fn either(one: &mut Box<dyn Partition>, two: &mut Box<dyn Partition>) -> Vec<Delivery> {
    tokio::select! {
        got = take(one, 1) => got,
        got = take(two, 1) => got,
    }
}

fn texts(deliveries: &[Delivery]) -> Vec<&str> {
    fn text(delivery: &Delivery) -> &str {
        std::str::from_utf8(delivery.event.payload.as_deref().unwrap()).unwrap()
    }
    deliveries.iter().map(text).collect()
}

async fn publish(sqs: &Sqs, records: &[Outgoing]) {
    for result in sqs.sink().publish(records).await {
        result.unwrap();
    }
}

async fn done(partition: &mut Box<dyn Partition>, deliveries: &[Delivery]) {
    let all: Vec<_> = deliveries.iter().map(|d| Settlement::done(d.token)).collect();
    partition.settle(&all).await.unwrap();
}

fn release(token: AckToken) -> Settlement {
    Settlement { token, disposition: Disposition::Release { after: Duration::ZERO } }
}

async fn close(source: Box<dyn Source>, partition: Box<dyn Partition>) {
    drop(partition);
    timeout(PATIENCE, source.close()).await.expect("closing stalled").unwrap();
}

#[tokio::test]
async fn a_message_group_is_locked_while_one_of_it_is_in_work() {
    on_both(async |server| {
        let topic = unique("lock");
        let (one, two) = (server.connect(|c| c.fifo = true), server.connect(|c| c.fifo = true));
        let (source, mut here) = subscribed(&one, &topic).await;
        let keyed = |key: &str, text: &str| {
            Outgoing::new(&*topic, text.to_owned()).with_key(key.to_owned())
        };
        publish(&one, &[keyed("a", "a1")]).await;
        let first = take(&mut here, 1).await;
        // later ones of its group wait for it, wherever they could go
        publish(&one, &[keyed("a", "a2"), keyed("b", "b1")]).await;
        let (other, mut there) = subscribed(&two, &topic).await;
        assert_eq!(texts(&either(&mut here, &mut there).await), ["b1"]);
        // well beyond the timeout, which is extended
        assert!(timeout(LEASE * 2, here.recv(1)).await.is_err());
        assert!(timeout(LEASE, there.recv(1)).await.is_err());
        done(&mut here, &first).await;
        assert_eq!(texts(&either(&mut here, &mut there).await), ["a2"]);
        close(source, here).await;
        close(other, there).await;
    })
    .await;
}

#[tokio::test]
async fn a_release_does_not_let_later_ones_of_its_key_pass() {
    on_both(async |server| {
        let topic = unique("order");
        let sqs = server.connect(|c| c.fifo = true);
        let (source, mut partition) = subscribed(&sqs, &topic).await;
        let keyed = |n: u32| Outgoing::new(&*topic, n.to_string()).with_key("k");
        publish(&sqs, &[keyed(1), keyed(2), keyed(3)]).await;
        let first = take(&mut partition, 1).await;
        partition.settle(&[release(first[0].token)]).await.unwrap();
        let mut seen = Vec::new();
        for _ in 0..3 {
            let one = take(&mut partition, 1).await;
            seen.extend(texts(&one).iter().map(|t| (*t).to_owned()));
            done(&mut partition, &one).await;
        }
        assert_eq!(seen, ["1", "2", "3"]);
        close(source, partition).await;
    })
    .await;
}

#[tokio::test]
async fn sqs_drops_the_same_event_and_no_other() {
    on_both(async |server| {
        let topic = unique("dedup");
        let sqs = server.connect(|c| c.fifo = true);
        let (source, mut partition) = subscribed(&sqs, &topic).await;
        let mut event = Outgoing::new(&*topic, "x").with_key("k");
        let plain = event.clone();
        event.attributes = vec![("id".into(), "1".into()), ("source".into(), "/s".into())];
        let retried = event.clone().with_header("attempt", "2");
        let last = Outgoing::new(&*topic, "last").with_key("k");
        publish(&sqs, &[event.clone(), event, retried, plain.clone(), plain, last]).await;
        let mut got = Vec::new();
        while !texts(&got).contains(&"last") {
            // nothing of a group comes while one of it is in work
            let one = take(&mut partition, 1).await;
            done(&mut partition, &one).await;
            got.extend(one);
        }
        assert_eq!(texts(&got), ["x", "x", "x", "x", "last"]);
        let ids: Vec<_> = got.iter().map(|d| d.event.attribute("id").is_some()).collect();
        assert_eq!(ids, [true, true, false, false, false]);
        close(source, partition).await;
    })
    .await;
}

#[tokio::test]
async fn the_size_limit_of_the_queue_is_known_before_sending() {
    on_both(async |server| {
        let topic = unique("limit");
        let (sqs, raw) = (server.connect(|_| {}), server.raw());
        let made = raw.create_queue().queue_name(&topic);
        let limit = aws_sdk_sqs::types::QueueAttributeName::MaximumMessageSize;
        let made = made.attributes(limit.clone(), "2048").send().await.unwrap();
        let said = raw.get_queue_attributes().queue_url(made.queue_url().unwrap());
        let said = said.attribute_names(limit.clone()).send().await.unwrap();
        let said = said
            .attributes()
            .and_then(|all| all.get(&limit))
            .map_or(262_144, |size| size.parse().unwrap());
        let record =
            |size: usize| Outgoing::new(&*topic, vec![b'x'; size - 8]).with_header("a", "b");
        let results = sqs.sink().publish(&[record(said), record(said + 1)]).await;
        assert!(results[0].is_ok(), "{results:?}");
        let Err(PublishError::Rejected(reason)) = &results[1] else { panic!("{results:?}") };
        assert!(reason.contains(&format!("takes {said}")), "{reason}");
    })
    .await;
}

#[tokio::test]
async fn a_queue_that_is_deleted_fences_its_partition_and_is_made_anew() {
    on_both(async |server| {
        let topic = unique("gone");
        let (sqs, raw) = (server.connect(|_| {}), server.raw());
        let (mut source, mut partition) = subscribed(&sqs, &topic).await;
        publish(&sqs, &[Outgoing::new(&*topic, "lost")]).await;
        let lost = take(&mut partition, 1).await;
        let url = raw.get_queue_url().queue_name(&topic).send().await.unwrap();
        raw.delete_queue().queue_url(url.queue_url().unwrap()).send().await.unwrap();
        let fenced = timeout(PATIENCE, partition.recv(1)).await.expect("nothing was noticed");
        assert!(matches!(fenced, Err(SourceError::Fenced(_))), "{fenced:?}");
        let late = partition.settle(&[Settlement::done(lost[0].token)]).await;
        assert!(matches!(late, Err(SourceError::Fenced(_))), "{late:?}");
        drop(partition);
        let mut partition = assigned(&mut source).await;
        publish(&sqs, &[Outgoing::new(&*topic, "new")]).await;
        let new = take(&mut partition, 1).await;
        assert_eq!(texts(&new), ["new"]);
        done(&mut partition, &new).await;
        close(source, partition).await;
    })
    .await;
}

#[tokio::test]
async fn messages_of_others_are_understood_and_ours_are_plain_to_them() {
    on_both(async |server| {
        let topic = unique("others");
        let (sqs, raw) = (server.connect(|c| c.fifo = true), server.raw());
        let (source, mut partition) = subscribed(&sqs, &topic).await;
        let url = raw.get_queue_url().queue_name(format!("{topic}.fifo")).send().await.unwrap();
        let url = url.queue_url().unwrap();
        let number = MessageAttributeValue::builder().data_type("Number").string_value("7").build();
        let sent = raw.send_message().queue_url(url).message_body("{}").message_group_id("g");
        let sent = sent.message_deduplication_id("1").message_attributes("n", number.unwrap());
        sent.send().await.unwrap();
        let theirs = take(&mut partition, 1).await;
        let event = &theirs[0].event;
        assert_eq!(
            (event.key.as_deref(), event.payload.as_deref()),
            (Some(&b"g"[..]), Some(&b"{}"[..]))
        );
        assert_eq!(event.header("n").unwrap().value.as_deref(), Some(&b"7"[..]));
        assert!(event.timestamp_ms > 1_600_000_000_000);
        done(&mut partition, &theirs).await;
        close(source, partition).await;

        let mut record = Outgoing::new(&*topic, "text").with_key("k").with_header("h", "1");
        record.attributes = vec![("id".into(), "1".into())];
        publish(&sqs, &[record]).await;
        let ours = raw.receive_message().queue_url(url).message_attribute_names("All");
        let ours = ours
            .message_system_attribute_names(MessageSystemAttributeName::All)
            .wait_time_seconds(10);
        let ours = ours.send().await.unwrap().messages.unwrap().remove(0);
        assert_eq!(ours.body(), Some("text"));
        let group = ours.attributes().unwrap().get(&MessageSystemAttributeName::MessageGroupId);
        assert_eq!(group.map(String::as_str), Some("k"));
        let attributes = ours.message_attributes().unwrap();
        for (name, value) in [("sandbar-key", "k"), ("ce_id", "1"), ("h", "1")] {
            assert_eq!(attributes[name].string_value(), Some(value), "{name}");
        }
    })
    .await;
}
