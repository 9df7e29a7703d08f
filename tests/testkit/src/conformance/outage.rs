//! The broker goes away, and comes back.

use std::{collections::BTreeSet, time::Duration};

use sandbar_core::{PublishError, SourceError};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

use super::{
    Bench, Got, PATIENCE,
    bench::spec,
    consumer::{number, numbers},
};

/// Longer than [`PATIENCE`]: a broker may take its time to be itself again.
const RECOVERY: Duration = Duration::from_secs(120);

/// It is killed under a subscription and a publisher, and started again: both go on, and
/// nothing that was published or not settled is lost.
pub async fn broker_restart(bench: &Bench) {
    let connection = bench.connect().await;
    let topic = bench.topic(&connection, "restart").await;
    let spec = spec(&topic);
    let mut consumer = bench.open(&connection, &spec).await;
    bench.publish(&connection, &bench.numbered_to_hold(&topic, 0, 20, 10)).await;
    let before = consumer.take(10).await;
    consumer.done(&before[..5]).await.expect("settles");
    let mut handled: BTreeSet<u64> = before[..5].iter().map(number).collect();
    let mut waiting = before[5..].to_vec();

    bench.switch().kill().await;
    // what was not published yet, and why
    let (tell, unpublished) = watch::channel((20, String::new()));
    let publisher = {
        let (sink, mut rest) = (connection.sink(), bench.numbered(&topic, 20, 20));
        tokio::spawn(async move {
            let mut away = 0;
            while !rest.is_empty() {
                let results = sink.publish(&rest).await;
                let mut reason = String::new();
                let again = |result: &Result<(), PublishError>| match result {
                    Ok(()) => false,
                    Err(PublishError::Unavailable(why)) => {
                        reason.clone_from(why);
                        true
                    }
                    Err(e) => panic!("what a broker that is away does not take is lost: {e}"),
                };
                let mut again = results.iter().map(again);
                rest.retain(|_| again.next() == Some(true));
                tell.send_replace((rest.len(), reason));
                away += u64::from(!rest.is_empty());
                sleep(Duration::from_millis(50)).await;
            }
            away
        })
    };
    // the source reports and goes on trying; a fatal error of it fails here
    waiting.extend(consumer.listen(Duration::from_secs(1)).await);
    bench.switch().start().await;

    let all: BTreeSet<u64> = (0..40).collect();
    let recovering = async {
        loop {
            match consumer.done(&waiting).await {
                Ok(()) => handled.extend(waiting.iter().map(number)),
                // they come again
                Err(SourceError::Fenced(_)) => {}
                Err(e) => panic!("settling ended: {e}"),
            }
            if handled == all {
                return;
            }
            waiting = consumer.step(10).await.unwrap_or_else(|e| panic!("intake ended: {e}"));
        }
    };
    let waited = timeout(RECOVERY, recovering).await;
    let missing: Vec<_> = all.difference(&handled).collect();
    assert!(waited.is_ok(), "{missing:?} never came; unpublished: {:?}", *unpublished.borrow());
    publisher.await.expect("the publisher goes on");
    // What comes twice: settlements may have gone down with the broker. It comes when its lease is over.
    let lease = bench.declared().lease.unwrap_or_default();
    let rest: Vec<Got> = consumer.listen(lease + Duration::from_millis(300)).await;
    consumer.done(&rest).await.expect("settles");
    consumer.close().await;
    bench.nothing_left(&connection, &spec).await;
}

/// Who connects to a broker that is away is told so, and connected when it is there.
pub async fn connect_while_the_broker_is_away(bench: &Bench) {
    let connection = bench.connect().await;
    let topic = bench.topic(&connection, "away").await;
    let spec = spec(&topic);
    bench.open(&connection, &spec).await.close().await;
    bench.switch().kill().await;
    let late = bench.connect().await;
    let mut consumer = bench.subscribe(&late, &spec).await;
    let listed = timeout(PATIENCE, late.topics()).await.expect("an answer");
    assert!(matches!(listed, Err(SourceError::Unavailable(_))), "{listed:?}");
    assert!(consumer.listen(Duration::from_millis(500)).await.is_empty());
    bench.switch().start().await;
    consumer.assigned(bench.partitions()).await;
    bench.publish(&late, &bench.numbered(&topic, 0, 5)).await;
    let got = consumer.take(5).await;
    assert_eq!(numbers(&got), [0, 1, 2, 3, 4]);
    consumer.done(&got).await.expect("settles");
    consumer.close().await;
}
