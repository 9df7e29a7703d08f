//! A broker that is not there, and a mock that goes away and comes back.

mod common;

use std::time::{Duration, Instant};

use common::*;
use rdkafka::mocking::MockCluster;
use sandbar_core::{Connection, Outgoing, PublishError, ReadFrom, SourceError};

/// An address where nobody listens.
fn nowhere() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_down_at_start_is_reported_and_neither_ends_nor_spins() {
    let brokers = nowhere();
    let kafka = connect(&brokers, 1, &[("message.timeout.ms", "2000")]);
    let began = Instant::now();
    let mut source = kafka.subscribe(spec("g", "t")).await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(2), "subscribe waited for the broker");
    let report = tokio::time::timeout(PATIENCE, source.next()).await.unwrap();
    let Err(SourceError::Unavailable(reason)) = report else { panic!("not reported as away") };
    assert!(reason.contains(&brokers) && reason.contains("group g"), "{reason}");
    let mut reports = 0;
    let watch = async {
        loop {
            match source.next().await {
                Err(SourceError::Unavailable(_)) => reports += 1,
                other => panic!("{}", other.err().map_or("an event".into(), |e| e.to_string())),
            }
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(3), watch).await.is_err());
    assert!(reports <= 6, "{reports} reports in three seconds");

    let sink = kafka.sink();
    let record = [Outgoing::new("t", "x")];
    let (results, topics, read, cursors) = tokio::join!(
        sink.publish(&record),
        kafka.topics(),
        kafka.read("t", ReadFrom::Start),
        kafka.cursors("g")
    );
    assert!(matches!(&results[..], [Err(PublishError::Unavailable(_))]), "{results:?}");
    assert!(matches!(&topics, Err(SourceError::Unavailable(m)) if m.contains("list the topics")));
    assert!(matches!(read, Err(SourceError::Unavailable(_))));
    assert!(matches!(cursors, Err(SourceError::Unavailable(_))));
    // nothing was settled, so nothing is lost by leaving
    tokio::time::timeout(PATIENCE, source.close()).await.expect("closing stalled").unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_comes_back_is_used_again() {
    let mock = MockCluster::new(1).unwrap();
    mock.create_topic("t", 1, 1).unwrap();
    let kafka = connect(&mock.bootstrap_servers(), 1, &[("message.timeout.ms", "3000")]);
    let worker = Worker::start(kafka.subscribe(spec("g", "t")).await.unwrap());
    publish(&kafka, &numbered("t", 5, 1)).await;
    until("five arrive", || worker.handled.lock().len() == 5).await;

    mock.broker_down(1).unwrap();
    let results = kafka.sink().publish(&numbered("t", 2, 1)).await;
    assert!(results.iter().all(|r| matches!(r, Err(PublishError::Unavailable(_)))), "{results:?}");
    let away = worker.away.clone();
    until("it is reported", || away.load(std::sync::atomic::Ordering::Relaxed) > 0).await;

    mock.broker_up(1).unwrap();
    let again = async { while kafka.sink().publish(&numbered("t", 1, 1)).await[0].is_err() {} };
    tokio::time::timeout(PATIENCE, again).await.expect("the producer never came back");
    until("more arrive", || worker.handled.lock().len() > 5).await;
    worker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_while_the_broker_is_away_says_that_the_last_positions_were_not_committed() {
    let mock = MockCluster::new(1).unwrap();
    mock.create_topic("t", 1, 1).unwrap();
    // a commit waits for the coordinator as long as the session lasts
    let properties = [("session.timeout.ms", "6000"), ("max.poll.interval.ms", "6000")];
    let kafka = connect(&mock.bootstrap_servers(), 1, &properties);
    publish(&kafka, &numbered("t", 3, 1)).await;
    let mut source = kafka.subscribe(spec("g", "t")).await.unwrap();
    let mut partition = assigned(&mut source).await;
    let all = recv_all(&mut partition, 3).await;
    mock.broker_down(1).unwrap();
    partition.settle(&all.iter().map(done).collect::<Vec<_>>()).await.unwrap();
    drop(partition);
    let closed = tokio::time::timeout(PATIENCE, source.close()).await.expect("closing stalled");
    let Err(SourceError::Unavailable(reason)) = closed else { panic!("{closed:?}") };
    assert!(reason.contains("delivered again"), "{reason}");
}
