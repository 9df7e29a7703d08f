//! A server that is killed in mid-stream and comes back.

mod common;

use std::{collections::HashMap, sync::Arc, time::Duration};

use common::*;
use sandbar_core::{Connection, SourceError, SourceEvent};
use sandbar_testkit::{conformance::Switch, server::NATS};
use tokio::{sync::watch, time::timeout};

const COUNT: u64 = 6000;
const KEYS: u64 = 7;

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_in_mid_stream_loses_nothing_and_keeps_the_order_of_each_key() {
    let (Some(server), Some(node)) = (server(), NATS.killable()) else { return };
    let (topic, group) = (unique("kill"), unique("kill"));
    let nats = Arc::new(server.connect());
    nats.ensure_topics(std::slice::from_ref(&topic)).await.unwrap();
    let (progress, mut seen) = watch::channel(0);

    let writer = {
        let (nats, topic) = (nats.clone(), topic.clone());
        tokio::spawn(async move {
            for part in numbered(&topic, COUNT, KEYS).chunks(100) {
                publish(&nats, part).await;
            }
        })
    };
    let reader = tokio::spawn({
        let (nats, topic, group) = (nats.clone(), topic.clone(), group.clone());
        async move {
            let mut source = nats.subscribe(spec(&group, &topic)).await.unwrap();
            let mut first: HashMap<u64, Vec<u64>> = HashMap::new();
            let mut all = std::collections::HashSet::new();
            let mut partition = assigned(&mut source).await;
            while all.len() < COUNT as usize {
                let ready = tokio::select! {
                    event = source.next() => match event {
                        Ok(SourceEvent::Revoking { drained, .. }) => {
                            drop(partition);
                            drop(drained);
                            partition = assigned(&mut source).await;
                            continue;
                        }
                        Ok(_) => panic!("something else"),
                        Err(SourceError::Unavailable(_)) => continue,
                        Err(e) => panic!("{e}"),
                    },
                    ready = timeout(PATIENCE, partition.recv(50)) => ready.expect("stalled"),
                };
                let ready = match ready {
                    Ok(ready) => ready,
                    Err(SourceError::Fenced(_)) => {
                        drop(partition);
                        partition = assigned(&mut source).await;
                        continue;
                    }
                    Err(e) => panic!("{e}"),
                };
                for n in numbers(&ready) {
                    if all.insert(n) {
                        first.entry(n % KEYS).or_default().push(n);
                    }
                }
                match try_settle(&mut partition, &ready).await {
                    Ok(()) => {}
                    // the server was away for too long: they come again
                    Err(SourceError::Fenced(_)) => {
                        drop(partition);
                        partition = assigned(&mut source).await;
                    }
                    Err(e) => panic!("{e}"),
                }
                progress.send_replace(all.len());
            }
            drop(partition);
            // a quick reader is through before the server is killed for the last time
            match source.close().await {
                Ok(()) | Err(SourceError::Unavailable(_)) => {}
                Err(e) => panic!("{e}"),
            }
            first
        }
    });
    for (at, away) in [(COUNT / 5, 0), (COUNT / 2, 3)] {
        timeout(PATIENCE, seen.wait_for(|n| *n as u64 > at)).await.expect("stalled").unwrap();
        node.kill().await;
        tokio::time::sleep(Duration::from_secs(away)).await;
        node.start().await;
    }
    timeout(PATIENCE, writer).await.expect("writing stalled").unwrap();
    let first = timeout(PATIENCE, reader).await.expect("reading stalled").unwrap();
    for (key, numbers) in first {
        assert!(numbers.is_sorted(), "key {key}: {numbers:?}");
    }
    let stored = read_all(&nats, &topic).await.len() as u64;
    assert!(stored >= COUNT, "{stored}");
}
