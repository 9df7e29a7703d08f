//! Who gets what: groups, their members, their beginnings, and their topics.

use std::time::Duration;

use sandbar_core::{SourceError, StartAt, SubscriptionSpec, reserved};
use tokio::time::{sleep, timeout};

use super::{
    Bench, Consumer, PATIENCE,
    bench::{spec, unique},
    consumer::{Got, assert_keys_in_order, assert_order, numbers},
};

pub async fn start_at_latest(bench: &Bench) {
    let connection = bench.connect().await;
    let topic = bench.topic(&connection, "latest").await;
    bench.publish(&connection, &bench.numbered(&topic, 0, 10)).await;
    let spec = SubscriptionSpec { start: StartAt::Latest, ..spec(&topic) };
    let mut consumer = bench.open(&connection, &spec).await;
    bench.publish(&connection, &bench.numbered(&topic, 10, 10)).await;
    let got = consumer.take(10).await;
    assert_eq!(numbers(&got), (10..20).collect::<Vec<_>>(), "from its assignment on");
    consumer.done(&got).await.expect("settles");
    consumer.close().await;
    // and where it stopped it goes on
    bench.publish(&connection, &bench.numbered(&topic, 20, 5)).await;
    assert_eq!(numbers(&bench.left(&connection, &spec).await), (20..25).collect::<Vec<_>>());
}

pub async fn start_at_earliest(bench: &Bench) {
    let connection = bench.connect().await;
    let topic = bench.topic(&connection, "earliest").await;
    bench.publish(&connection, &bench.numbered(&topic, 0, 10)).await;
    let left = bench.left(&connection, &spec(&topic)).await;
    assert_eq!(numbers(&left), (0..10).collect::<Vec<_>>());
}

pub async fn globs_see_later_topics(bench: &Bench) {
    let connection = bench.connect().await;
    let prefix = unique("glob");
    let (early, late, other) = (format!("{prefix}-a"), format!("{prefix}-b"), unique("no-glob"));
    bench.make_topic(&connection, &early).await;
    bench.make_topic(&connection, &other).await;
    let mut consumer = bench.open(&connection, &spec(&format!("{prefix}-*"))).await;
    bench.publish(&connection, &bench.numbered(&other, 90, 5)).await;
    bench.publish(&connection, &bench.numbered(&early, 0, 5)).await;
    let mut got = consumer.take(5).await;
    bench.make_topic(&connection, &late).await;
    consumer.assigned(2 * bench.partitions()).await;
    bench.publish(&connection, &bench.numbered(&late, 5, 5)).await;
    got.extend(consumer.take(5).await);
    assert_eq!(numbers(&got), (0..10).collect::<Vec<_>>());
    consumer.done(&got).await.expect("settles");
    consumer.close().await;
}

/// Topics of Sandbar's own are read by who names them exactly.
pub async fn globs_never_match_reserved_topics(bench: &Bench) {
    let connection = bench.connect().await;
    let name = unique("reserved");
    let (own, plain) = (reserved::inbox(&name), format!("plain-{name}"));
    for topic in [&own, &plain] {
        bench.make_topic(&connection, topic).await;
    }
    let exact = spec(&own);
    bench.open(&connection, &exact).await.close().await;
    let mut consumer = bench.open(&connection, &spec(&format!("*{name}"))).await;
    bench.publish(&connection, &bench.numbered(&own, 0, 5)).await;
    bench.publish(&connection, &bench.numbered(&plain, 5, 5)).await;
    let mut got = consumer.take(5).await;
    got.extend(consumer.listen(Duration::from_millis(300)).await);
    assert_eq!(numbers(&got), [5, 6, 7, 8, 9], "of {plain} alone");
    assert!(consumer.partitions().iter().all(|id| *id.topic == *plain));
    consumer.close().await;
    assert_eq!(numbers(&bench.left(&connection, &exact).await), [0, 1, 2, 3, 4]);
}

pub async fn fan_out(bench: &Bench) {
    let connection = bench.connect().await;
    let topic = bench.topic(&connection, "fan-out").await;
    let mut one = bench.open(&connection, &spec(&topic)).await;
    if !bench.guarantees().fan_out {
        let reason = refusal(bench, &spec(&topic)).await.expect("the second group is refused");
        assert!(reason.contains(&topic), "the refusal does not name {topic}: {reason}");
        one.close().await;
        return;
    }
    let mut two = bench.open(&connection, &spec(&topic)).await;
    bench.publish(&connection, &bench.numbered(&topic, 0, 20)).await;
    for consumer in [&mut one, &mut two] {
        let got = consumer.take(20).await;
        assert_eq!(numbers(&got), (0..20).collect::<Vec<_>>(), "every group gets all");
        assert_order(bench.guarantees(), &got);
        consumer.done(&got).await.expect("settles");
    }
    one.close().await;
    two.close().await;
}

/// Why a subscription is refused, if that happens before it is assigned anything.
async fn refusal(bench: &Bench, spec: &SubscriptionSpec) -> Option<String> {
    let connection = bench.connect().await;
    let mut source = match connection.subscribe(spec.clone()).await {
        Ok(source) => source,
        Err(SourceError::Fatal(reason)) => return Some(reason),
        Err(e) => panic!("refused, but not for good: {e}"),
    };
    loop {
        match timeout(PATIENCE, source.next()).await.expect("neither refused nor assigned") {
            Ok(_) => return None,
            Err(SourceError::Fatal(reason)) => return Some(reason),
            Err(_) => {}
        }
    }
}

/// Two subscriptions of one group on two connections.
pub async fn group_in_two_processes(bench: &Bench) {
    let connection = bench.connect().await;
    let topic = bench.topic(&connection, "processes").await;
    let spec = spec(&topic);
    let here = bench.open(&connection, &spec).await;
    let other = bench.connect_elsewhere().await;
    let there = match other.unwrap_or_else(|| connection.clone()).subscribe(spec.clone()).await {
        Ok(source) => Consumer::new(source),
        Err(SourceError::Fatal(reason)) if !bench.guarantees().spread_over_processes => {
            assert!(reason.contains(&spec.group), "the refusal does not name the group: {reason}");
            return here.close().await;
        }
        Err(e) => panic!("the second process was refused: {e}"),
    };
    let mut pair = Pair { members: [Some(here), Some(there)], got: Vec::new() };
    let mut published = 0;
    let mut publish = async |pair: &mut Pair| {
        bench.publish(&connection, &bench.numbered(&topic, published, 20)).await;
        published += 20;
        pair.handle(published as usize).await;
    };
    publish(&mut pair).await;
    if bench.guarantees().spread_over_processes {
        let shared = async {
            while pair.shares().contains(&0) {
                publish(&mut pair).await;
                sleep(Duration::from_millis(50)).await;
            }
        };
        let waited = timeout(PATIENCE, shared).await;
        assert!(waited.is_ok(), "the work is not shared: {:?}", pair.shares());
    }
    // whichever it was that worked, the other takes over
    let first = usize::from(pair.shares()[0] == 0);
    pair.members[first].take().expect("a member").close().await;
    publish(&mut pair).await;
    assert!(pair.shares()[1 - first] > 0);

    let got: Vec<_> = pair.got.iter().map(|(_, got)| got.clone()).collect();
    assert_eq!(numbers(&got), (0..published).collect::<Vec<_>>(), "each once");
    if bench.guarantees().ordered {
        assert_keys_in_order(&got);
    }
    pair.members[1 - first].take().expect("a member").close().await;
    bench.nothing_left(&connection, &spec).await;
}

/// Two members of a group, and what they handled, in that order, with who did.
struct Pair {
    members: [Option<Consumer>; 2],
    got: Vec<(usize, Got)>,
}

impl Pair {
    /// Settles whatever comes to either until `count` events are handled in all.
    async fn handle(&mut self, count: usize) {
        let handling = async {
            while self.got.len() < count {
                let [here, there] = &mut self.members;
                let (who, step) = tokio::select! {
                    step = step(here) => (0, step),
                    step = step(there) => (1, step),
                };
                let got = step.unwrap_or_else(|e| panic!("member {who} ended: {e}"));
                if let Some(member) = &mut self.members[who] {
                    member.done(&got).await.expect("settles");
                }
                self.got.extend(got.into_iter().map(|got| (who, got)));
            }
        };
        let waited = timeout(PATIENCE, handling).await;
        let got: Vec<_> = self.got.iter().map(|(_, got)| got.clone()).collect();
        assert!(waited.is_ok(), "{} of {count} events came: {:?}", got.len(), numbers(&got));
    }

    /// How much each has handled.
    fn shares(&self) -> [usize; 2] {
        [0, 1].map(|who| self.got.iter().filter(|(w, _)| *w == who).count())
    }
}

async fn step(member: &mut Option<Consumer>) -> Result<Vec<Got>, SourceError> {
    match member {
        Some(member) => member.step(5).await,
        None => std::future::pending().await,
    }
}
