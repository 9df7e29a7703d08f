use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use proptest::prelude::*;
use sandbar_core::{Connection, Outgoing, PublishError, ResumeFrom};
use sandbar_pipeline::Parcel;
use tokio::time::Instant;

use super::*;
use crate::redrive::{
    Criteria, RedriveRequest,
    testing::{self, Plain, Steps, dead},
};

const INBOX: &str = "sandbar-inbox.sandbar.charge";

fn redrive(home: Arc<dyn Connection>, request: RedriveRequest) -> Redrive {
    request.redrive("p.dlq", "sandbar.charge", Routes::new(home)).expect("valid")
}

async fn run(redrive: &Redrive) -> (Result<bool, RedriveError>, Progress) {
    let (tell, progress) = watch::channel(Progress::default());
    let ended = redrive.run(&tell, &CancellationToken::new()).await;
    (ended, progress.borrow().clone())
}

async fn done(home: &Arc<dyn Connection>, request: RedriveRequest) -> Progress {
    let (ended, progress) = run(&redrive(home.clone(), request)).await;
    assert!(ended.expect("no failure"), "it came to its end: {progress:?}");
    progress
}

fn letters(count: u64) -> Vec<Outgoing> {
    let letter = |n: u64| {
        let key = format!("k{}", n % 3);
        dead(n, key.as_bytes(), n.to_string().as_bytes(), "charge", "declined", 0)
    };
    (0..count).map(letter).collect()
}

/// Positions of the original events, in the order of the inbox.
async fn inbox(home: &dyn Connection, inbox: &str) -> Vec<u64> {
    let events = testing::all(home, inbox).await;
    events.iter().map(|e| Parcel::open(e).expect("a parcel").event.position).collect()
}

async fn cursor(home: &dyn Connection, job: &str) -> Option<u64> {
    let group = format!("sandbar.charge.redrive.{job}");
    home.cursors(&group).await.expect("cursors").first().map(|(_, ResumeFrom(at), _)| *at)
}

fn criteria(criteria: Criteria) -> RedriveRequest {
    RedriveRequest { filter: criteria, ..RedriveRequest::default() }
}

#[tokio::test]
async fn d3_a_letter_goes_to_the_inbox_of_the_group_that_failed_as_it_was() {
    let log = testing::log();
    let records = [
        dead(7, b"k", b"\xff\x00", "charge", "declined", 1),
        dead(8, b"k", b"other", "mail", "bounced", 0),
        Outgoing::new("p.dlq", "put there by somebody"),
    ];
    testing::publish(&*log, &records).await;

    let progress = done(&log, RedriveRequest::default()).await;
    assert_eq!((progress.read, progress.sent, progress.foreign, progress.left), (3, 2, 1, 0));
    assert_eq!(inbox(&*log, "sandbar-inbox.sandbar.mail").await, [8]);
    let carriers = testing::all(&*log, INBOX).await;
    let parcel = Parcel::open(&carriers[0]).expect("a parcel");
    assert_eq!((&*parcel.to, parcel.redrives, carriers.len()), ("sandbar.charge", 2, 1));
    let event = parcel.event;
    assert_eq!((&*event.topic, event.partition, event.position), ("in", 2, 7));
    assert_eq!(event.timestamp_ms, 900_000);
    assert_eq!(
        (event.key.as_deref(), event.payload.as_deref()),
        (Some(&b"k"[..]), Some(&b"\xff\x00"[..]))
    );
    let names: Vec<_> = event.headers.iter().map(|h| &*h.name).collect();
    assert_eq!(names, ["source"]);
    // nothing else was written, and the letters stay
    let topics = log.topics().await.expect("topics");
    let names: Vec<_> = topics.iter().map(|t| t.name.as_str()).collect();
    assert_eq!(names, ["p.dlq", INBOX, "sandbar-inbox.sandbar.mail"]);
    assert_eq!(testing::all(&*log, "p.dlq").await.len(), 3);
}

#[tokio::test]
async fn d3_letters_of_another_connection_go_where_the_group_reads() {
    let (home, live) = (testing::log(), testing::named_log("live"));
    testing::publish(&*home, &letters(5)).await;
    let mut routes = Routes::new(home.clone());
    routes.add("sandbar.charge", live.clone(), 3);
    let redrive = RedriveRequest::default().redrive("p.dlq", "sandbar.charge", routes);
    let (ended, progress) = run(&redrive.expect("valid")).await;
    ended.expect("no failure");
    assert_eq!(inbox(&*live, INBOX).await, [0, 1, 2, 3, 4]);
    assert!(testing::all(&*home, INBOX).await.is_empty());
    let target = &progress.targets[0];
    assert!(target.known && target.connection == "live" && target.letters == 5, "{target:?}");
}

#[tokio::test]
async fn d4_it_goes_on_where_it_was() {
    let log = testing::log();
    testing::publish(&*log, &letters(10)).await;
    assert_eq!(done(&log, RedriveRequest::default()).await.sent, 10);
    // what was sent is not sent again, and what arrived since is
    assert_eq!(done(&log, RedriveRequest::default()).await.read, 0);
    testing::publish(&*log, &letters(12)[10..]).await;
    assert_eq!(done(&log, RedriveRequest::default()).await.sent, 2);
    assert_eq!(inbox(&*log, INBOX).await, (0..12).collect::<Vec<_>>());
    // another job has another cursor, and a restart moves it back
    let named = RedriveRequest { job: Some("again".into()), ..Default::default() };
    assert_eq!(done(&log, named.clone()).await.sent, 12);
    assert_eq!(done(&log, named.clone()).await.sent, 0);
    assert_eq!(done(&log, RedriveRequest { restart: true, ..named }).await.sent, 12);
}

#[tokio::test]
async fn d4_only_what_matches_is_sent() {
    let log = testing::log();
    let mut records = letters(4);
    records.push(dead(4, b"k", b"{\"amount\": 5}", "charge", "stolen", 0));
    records.push(dead(5, b"k", b"{\"sum\": 500}", "charge", "stolen", 0));
    records.push(dead(6, b"k", b"{\"amount\": 500}", "charge", "stolen", 0));
    testing::publish(&*log, &records).await;
    let request = criteria(Criteria {
        code: Some("stolen".into()),
        expression: Some("payload.amount > 100".into()),
        ..Criteria::default()
    });
    let progress = done(&log, request).await;
    assert_eq!((progress.sent, progress.skipped, progress.unclear), (1, 5, 1));
    let example = progress.unclear_example.expect("an example");
    assert!(example.starts_with("p.dlq/0/5: ") && example.contains("amount"), "{example}");
    assert_eq!(inbox(&*log, INBOX).await, [6]);
}

#[tokio::test]
async fn d4_letters_that_are_too_young_wait_for_the_next_time() {
    let log = testing::log();
    testing::publish(&*log, &letters(3)).await;
    let older = |age: &str| RedriveRequest {
        job: Some("old".into()),
        ..criteria(Criteria { older_than: Some(age.into()), ..Criteria::default() })
    };
    let progress = done(&log, older("1h")).await;
    assert_eq!((progress.read, progress.left), (0, 3));
    assert_eq!(
        done(&log, criteria(Criteria { newer_than: Some("1h".into()), ..Criteria::default() }))
            .await
            .sent,
        3
    );
    // the job did not pass them over
    let rest = RedriveRequest { job: Some("old".into()), ..Default::default() };
    assert_eq!(done(&log, rest).await.sent, 3);
}

#[tokio::test]
async fn d4_a_dry_run_touches_nothing_and_tells_all() {
    let log = testing::log();
    let mut records = letters(3);
    records.push(dead(3, b"k", b"x", "charge", "declined", 3));
    testing::publish(&*log, &records).await;
    let dry = RedriveRequest { dry_run: true, ..Default::default() };
    let progress = done(&log, dry.clone()).await;
    assert_eq!(
        (progress.matched, progress.sent, progress.quarantined, progress.left),
        (4, 0, 1, 0)
    );
    assert_eq!((progress.targets[0].letters, &*progress.targets[0].inbox), (3, INBOX));
    let shown = &progress.letters[2];
    assert_eq!((&*shown.letter, &*shown.event, &*shown.code), ("p.dlq/0/2", "in/2/2", "declined"));
    assert_eq!(log.topics().await.expect("topics").len(), 1);
    assert_eq!(cursor(&*log, "all").await, None);
    // it shows what the next run would do, from where that would begin
    assert_eq!(done(&log, RedriveRequest::default()).await.sent, 3);
    assert_eq!(done(&log, dry.clone()).await.matched, 0);
    let restart = RedriveRequest { restart: true, ..dry };
    assert_eq!(done(&log, restart).await.matched, 4);
    assert_eq!(cursor(&*log, "all").await, Some(4));
}

#[tokio::test]
async fn d5_a_letter_that_was_redriven_too_often_stays() {
    let log = testing::log();
    let records: Vec<_> =
        (0..5).map(|n| dead(n.into(), b"k", b"x", "charge", "declined", n)).collect();
    testing::publish(&*log, &records).await;
    let progress = done(&log, RedriveRequest::default()).await;
    assert_eq!((progress.matched, progress.sent, progress.quarantined), (5, 3, 2));
    assert_eq!(inbox(&*log, INBOX).await, [0, 1, 2]);
    // they can be meant on purpose
    let request = RedriveRequest {
        max_redrives: Some(4),
        ..criteria(Criteria { expression: Some("redrives >= 3".into()), ..Criteria::default() })
    };
    let progress = done(&log, request).await;
    assert_eq!((progress.sent, progress.quarantined, progress.skipped), (1, 1, 3));
}

#[tokio::test(start_paused = true)]
async fn d4_letters_are_sent_at_the_rate_asked_for() {
    let log = testing::log();
    testing::publish(&*log, &letters(100)).await;
    let start = Instant::now();
    let request = RedriveRequest { rate: NonZeroU32::new(10), ..Default::default() };
    assert_eq!(done(&log, request).await.sent, 100);
    assert_eq!(start.elapsed().as_millis(), 9900);
    // what is not sent costs no time
    let request = RedriveRequest {
        rate: NonZeroU32::new(10),
        ..criteria(Criteria { code: Some("none".into()), ..Criteria::default() })
    };
    assert_eq!(done(&log, request).await.skipped, 100);
    assert_eq!(start.elapsed().as_millis(), 9900);
}

#[tokio::test(start_paused = true)]
async fn d4_it_ends_at_the_end_that_there_was_at_the_beginning() {
    let log = testing::log();
    testing::publish(&*log, &letters(20)).await;
    let request = RedriveRequest { rate: NonZeroU32::new(10), ..Default::default() };
    let more = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        testing::publish(&*log, &letters(30)[20..]).await;
    };
    let (progress, ()) = tokio::join!(done(&log, request), more);
    assert_eq!((progress.sent, progress.left), (20, 0));
    assert_eq!(done(&log, RedriveRequest::default()).await.sent, 10);
    assert_eq!(inbox(&*log, INBOX).await, (0..30).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn d4_a_stop_leaves_the_rest_for_the_next_time() {
    let log = testing::log();
    testing::publish(&*log, &letters(20)).await;
    let request = RedriveRequest { rate: NonZeroU32::new(10), ..Default::default() };
    let redrive = redrive(log.clone(), request);
    let (tell, progress) = watch::channel(Progress::default());
    let cancel = CancellationToken::new();
    let stop = async {
        tokio::time::sleep(Duration::from_millis(950)).await;
        cancel.cancel();
    };
    let (ended, ()) = tokio::join!(redrive.run(&tell, &cancel), stop);
    assert!(!ended.expect("no failure"), "it did not come to its end");
    assert_eq!((progress.borrow().sent, progress.borrow().left), (10, 10));
    assert_eq!(done(&log, RedriveRequest::default()).await.sent, 10);
    assert_eq!(inbox(&*log, INBOX).await, (0..20).collect::<Vec<_>>());
}

/// A sink that is away for some records of its first calls.
fn ailing(pattern: Vec<Vec<bool>>, in_lanes: bool) -> Steps {
    let refuse = move |call: usize, record: &Outgoing| {
        let event = sandbar_core::Event {
            topic: record.topic.clone(),
            partition: 0,
            position: 0,
            key: record.key.clone(),
            payload: record.payload.clone(),
            headers: record.headers.clone().into(),
            timestamp_ms: 0,
            attributes: [].into(),
        };
        let position = Parcel::open(&event).expect("a parcel").event.position as usize;
        let away = pattern.get(call).is_some_and(|call| call[position % call.len()]);
        away.then(|| PublishError::Unavailable("away".into()))
    };
    Steps { refuse: Box::new(refuse), in_lanes, ..Steps::default() }
}

/// Every letter is there, and those of a key came first in their order.
fn complete_and_in_order(inbox: &[u64], count: u64) {
    let mut last: HashMap<u64, u64> = HashMap::new();
    let mut seen = vec![false; count as usize];
    for position in inbox {
        if !std::mem::replace(&mut seen[*position as usize], true) {
            let before = last.insert(position % 3, *position);
            assert!(before.is_none_or(|before| before < *position), "out of order: {inbox:?}");
        }
    }
    complete(inbox, count);
}

/// Every letter is there, and the newest of each key came last.
fn complete(inbox: &[u64], count: u64) {
    assert!((0..count).all(|position| inbox.contains(&position)), "lost: {inbox:?}");
    let mut ends: HashMap<u64, u64> = HashMap::new();
    inbox.iter().for_each(|position| {
        ends.insert(position % 3, *position);
    });
    for (key, end) in ends {
        let newest = (0..count).rev().find(|p| p % 3 == key);
        assert_eq!(Some(end), newest, "an old one came last: {inbox:?}");
    }
}

#[test]
fn d4_a_broker_that_comes_and_goes_changes_no_order() {
    let runtime = || {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_time().start_paused(true).build().expect("a runtime")
    };
    let pattern = prop::collection::vec(prop::collection::vec(any::<bool>(), 1..9), 0..12);
    let config = ProptestConfig { cases: 64, failure_persistence: None, ..Default::default() };
    proptest!(config, |(pattern in pattern, in_lanes in any::<bool>())| {
        runtime().block_on(async {
            let log = testing::log();
            testing::publish(&*log, &letters(25)).await;
            let plain = Plain::new(log.clone(), ailing(pattern, in_lanes));
            let plain: Arc<dyn Connection> = Arc::new(plain);
            assert_eq!(done(&plain, RedriveRequest::default()).await.sent, 25);
            let inbox = inbox(&*log, INBOX).await;
            match in_lanes {
                true => complete_and_in_order(&inbox, 25),
                false => complete(&inbox, 25),
            }
        });
    });
}

#[tokio::test]
async fn d4_dying_at_any_step_loses_no_letter() {
    let mut died = 0;
    for dead_at in 0.. {
        let log = testing::log();
        testing::publish(&*log, &letters(25)).await;
        let plain = Arc::new(Plain::new(log.clone(), Steps { dead_at, ..Steps::default() }));
        let steps = plain.steps().clone();
        let (first, progress) =
            (redrive(plain, RedriveRequest::default()), watch::Sender::default());
        let cancel = CancellationToken::new();
        // what is dropped here is all that the process had
        let survived = tokio::select! {
            ended = first.run(&progress, &cancel) => ended.expect("no failure"),
            () = steps.died.notified() => false,
        };
        if survived {
            break;
        }
        died += 1;
        done(&log, RedriveRequest::default()).await;
        complete_and_in_order(&inbox(&*log, INBOX).await, 25);
    }
    assert!(died >= 16, "four lots of four steps each, not {died} steps");
}

/// Ten letters, of which the fifth never arrives.
async fn refused(plain: impl Fn(Arc<dyn Connection>) -> Plain, after: [&[u64]; 2]) {
    let log = testing::log();
    let mut records = letters(10);
    records[4].payload = Some("bad".into());
    testing::publish(&*log, &records).await;
    let home = || Arc::new(plain(log.clone())) as Arc<dyn Connection>;
    for after in after {
        let (ended, _) = run(&redrive(home(), RedriveRequest::default())).await;
        let error = ended.unwrap_err().to_string();
        assert_eq!(error, format!("the dead letter p.dlq/0/4 cannot go to {INBOX}: too large"));
        assert_eq!(cursor(&*log, "all").await, Some(4), "it stays before the letter");
        assert_eq!(inbox(&*log, INBOX).await, after, "the others are not sent twice");
    }
    let skip = RedriveRequest { skip_refused: true, ..Default::default() };
    let progress = done(&home(), skip).await;
    assert_eq!((progress.refused, progress.left), (1, 0));
    let mut inbox = inbox(&*log, INBOX).await;
    inbox.sort_unstable();
    assert_eq!(inbox, [0, 1, 2, 3, 5, 6, 7, 8, 9], "each once");
}

#[tokio::test]
async fn d4_what_the_broker_refuses_stops_it_or_is_passed_over() {
    let refuse = |_: usize, record: &Outgoing| {
        let bad = record.payload.as_deref() == Some(b"bad");
        bad.then(|| PublishError::Rejected("too large".into()))
    };
    let plain = |log| Plain::new(log, Steps { refuse: Box::new(refuse), ..Steps::default() });
    let first = [0, 1, 2, 3, 5, 6];
    refused(plain, [&first, &[0, 1, 2, 3, 5, 6, 7, 8, 9]]).await;
}

#[tokio::test]
async fn d4_what_cannot_go_with_its_settlement_stops_it_or_is_passed_over() {
    let plain = |log| Plain::new(log, Steps { atomic: true, ..Steps::default() });
    refused(plain, [&[0, 1, 2, 3]; 2]).await;
}

#[tokio::test]
async fn d4_a_group_that_can_have_no_inbox_holds_up_no_other() {
    let log = testing::log();
    let mut records = letters(3);
    records[1] = dead(1, b"k", b"x", "a group with blanks", "declined", 0);
    testing::publish(&*log, &records).await;
    let (ended, _) = run(&redrive(log.clone(), RedriveRequest::default())).await;
    let error = ended.unwrap_err().to_string();
    assert!(error.contains("p.dlq/0/1") && error.contains("invalid"), "{error}");
    let skip = RedriveRequest { skip_refused: true, ..Default::default() };
    let progress = done(&log, skip).await;
    assert_eq!((progress.sent, progress.refused), (0, 1));
    assert_eq!(inbox(&*log, INBOX).await, [0, 2]);
}

#[tokio::test]
async fn d4_an_outage_shows_and_ends() {
    let log = testing::log();
    testing::publish(&*log, &letters(3)).await;
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let refuse = move |call: usize, _: &Outgoing| {
        count.store(call, Ordering::Relaxed);
        (call < 3).then(|| PublishError::Unavailable("no route".into()))
    };
    let steps = Steps { refuse: Box::new(refuse), ..Steps::default() };
    let plain: Arc<dyn Connection> = Arc::new(Plain::new(log.clone(), steps));
    let redrive = redrive(plain, RedriveRequest::default());
    let (tell, mut progress) = watch::channel(Progress::default());
    let cancel = CancellationToken::new();
    let watching = async {
        let waits = progress.wait_for(|p| p.waiting.as_deref() == Some("no route")).await;
        assert!(waits.expect("shown").sent == 0);
    };
    let (ended, ()) = tokio::join!(redrive.run(&tell, &cancel), watching);
    ended.expect("no failure");
    assert_eq!((tell.borrow().sent, &tell.borrow().waiting), (3, &None));
    assert_eq!(asked.load(Ordering::Relaxed), 3);
}
