//! Contract R5: without an order to keep, a long retry waits in a topic.

use std::{sync::Arc, time::Duration};

use sandbar_core::{ErrorClass, HandlerError, PublishError, SourceError, Verdict};
use sandbar_pipeline::{
    DeadLetter, Ordering, Parcel, Reason, RetryPolicy, RetryTier, State, SubscriptionConfig,
};
use tokio::time::{Instant, sleep};

use crate::support::{
    Broker, FakeHandler, History, Running, WALL_MS, broker::stored, config, courier, inbox, p,
    until,
};

const SECOND: Duration = Duration::from_secs(1);
const TIERS: [&str; 2] = ["tier.5s", "tier.30s"];

/// Retries after 4, 8, 16, 32 ... seconds.
fn tiered() -> SubscriptionConfig {
    let tier =
        |seconds: u32, topic: &str| RetryTier { delay: SECOND * seconds, topic: topic.into() };
    SubscriptionConfig {
        ordering: Ordering::None,
        // in no order
        retry_tiers: vec![tier(30, TIERS[1]), tier(5, TIERS[0])],
        retry: RetryPolicy { max_attempts: 6, initial_delay: 4 * SECOND, ..config().retry },
        ..config()
    }
}

fn brokers() -> [Arc<Broker>; 2] {
    [Broker::new(), Broker::atomic()]
}

fn failing(history: &Arc<History>) -> Arc<FakeHandler> {
    FakeHandler::new(history, |_| async {
        Err(HandlerError::new(ErrorClass::Handler, Verdict::Retry { after: None }, "not now"))
    })
}

async fn start(
    broker: &Arc<Broker>,
    config: SubscriptionConfig,
    handler: Arc<FakeHandler>,
) -> Running {
    let running = Running::on_partition(broker, config, handler).await;
    running.assign(inbox()).await;
    running
}

#[tokio::test(start_paused = true)]
async fn r5_a_retry_waits_in_the_topic_of_the_longest_delay_that_fits_and_holds_nothing() {
    for broker in brokers() {
        let history = History::new();
        broker.append(Some("k"), "x");
        courier(&broker, &TIERS);
        let running = start(&broker, tiered(), failing(&history)).await;
        until("the second attempt has failed", || broker.committed(&p(0)) == 1).await;
        assert_eq!(history.began(), [(0, 1), (0, 2)], "four seconds are waited for in memory");
        assert_eq!(running.stats.in_flight.get(), 0);
        until("it is buried", || running.stats.dead_lettered.total() == 1).await;
        let tiers = TIERS.map(|tier| broker.published(tier));
        let said = tiers.each_ref().map(|records| {
            let parcels = records.iter().map(|r| Parcel::open(&stored(r.clone())).unwrap());
            parcels.map(|p| (p.attempt, p.due_ms - WALL_MS)).collect::<Vec<_>>()
        });
        // each a millisecond late at most
        assert_eq!(said, [vec![(3, 12_001), (4, 28_002)], vec![(5, 60_003), (6, 124_004)]]);
        let parcel = Parcel::open(&stored(tiers[0][0].clone())).unwrap();
        assert_eq!((parcel.to.as_str(), parcel.reason), ("sandbar.plug", Reason::Retry));
        assert_eq!(parcel.event, Broker::events(&broker)[0], "the event as it came");
        let stats = &running.stats;
        assert_eq!((stats.delayed.get(), stats.retried.of(ErrorClass::Handler).get()), (4, 5));
        running.drain(SECOND).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn r5_r1_r2_attempts_are_never_early_and_limited_across_topics() {
    for broker in brokers() {
        let history = History::new();
        broker.append(None, "x");
        courier(&broker, &TIERS);
        let running = start(&broker, tiered(), failing(&history)).await;
        until("it is buried", || running.stats.dead_lettered.total() == 1).await;
        let began: Vec<_> = (1..=6).map(|n| history.began_at(0, n).unwrap()).collect();
        for (pair, wanted) in began.windows(2).zip([4, 8, 16, 32, 64]) {
            let waited = pair[1] - pair[0];
            assert!(waited >= SECOND * wanted, "{waited:?} instead of {wanted} s");
            assert!(waited < SECOND * wanted + SECOND / 10, "{waited:?} instead of {wanted} s");
        }
        assert_eq!(history.began().len(), 6);
        let letter = DeadLetter::parse(&stored(broker.published("plug.dlq")[0].clone())).unwrap();
        assert_eq!((letter.topic.as_str(), letter.partition, letter.offset), ("orders", 0, 0));
        assert_eq!((letter.attempts, letter.redrives), (6, 0));
        assert_eq!(letter.first_failed_at, "2026-11-21T10:30:00.000Z");
        assert_eq!(letter.last_failed_at, "2026-11-21T10:32:04.004Z");
        running.drain(SECOND).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn r5_r2_age_counts_from_the_first_attempt_and_not_from_the_inbox() {
    let (broker, history) = (Broker::new(), History::new());
    broker.append(None, "x");
    courier(&broker, &TIERS);
    // 4 + 8 + 16 fit, another 32 do not
    let retry = RetryPolicy { max_age: 40 * SECOND, ..tiered().retry };
    let running = start(&broker, SubscriptionConfig { retry, ..tiered() }, failing(&history)).await;
    until("it is buried", || running.stats.dead_lettered.total() == 1).await;
    assert_eq!(history.began().len(), 4);
    running.drain(SECOND).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn r5_r7_an_attempt_that_fails_during_a_drain_goes_on_elsewhere() {
    for broker in brokers() {
        let history = History::new();
        broker.append(None, "x");
        let handler = FakeHandler::new(&history, |call| async move {
            sleep(5 * SECOND).await;
            let after = Some(10 * SECOND);
            match call.attempt {
                1 => Err(HandlerError::new(ErrorClass::Trap, Verdict::Retry { after }, "oops")),
                _ => Ok(Default::default()),
            }
        });
        let running = start(&broker, tiered(), handler.clone()).await;
        until("it runs", || history.began().len() == 1).await;
        running.drain(20 * SECOND).await.unwrap();
        assert_eq!((broker.committed(&p(0)), broker.published(TIERS[0]).len()), (1, 1));
        assert!(broker.published("plug.dlq").is_empty(), "stopping is not failing");
        courier(&broker, &TIERS);
        let running = start(&broker, tiered(), handler).await;
        until("the next attempt is made", || broker.committed(&inbox()) == 1).await;
        assert_eq!(history.began(), [(0, 1), (0, 2)]);
        assert_eq!(running.stats.handled.get(), 1);
        running.drain(SECOND).await.unwrap();
    }
}

/// Makes the tiers refuse, or not take, what is published or settled.
fn close_tiers(broker: &Broker, refuse: bool) {
    let is_tier = |topic: &str| TIERS.contains(&topic);
    broker.break_publishing(move |o| {
        let closed = || match refuse {
            true => PublishError::Rejected("too large".into()),
            false => PublishError::Unavailable("no leader".into()),
        };
        is_tier(&o.topic).then(closed)
    });
    broker.break_settling(move |settlements| {
        let guilty = settlements.iter().find(|s| match &s.disposition {
            sandbar_core::Disposition::Done { effects, .. } => {
                effects.iter().any(|o| is_tier(&o.topic))
            }
            sandbar_core::Disposition::Release { .. } => false,
        })?;
        Some(match refuse {
            true => SourceError::Rejected { token: guilty.token, reason: "too large".into() },
            false => SourceError::Unavailable("no leader".into()),
        })
    });
}

#[tokio::test(start_paused = true)]
async fn r5_what_a_tier_refuses_waits_in_memory() {
    for broker in brokers() {
        let history = History::new();
        broker.append(None, "x");
        close_tiers(&broker, true);
        let began = Instant::now();
        let running = start(&broker, tiered(), failing(&history)).await;
        until("it is buried", || running.stats.dead_lettered.total() == 1).await;
        assert_eq!(history.began().len(), 6, "it has all of its attempts");
        assert!(began.elapsed() >= 124 * SECOND);
        let stats = &running.stats;
        assert_eq!((stats.delayed.get(), stats.retried.total()), (0, 5));
        running.drain(SECOND).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn r5_d1_while_a_tier_is_away_the_position_stays() {
    for broker in brokers() {
        let history = History::new();
        broker.append(None, "x");
        close_tiers(&broker, false);
        let running = start(&broker, tiered(), failing(&history)).await;
        until("the trouble is visible", || running.stats.state().0 == State::Unavailable).await;
        sleep(600 * SECOND).await;
        assert_eq!((broker.committed(&p(0)), history.began().len()), (0, 2));
        running.drain(10 * SECOND).await.unwrap();
        assert_eq!(broker.committed(&p(0)), 0, "it will be delivered again");
        broker.mend();
        courier(&broker, &TIERS);
        let running = start(&broker, tiered(), failing(&history)).await;
        until("it is buried", || running.stats.dead_lettered.total() == 1).await;
        running.drain(SECOND).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn r5_an_order_that_would_be_lost_is_refused() {
    for ordering in [Ordering::Key, Ordering::Partition] {
        let (broker, history) = (Broker::new(), History::new());
        let config = SubscriptionConfig { ordering, ..tiered() };
        let ended = Running::start(&broker, config, failing(&history)).end().await;
        assert!(
            matches!(&ended, Err(SourceError::Fatal(why)) if why.contains("order")),
            "{ended:?}"
        );
        assert_eq!(broker.state().closed, 1);
    }
}
