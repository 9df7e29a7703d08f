//! Contract I1 to I3: what was handled is not handled again.

use std::{panic::resume_unwind, sync::Arc, time::Duration};

use bytes::Bytes;
use sandbar_core::{ErrorClass, HandlerError, Header, SourceError, Verdict};
use sandbar_pipeline::{OnExhausted, Ordering, Services, State, SubscriptionConfig};
use tokio::time::{Instant, sleep};

use crate::support::{
    Broker, FakeHandler, History, Running,
    broker::Asked,
    config,
    handler::{echo, text},
    p, until,
};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

fn deduped() -> SubscriptionConfig {
    SubscriptionConfig { dedup: Some(HOUR), ..config() }
}

/// Marks before the settlement, after it, and within it.
fn brokers() -> [Arc<Broker>; 3] {
    [Broker::new(), Broker::atomic(), Broker::marking()]
}

/// Appends an event with a CloudEvents id.
fn append(broker: &Broker, partition: u32, id: &str, payload: &'static str) {
    broker.append_event(p(partition), |e| {
        e.attributes = [("id".to_owned(), id.to_owned())].into();
        e.payload = Some(Bytes::from(payload));
    });
}

fn echoing(history: &Arc<History>) -> Arc<FakeHandler> {
    FakeHandler::new(history, |call| async move { echo(&call) })
}

/// Does to an event what its payload says.
fn told(history: &Arc<History>) -> Arc<FakeHandler> {
    FakeHandler::new(history, |call| async move {
        let verdict = match text(&call).as_str() {
            "slow" => {
                sleep(10 * SECOND).await;
                return echo(&call);
            }
            "slowly bad" => {
                sleep(10 * SECOND).await;
                Verdict::Reject
            }
            "bad" => Verdict::Reject,
            "skip" => Verdict::Skip,
            _ => return echo(&call),
        };
        Err(HandlerError::new(ErrorClass::Handler, verdict, "as told"))
    })
}

fn break_marks(broker: &Broker, fails: impl Fn(Asked) -> bool + Send + 'static) {
    let away = || SourceError::Unavailable("no marks".into());
    broker.state().marks_fault = Some(Box::new(move |asked| fails(asked).then(away)));
}

#[tokio::test(start_paused = true)]
async fn i1_the_key_is_the_events_id_or_else_its_place() {
    for broker in brokers() {
        let history = History::new();
        for (source, id) in [(None, "1"), (None, "1"), (Some("/s"), "1"), (Some("/s"), "1")] {
            broker.append_event(p(0), |e| {
                let source = source.map(|s: &str| ("source".to_owned(), s.to_owned()));
                let id = ("id".to_owned(), id.to_owned());
                e.attributes = source.into_iter().chain([id]).collect();
            });
        }
        broker.append(None, "same");
        broker.append(None, "same");
        let envelope = r#"{"specversion":"1.0","id":"1","source":"/s","type":"t"}"#;
        broker.append_event(p(0), |e| {
            e.payload = Some(envelope.into());
            e.headers = vec![Header::new("content-type", "application/cloudevents+json")].into();
        });
        let running = Running::on_partition(&broker, deduped(), told(&history)).await;
        until("everything is committed", || broker.committed(&p(0)) == 7).await;
        let handled: Vec<_> = history.began().iter().map(|b| b.0).collect();
        assert_eq!(handled, [0, 2, 4, 5]);
        assert_eq!((running.stats.handled.get(), running.stats.dedup_hits.get()), (4, 3));
        running.drain(SECOND).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn i2_a_mark_is_written_after_the_outputs_and_never_later_than_a_redelivery_could_come() {
    for (broker, marked_at_commit) in brokers().into_iter().zip([0, 1, 0]) {
        let history = History::new();
        append(&broker, 0, "x", "");
        let running = Running::on_partition(&broker, deduped(), echoing(&history)).await;
        until("it is marked", || broker.state().marked.len() == 1).await;
        assert_eq!(broker.state().marked, [("x".to_owned(), 1, marked_at_commit)]);
        running.drain(SECOND).await.unwrap();
        assert_eq!((broker.committed(&p(0)), broker.payloads("out").len()), (1, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn i2_what_is_delivered_again_after_a_crash_is_acknowledged_unhandled() {
    let (broker, history) = (Broker::new(), History::new());
    append(&broker, 0, "x", "");
    broker.break_settling(|_| Some(SourceError::Unavailable("away".into())));
    let running = Running::on_partition(&broker, deduped(), echoing(&history)).await;
    until("it settles in vain", || broker.state().settle_calls > 3).await;
    running.kill().await;
    broker.mend();
    let running = Running::on_partition(&broker, deduped(), echoing(&history)).await;
    until("it is committed", || broker.committed(&p(0)) == 1).await;
    assert_eq!((history.began().len(), broker.payloads("out").len()), (1, 1));
    assert_eq!((running.stats.handled.get(), running.stats.dedup_hits.get()), (0, 1));
    running.drain(SECOND).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn i2_only_what_was_handled_or_skipped_is_marked() {
    for broker in brokers() {
        for exhausted in [OnExhausted::DeadLetter, OnExhausted::Drop] {
            let history = History::new();
            let (first, prefix) = (broker.end(&p(0)), format!("{exhausted:?}"));
            for (id, payload) in [("good", "good"), ("skip", "skip"), ("bad", "bad")] {
                for _ in 0..2 {
                    append(&broker, 0, &format!("{prefix}-{id}"), payload);
                }
            }
            let config = SubscriptionConfig { exhausted, ..deduped() };
            let running = Running::on_partition(&broker, config, told(&history)).await;
            until("everything is committed", || broker.committed(&p(0)) == first + 6).await;
            let mut handled: Vec<_> = history.began().iter().map(|b| b.0 - first).collect();
            handled.sort_unstable();
            assert_eq!(handled, [0, 2, 4, 5], "{prefix}");
            running.drain(SECOND).await.unwrap();
            let state = broker.state();
            let marked = |id: &str| state.marks.contains_key(&format!("{prefix}-{id}"));
            assert_eq!((marked("good"), marked("skip"), marked("bad")), (true, true, false));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn i2_of_two_with_one_id_under_way_the_second_waits_for_the_first() {
    for broker in brokers() {
        for (first, handled, letters) in [("slow", 1, 0), ("slowly bad", 1, 1)] {
            let history = History::new();
            let (p0, p1) = (broker.end(&p(0)), broker.end(&p(1)));
            append(&broker, 0, first, first);
            append(&broker, 1, first, "quick");
            let running = Running::on_partition(&broker, deduped(), told(&history)).await;
            until("the first is under way", || history.began().len() == 1).await;
            running.assign(p(1)).await;
            sleep(5 * SECOND).await;
            assert_eq!(history.began().len(), 1, "nobody handles it beside the first");
            until("both are settled", || {
                broker.committed(&p(0)) == p0 + 1 && broker.committed(&p(1)) == p1 + 1
            })
            .await;
            let stats = &running.stats;
            assert_eq!((stats.handled.get(), stats.dead_lettered.total()), (handled, letters));
            assert_eq!(stats.dedup_hits.get(), 1 - letters, "{first}");
            assert_eq!(history.most_at_once(), 1);
            running.drain(SECOND).await.unwrap();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn i2_one_id_twice_in_one_chunk_is_handled_once() {
    for broker in brokers() {
        let history = History::new();
        for n in 0..40 {
            append(&broker, 0, &(n % 4).to_string(), "slow");
        }
        let config = SubscriptionConfig { ordering: Ordering::None, ..deduped() };
        let handler = FakeHandler::build(&history, |call| async move { echo(&call) }).with_batch(8);
        let running = Running::on_partition(&broker, config, Arc::new(handler)).await;
        until("everything is committed", || broker.committed(&p(0)) == 40).await;
        assert_eq!((broker.payloads("out").len(), running.stats.dedup_hits.get()), (4, 36));
        running.drain(SECOND).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn i2_h4_whoever_waits_for_another_holds_up_no_drain() {
    let (broker, history) = (Broker::new(), History::new());
    append(&broker, 0, "x", "slow");
    append(&broker, 1, "x", "quick");
    let running = Running::on_partition(&broker, deduped(), told(&history)).await;
    until("the first is under way", || history.began().len() == 1).await;
    running.assign(p(1)).await;
    until("the second is taken in", || running.stats.in_flight.get() == 2).await;
    let began = Instant::now();
    running.revoke(p(1), 30 * SECOND).await.await.unwrap();
    assert!(began.elapsed() < SECOND, "{:?}", began.elapsed());
    assert_eq!(broker.committed(&p(1)), 0);
    // the first is given up, and with it its claim
    running.assign(p(1)).await;
    running.revoke(p(0), 2 * SECOND).await.await.unwrap();
    until("the second has its turn", || broker.committed(&p(1)) == 1).await;
    assert_eq!((history.aborted(), running.stats.handled.get()), (vec![0], 1));
    running.drain(SECOND).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn i2_while_the_store_is_away_nothing_is_handled_unseen() {
    for broker in brokers() {
        let history = History::new();
        append(&broker, 0, "x", "");
        break_marks(&broker, |_| true);
        let running = Running::on_partition(&broker, deduped(), echoing(&history)).await;
        until("it is held back", || running.stats.held_back.get() == 1).await;
        let (state, reason) = running.stats.state();
        assert_eq!((state, reason.as_deref()), (State::Unavailable, Some("no marks")));
        sleep(600 * SECOND).await;
        assert_eq!((history.began().len(), broker.committed(&p(0))), (0, 0));
        // neither does it hold up a stop
        let began = Instant::now();
        running.drain(30 * SECOND).await.unwrap();
        assert!(began.elapsed() < SECOND, "{:?}", began.elapsed());
        broker.mend();
        let running = Running::on_partition(&broker, deduped(), echoing(&history)).await;
        until("it is handled", || broker.committed(&p(0)) == 1).await;
        assert_eq!(running.stats.handled.get(), 1);
        running.drain(SECOND).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn i2_what_cannot_be_marked_is_held_and_a_copy_of_it_waits() {
    for (broker, committed) in brokers().into_iter().zip([0, 1, 2]) {
        let history = History::new();
        append(&broker, 0, "x", "");
        break_marks(&broker, |asked| asked == Asked::Mark);
        let running = Running::on_partition(&broker, deduped(), echoing(&history)).await;
        until("it is handled", || broker.payloads("out").len() == 1).await;
        append(&broker, 0, "x", "");
        sleep(600 * SECOND).await;
        assert_eq!(broker.committed(&p(0)), committed);
        assert_eq!(history.began().len(), 1, "it is neither repeated nor is its copy handled");
        broker.mend();
        until("both are settled", || broker.committed(&p(0)) == 2).await;
        assert_eq!((history.began().len(), broker.payloads("out").len()), (1, 1));
        assert_eq!((running.stats.handled.get(), running.stats.dedup_hits.get()), (1, 1));
        assert_eq!(running.stats.held_back.get(), 0);
        running.drain(SECOND).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn i2_c4_no_more_is_taken_in_than_the_window_while_nothing_can_be_marked() {
    for broker in brokers() {
        let history = History::new();
        for n in 0..50 {
            append(&broker, 0, &n.to_string(), "");
        }
        // a store that panics is no worse than one that is away
        break_marks(&broker, |asked| match asked {
            Asked::Seen => false,
            Asked::Mark => resume_unwind(Box::new("scripted")),
        });
        let config = SubscriptionConfig { max_in_flight: 5, ..deduped() };
        let running = Running::on_partition(&broker, config, echoing(&history)).await;
        sleep(600 * SECOND).await;
        assert_eq!(history.began().len(), if broker.atomic_marks { 50 } else { 5 });
        broker.mend();
        until("everything is committed", || broker.committed(&p(0)) == 50).await;
        assert_eq!((history.began().len(), running.stats.dedup_hits.get()), (50, 0));
        running.drain(SECOND).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn i3_marks_expire_by_age_and_hits_are_counted() {
    for broker in brokers() {
        let history = History::new();
        let running = Running::on_partition(&broker, deduped(), echoing(&history)).await;
        for (at, handled, hits) in [(0, 1, 0), (30, 1, 1), (59, 1, 2), (61, 2, 2), (62, 2, 3)] {
            let began = broker.began.get().unwrap();
            tokio::time::sleep_until(*began + at * 60 * SECOND).await;
            let end = broker.end(&p(0));
            append(&broker, 0, "x", "");
            until("it is settled", || broker.committed(&p(0)) == end + 1).await;
            assert_eq!(history.began().len(), handled, "after {at} minutes");
            assert_eq!(running.stats.snapshot().dedup_hits, hits, "after {at} minutes");
        }
        running.drain(SECOND).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn i3_a_chunk_is_looked_up_in_one_question_and_nothing_is_asked_without_dedup() {
    for (config, questions) in [(deduped(), 1), (config(), 0)] {
        let (broker, history) = (Broker::new(), History::new());
        for n in 0..100 {
            append(&broker, 0, &n.to_string(), "");
        }
        let running = Running::on_partition(&broker, config, echoing(&history)).await;
        until("everything is committed", || broker.committed(&p(0)) == 100).await;
        let asked: Vec<_> = broker.state().asked.iter().map(Vec::len).collect();
        assert_eq!(asked, vec![100; questions]);
        running.drain(SECOND).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn i2_without_a_store_there_is_no_run() {
    let (broker, history) = (Broker::new(), History::new());
    let handler = echoing(&history);
    let running = Running::start_with(&broker, deduped(), handler, Services::default());
    let ended = running.end().await;
    assert!(matches!(&ended, Err(SourceError::Fatal(why)) if why.contains("store")), "{ended:?}");
}
