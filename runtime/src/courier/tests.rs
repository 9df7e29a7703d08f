use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicUsize, Ordering::SeqCst},
};

use bytes::Bytes;
use sandbar_core::{
    Event, Guarantees, Header, Outgoing, PartitionId, ReadFrom, Reader, ResumeFrom, Sink, Source,
    TopicInfo,
};
use sandbar_pipeline::Reason;
use sandbar_store::{Log, LogConfig};
use tokio::time::Instant;

use super::*;

const SECOND: Duration = Duration::from_secs(1);
const TIERS: [Duration; 2] = [Duration::from_secs(5), Duration::from_secs(30)];
/// The time of day at which tests begin, milliseconds since the Unix epoch.
const BEGIN_MS: u64 = 1_800_000_000_000;

fn log() -> Log {
    Log::in_memory(LogConfig::default()).unwrap()
}

/// The time of day goes with tokio's clock.
fn environment() -> Environment {
    let begin = Instant::now();
    let wall_ms = move || BEGIN_MS + begin.elapsed().as_millis() as u64;
    Environment { wall_ms: Arc::new(wall_ms), ..Environment::default() }
}

fn spec(connection: impl Connection + 'static) -> CourierSpec {
    CourierSpec {
        connection: Arc::new(connection),
        tiers: TIERS.to_vec(),
        prefix: "p.".into(),
        exactly_once: false,
    }
}

fn parcel(to: &str, number: u64, due: Duration) -> Parcel {
    Parcel {
        to: to.into(),
        reason: Reason::Retry,
        attempt: 2,
        redrives: 0,
        first_failed_ms: BEGIN_MS,
        began_ms: Some(BEGIN_MS),
        due_ms: BEGIN_MS + due.as_millis() as u64,
        event: Event {
            topic: "orders".into(),
            partition: 3,
            position: number,
            key: Some(Bytes::from(format!("key {number}"))),
            payload: Some(Bytes::from(number.to_string())),
            headers: [Header::new("h", "v")].into(),
            timestamp_ms: 7,
            attributes: [].into(),
        },
    }
}

fn tier(delay: Duration) -> String {
    reserved::retry_tier("p.", delay)
}

async fn publish(log: &Log, records: &[Outgoing]) {
    for result in log.sink().publish(records).await {
        result.unwrap();
    }
}

/// Everything in `topic`; nothing where it does not exist.
async fn all(log: &Log, topic: &str) -> Vec<Event> {
    let Ok(mut reader) = log.read(topic, ReadFrom::Start).await else { return Vec::new() };
    let mut all = Vec::new();
    loop {
        let events = reader.next(1000).await.unwrap();
        if events.is_empty() {
            return all;
        }
        all.extend(events);
    }
}

/// Waits until `topic` has `count` records and returns the parcels in them.
async fn arrived(log: &Log, topic: &str, count: usize) -> Vec<Parcel> {
    log.ensure_topics(&[topic.to_owned()]).await.unwrap();
    let mut reader = log.read(topic, ReadFrom::Follow).await.unwrap();
    loop {
        let events = all(log, topic).await;
        if events.len() >= count {
            return events.iter().map(|event| Parcel::open(event).unwrap()).collect();
        }
        reader.next(1000).await.unwrap();
    }
}

/// A log that counts its subscriptions and is away at first.
struct Watched {
    log: Log,
    subscribed: Arc<AtomicUsize>,
    away: AtomicUsize,
}

impl Watched {
    fn new(log: &Log, away: usize) -> Self {
        Self { log: log.clone(), subscribed: Arc::default(), away: AtomicUsize::new(away) }
    }
}

#[async_trait]
impl Connection for Watched {
    fn name(&self) -> &str {
        self.log.name()
    }

    fn guarantees(&self) -> Guarantees {
        self.log.guarantees()
    }

    async fn subscribe(&self, spec: SubscriptionSpec) -> Result<Box<dyn Source>, SourceError> {
        self.subscribed.fetch_add(1, SeqCst);
        self.log.subscribe(spec).await
    }

    fn sink(&self) -> Arc<dyn Sink> {
        self.log.sink()
    }

    async fn read(&self, topic: &str, from: ReadFrom) -> Result<Box<dyn Reader>, SourceError> {
        self.log.read(topic, from).await
    }

    async fn topics(&self) -> Result<Vec<TopicInfo>, SourceError> {
        if self.away.load(SeqCst) > 0 {
            self.away.fetch_sub(1, SeqCst);
            return Err(SourceError::Unavailable("away".into()));
        }
        self.log.topics().await
    }

    async fn ensure_topics(&self, topics: &[String]) -> Result<(), SourceError> {
        self.log.ensure_topics(topics).await
    }

    async fn cursors(
        &self,
        group: &str,
    ) -> Result<Vec<(PartitionId, ResumeFrom, ResumeFrom)>, SourceError> {
        self.log.cursors(group).await
    }

    async fn close(&self) {
        self.log.close().await;
    }
}

#[tokio::test(start_paused = true)]
async fn r5_a_retry_is_in_its_inbox_when_it_is_due_and_never_before() {
    let (log, environment) = (log(), environment());
    let courier = Courier::in_environment(spec(log.clone()), environment);
    let dues = [5, 6, 9].map(|s| s * SECOND);
    let sent: Vec<_> = (0..).zip(dues).map(|(n, due)| parcel("g", n, due)).collect();
    let records: Vec<_> = sent.iter().map(|parcel| parcel.record(tier(TIERS[0]))).collect();
    let begin = Instant::now();
    publish(&log, &records).await;
    for (arrivals, due) in (1..).zip(dues) {
        let parcels = arrived(&log, &reserved::inbox("g"), arrivals).await;
        assert!((due..due + SECOND / 10).contains(&begin.elapsed()), "{:?}", begin.elapsed());
        assert_eq!(parcels, sent[..arrivals], "as it was sent");
    }
    while courier.counts()[0].2 < 3 {
        // what is in the inbox is counted a moment later
        tokio::task::yield_now().await;
    }
    courier.stop().await;
    assert!(all(&log, &reserved::undeliverable("p.")).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn r5_all_tiers_and_all_plugins_share_one_consumer() {
    let (log, environment) = (log(), environment());
    let watched = Watched::new(&log, 0);
    let subscribed = watched.subscribed.clone();
    let courier = Courier::in_environment(spec(watched), environment);
    let groups: Vec<_> = (0..20).map(|g| format!("sandbar.plugin{g}")).collect();
    for (number, group) in (0..).zip(&groups) {
        for delay in TIERS {
            publish(&log, &[parcel(group, number, delay).record(tier(delay))]).await;
        }
    }
    for (number, group) in (0..).zip(&groups) {
        let parcels = arrived(&log, &reserved::inbox(group), 2).await;
        assert!(parcels.iter().all(|p| p.to == *group && p.event.position == number));
        assert_eq!(parcels.len(), 2);
    }
    assert_eq!(subscribed.load(SeqCst), 1, "one consumer for 20 plugins on 2 tiers");
    courier.stop().await;
    let consumers = log.groups().await.unwrap();
    assert_eq!(consumers, [reserved::courier("p.")]);
}

#[tokio::test(start_paused = true)]
async fn r5_a_long_wait_in_a_short_tier_holds_nothing_up_for_long() {
    let (log, environment) = (log(), environment());
    let long = 240 * SECOND;
    // more than the courier holds, all before the one that is due soon
    let count = WINDOW + WINDOW / 2;
    let waiting = (0..count as u64).map(|n| parcel("long", n, long).record(tier(TIERS[1])));
    let begin = Instant::now();
    publish(&log, &waiting.collect::<Vec<_>>()).await;
    publish(&log, &[parcel("soon", 0, TIERS[1]).record(tier(TIERS[1]))]).await;
    let courier = Courier::in_environment(spec(log.clone()), environment);
    arrived(&log, &reserved::inbox("soon"), 1).await;
    assert!(begin.elapsed() < 2 * TIERS[1] + SECOND, "held up for {:?}", begin.elapsed());
    assert!(all(&log, &reserved::inbox("long")).await.is_empty(), "some came too early");
    let parcels = arrived(&log, &reserved::inbox("long"), count).await;
    assert!((long..long + SECOND).contains(&begin.elapsed()), "after {:?}", begin.elapsed());
    let numbers: BTreeMap<_, _> = parcels.iter().map(|p| (p.event.position, p)).collect();
    assert_eq!((parcels.len(), numbers.len()), (count, count), "lost or doubled");
    courier.stop().await;
}

#[tokio::test(start_paused = true)]
async fn r5_h5_a_courier_that_stops_leaves_what_waits_and_the_next_one_takes_it_on() {
    let (log, environment) = (log(), environment());
    let begin = Instant::now();
    let parcels = (0..50).map(|n| parcel("g", n, SECOND * (5 + n as u32)).record(tier(TIERS[0])));
    publish(&log, &parcels.collect::<Vec<_>>()).await;
    for life in 0..6 {
        let courier = Courier::in_environment(spec(log.clone()), environment.clone());
        arrived(&log, &reserved::inbox("g"), 8 * life + 1).await;
        let stopping = Instant::now();
        courier.stop().await;
        assert!(stopping.elapsed() < SECOND, "stopping took {:?}", stopping.elapsed());
    }
    let courier = Courier::in_environment(spec(log.clone()), environment);
    let parcels = arrived(&log, &reserved::inbox("g"), 50).await;
    assert!(begin.elapsed() >= 54 * SECOND);
    let mut numbers: Vec<_> = parcels.iter().map(|p| p.event.position).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..50).collect::<Vec<_>>(), "lost or doubled");
    courier.stop().await;
}

#[tokio::test(start_paused = true)]
async fn r5_a_broker_that_is_away_is_waited_for_and_stopping_does_not_wait_with_it() {
    let (log, environment) = (log(), environment());
    publish(&log, &[parcel("g", 0, TIERS[0]).record(tier(TIERS[0]))]).await;
    let courier =
        Courier::in_environment(spec(Watched::new(&log, usize::MAX)), environment.clone());
    tokio::time::sleep(60 * SECOND).await;
    assert!(all(&log, &reserved::inbox("g")).await.is_empty());
    courier.stop().await;
    let courier = Courier::in_environment(spec(Watched::new(&log, 3)), environment);
    arrived(&log, &reserved::inbox("g"), 1).await;
    courier.stop().await;
}

#[tokio::test(start_paused = true)]
async fn d2_a_retry_passes_the_courier_byte_for_byte() {
    let (log, environment) = (log(), environment());
    let envelope = r#"{"specversion":"1.0","id":"1","source":"/s","type":"t","data":{"n":1}}"#;
    let events = [
        (envelope, "application/cloudevents+json"),
        ("no json at all", "application/cloudevents+json"),
        ("\u{0}\u{1}", "text/plain"),
    ];
    let sent = events.map(|(payload, kind)| {
        let mut parcel = parcel("g", 0, Duration::ZERO);
        parcel.event.payload = Some(Bytes::from(payload));
        parcel.event.headers = [Header::new("content-type", kind)].into();
        parcel
    });
    let mut tombstone = parcel("g", 0, Duration::ZERO);
    (tombstone.event.payload, tombstone.event.key) = (None, None);
    let sent: Vec<_> = sent.into_iter().chain([tombstone]).collect();
    let records: Vec<_> = sent.iter().map(|parcel| parcel.record(tier(TIERS[0]))).collect();
    publish(&log, &records).await;
    let courier = Courier::in_environment(spec(log.clone()), environment);
    let parcels = arrived(&log, &reserved::inbox("g"), 4).await;
    assert_eq!(parcels, sent);
    courier.stop().await;
}

#[tokio::test(start_paused = true)]
async fn r5_what_nobody_can_be_given_is_kept_and_counted_and_holds_nothing_up() {
    let (log, environment) = (log(), environment());
    let stray = Outgoing::new(tier(TIERS[0]), "stray").with_key("k").with_header("h", "v");
    // no topic can have such a name
    let nobody = parcel("no such/group", 0, Duration::ZERO).record(tier(TIERS[0]));
    let fine = parcel("g", 1, Duration::ZERO).record(tier(TIERS[0]));
    publish(&log, &[stray.clone(), nobody.clone(), fine]).await;
    let courier = Courier::in_environment(spec(log.clone()), environment);
    arrived(&log, &reserved::inbox("g"), 1).await;
    let mut reader = log.read(&reserved::undeliverable("p."), ReadFrom::Follow).await.unwrap();
    while all(&log, &reserved::undeliverable("p.")).await.len() < 2 {
        reader.next(10).await.unwrap();
    }
    let kept = all(&log, &reserved::undeliverable("p.")).await;
    for record in [stray, nobody] {
        let found = kept.iter().find(|event| event.payload == record.payload).unwrap();
        assert_eq!(found.key, record.key);
        assert!(record.headers.iter().all(|header| found.headers.contains(header)));
    }
    while courier.counts()[1].2 < 2 {
        tokio::task::yield_now().await;
    }
    courier.stop().await;
}

#[tokio::test(start_paused = true)]
async fn r5_a_tier_that_is_no_longer_configured_is_emptied_and_gets_nothing_new() {
    let (log, environment) = (log(), environment());
    let (old, due) = (20 * SECOND, 50 * SECOND);
    let begin = Instant::now();
    publish(&log, &[parcel("g", 0, due).record(tier(old))]).await;
    let courier = Courier::in_environment(spec(log.clone()), environment);
    arrived(&log, &reserved::inbox("g"), 1).await;
    assert!((due..due + SECOND).contains(&begin.elapsed()));
    assert_eq!(all(&log, &tier(old)).await.len(), 1);
    assert_eq!(all(&log, &tier(TIERS[1])).await.len(), 1, "thirty of its seconds");
    courier.stop().await;
}
