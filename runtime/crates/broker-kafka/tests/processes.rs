//! Members of a group in processes of their own, so that they can be killed and stopped
//! at any moment, also in the middle of a transaction.

mod common;

use std::{
    collections::BTreeMap,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use common::*;
use sandbar_broker_kafka::Kafka;
use sandbar_core::{Connection, Outgoing, SubscriptionSpec};
use tokio::task::JoinHandle;

/// Tells a process what it is a member of: brokers, topic, outputs, group.
const MEMBER: &str = "SANDBAR_TEST_MEMBER";
const SESSION: Duration = Duration::from_millis(1500);
const PARTITIONS: u32 = 4;

/// Of a member: its session is short, and so are the transactions that it may leave open.
const PROPERTIES: [(&str, &str); 4] = [
    ("session.timeout.ms", "1500"),
    ("max.poll.interval.ms", "1500"),
    ("heartbeat.interval.ms", "300"),
    ("transaction.timeout.ms", "2000"),
];

/// What a process started by [`Member::start`] runs, until it is killed.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "runs in the processes that the other tests start"]
async fn member() {
    let told = std::env::var(MEMBER).unwrap();
    let [brokers, topic, out, group] = told.split(' ').collect::<Vec<_>>()[..] else {
        panic!("{told}")
    };
    let kafka = connect(brokers, PARTITIONS, &PROPERTIES);
    let spec = SubscriptionSpec { exactly_once: true, ..spec(group, topic) };
    let worker = Worker::copying(kafka.subscribe(spec).await.unwrap(), out);
    std::future::pending::<()>().await;
    worker.stop().await.unwrap();
}

/// A member of the group in a process of its own.
struct Member(Child);

impl Member {
    fn start(told: &str) -> Self {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "member", "--ignored", "--nocapture"])
            .env(MEMBER, told)
            .stdout(Stdio::null())
            .spawn();
        Self(child.unwrap())
    }

    fn signal(&self, signal: &str) {
        let pid = self.0.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        // kills it also while it is stopped
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// Publishes numbers until it is stopped.
struct Flow {
    published: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

impl Flow {
    fn start(kafka: Arc<Kafka>, topic: String) -> Self {
        let (published, stop): (Arc<AtomicU64>, Arc<AtomicBool>) = Default::default();
        let (count, stopped) = (published.clone(), stop.clone());
        let task = tokio::spawn(async move {
            let mut pace = tokio::time::interval(Duration::from_millis(20));
            while !stopped.load(Ordering::Relaxed) {
                pace.tick().await;
                let first = count.load(Ordering::Relaxed);
                let record = |n: u64| {
                    Outgoing::new(topic.as_str(), n.to_string()).with_key(format!("k{}", n % 40))
                };
                publish(&kafka, &(first..first + 20).map(record).collect::<Vec<_>>()).await;
                count.store(first + 20, Ordering::Relaxed);
            }
        });
        Self { published, stop, task }
    }

    fn count(&self) -> u64 {
        self.published.load(Ordering::Relaxed)
    }

    async fn stop(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.unwrap();
        self.published.load(Ordering::Relaxed)
    }
}

/// Waits until the numbers below `count` are in `out`, and returns what is there.
async fn all_below(kafka: &Kafka, out: &str, count: u64) -> BTreeMap<u64, u32> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let seen = counted(kafka, out).await;
        let missing: Vec<u64> = (0..count).filter(|n| !seen.contains_key(n)).collect();
        if missing.is_empty() {
            return seen;
        }
        let few = &missing[..missing.len().min(20)];
        assert!(Instant::now() < deadline, "{} of {count} missing: {few:?} ...", missing.len());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn assert_once(seen: &BTreeMap<u64, u32>) {
    let twice: Vec<_> = seen.iter().filter(|(_, n)| **n > 1).collect();
    assert!(twice.is_empty(), "seen more than once: {twice:?}");
}

struct Setup {
    kafka: Arc<Kafka>,
    out: String,
    told: String,
    flow: Flow,
}

async fn setup(what: &str) -> Option<Setup> {
    let brokers = broker()?;
    let (topic, out, group) = (unique(what), unique(&format!("{what}-out")), unique(what));
    let kafka = Arc::new(connect(&brokers, PARTITIONS, &[]));
    kafka.ensure_topics(&[topic.clone(), out.clone()]).await.unwrap();
    let told = format!("{brokers} {topic} {out} {group}");
    let flow = Flow::start(kafka.clone(), topic);
    Some(Setup { kafka, out, told, flow })
}

#[tokio::test(flavor = "multi_thread")]
async fn e1_members_killed_in_the_middle_of_transactions_write_every_output_once() {
    let Some(Setup { kafka, out, told, flow }) = setup("e1-kill").await else { return };
    let mut members = [Member::start(&told), Member::start(&told)];
    for _ in 0..8 {
        all_below(&kafka, &out, flow.count()).await;
        // new ones first: the group is moving partitions when the old ones die
        members = [Member::start(&told), Member::start(&told)];
    }
    assert!(members.iter_mut().all(|m| m.0.try_wait().unwrap().is_none()));
    let count = flow.stop().await;
    let seen = all_below(&kafka, &out, count).await;
    assert_once(&seen);
}

#[tokio::test(flavor = "multi_thread")]
async fn e2_a_member_that_slept_past_its_session_writes_nothing_that_a_reader_sees() {
    let Some(Setup { kafka, out, told, flow }) = setup("e2-stop").await else { return };
    let mut members = [Member::start(&told), Member::start(&told)];
    for round in 0..4 {
        all_below(&kafka, &out, flow.count()).await;
        let zombie = &members[round % 2];
        zombie.signal("-STOP");
        // the other one takes over all that comes meanwhile
        tokio::time::sleep(SESSION).await;
        all_below(&kafka, &out, flow.count()).await;
        zombie.signal("-CONT");
    }
    // none of them died of it
    assert!(members.iter_mut().all(|m| m.0.try_wait().unwrap().is_none()));
    let count = flow.stop().await;
    let seen = all_below(&kafka, &out, count).await;
    assert_once(&seen);
}
