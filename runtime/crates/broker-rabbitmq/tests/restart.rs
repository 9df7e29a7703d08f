//! RabbitMQ is killed in mid-stream, and comes back.

mod common;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use common::*;
use sandbar_core::{Connection, PublishError, SourceError};
use sandbar_testkit::{conformance::Switch, server::RABBITMQ};

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_killed_in_mid_stream_loses_nothing() {
    const COUNT: u64 = 3000;
    let (Some(broker), Some(node)) = (broker(), RABBITMQ.killable()) else { return };
    let (topic, group) = (unique("killed"), unique("g"));
    let rabbit = Arc::new(broker.connect(|_| {}));
    let mut source = rabbit.subscribe(spec(&group, &topic)).await.unwrap();
    let mut partition = assigned(&mut source).await;
    let publisher = tokio::spawn({
        let (rabbit, topic) = (rabbit.clone(), topic.clone());
        async move {
            for first in (0..COUNT).step_by(50) {
                let mut rest = numbered(&topic, first, 50, 7);
                while !rest.is_empty() {
                    let results = rabbit.sink().publish(&rest).await;
                    let mut again = results.iter().map(|result| match result {
                        Ok(()) => false,
                        Err(PublishError::Unavailable(_)) => true,
                        Err(e) => panic!("{e}"),
                    });
                    rest.retain(|_| again.next().unwrap());
                    drop(again);
                    if !rest.is_empty() {
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                }
            }
        }
    });
    let mut seen = BTreeSet::new();
    let mut fences = 0;
    let streaming = async {
        while seen.len() < COUNT as usize {
            let worked = async {
                let ready = partition.recv(64).await?;
                partition.settle(&ready.iter().map(done).collect::<Vec<_>>()).await?;
                Ok::<_, SourceError>(ready)
            };
            match worked.await {
                Ok(ready) => seen.extend(ready.iter().map(number)),
                Err(SourceError::Fenced(_)) => {
                    fences += 1;
                    partition = assigned(&mut source).await;
                }
                Err(e) => panic!("{e}"),
            }
            if seen.len() > 500 && fences == 0 {
                node.kill().await;
                node.start().await;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(150), streaming).await.expect("the stream stalled");
    assert_eq!(seen, (0..COUNT).collect::<BTreeSet<_>>());
    assert!(fences > 0, "it was killed");
    publisher.await.unwrap();
}
