//! Shared by the test binaries; not every one uses all of it.
#![allow(dead_code, reason = "each test binary uses its own part")]

use sandbar_core::{
    AckToken, Connection, Delivery, Disposition, Event, Mark, Outgoing, Partition, ReadFrom,
    Settlement, Source, SourceEvent, StateChange, StateChanges, StateOp, StateQuota,
    SubscriptionSpec,
};
use sandbar_store::{Log, LogConfig, Retention};

pub fn config() -> LogConfig {
    LogConfig { retention: Retention::UNLIMITED, ..LogConfig::default() }
}

pub fn memory() -> Log {
    Log::in_memory(config()).expect("an in-memory log opens")
}

pub fn spec(group: &str, topics: &[&str]) -> SubscriptionSpec {
    let topics = topics.iter().map(|t| (*t).to_owned()).collect();
    SubscriptionSpec { prefetch: 100, ..SubscriptionSpec::new(group, topics) }
}

pub async fn publish(log: &Log, records: &[Outgoing]) {
    for result in log.sink().publish(records).await {
        result.expect("published");
    }
}

/// Everything in the topic.
pub async fn all(log: &Log, topic: &str) -> Vec<Event> {
    from(log, topic, ReadFrom::Start).await
}

pub async fn from(log: &Log, topic: &str, from: ReadFrom) -> Vec<Event> {
    let mut reader = log.read(topic, from).await.expect("the topic is readable");
    let mut events = Vec::new();
    loop {
        let more = reader.next(100).await.expect("readable");
        if more.is_empty() {
            return events;
        }
        events.extend(more);
    }
}

pub fn text(event: &Event) -> String {
    String::from_utf8(event.payload.clone().expect("a payload").to_vec()).expect("text")
}

pub fn texts(events: &[Event]) -> Vec<String> {
    events.iter().map(text).collect()
}

pub async fn assigned(source: &mut Box<dyn Source>) -> Box<dyn Partition> {
    match source.next().await.expect("assigned") {
        SourceEvent::Assigned(partition) => partition,
        _ => panic!("the log only ever assigns"),
    }
}

/// A subscription's source and its first partition.
pub async fn subscribe(
    log: &Log,
    group: &str,
    topic: &str,
) -> (Box<dyn Source>, Box<dyn Partition>) {
    let mut source = log.subscribe(spec(group, &[topic])).await.expect("subscribed");
    let partition = assigned(&mut source).await;
    (source, partition)
}

pub async fn take(partition: &mut Box<dyn Partition>, count: usize) -> Vec<Delivery> {
    let mut taken = Vec::new();
    while taken.len() < count {
        taken.extend(partition.recv(count - taken.len()).await.expect("delivered"));
    }
    taken
}

pub fn done(offset: u64) -> Settlement {
    done_with(offset, vec![])
}

pub fn done_with(offset: u64, effects: Vec<Outgoing>) -> Settlement {
    Settlement { token: AckToken(offset), disposition: Disposition::done(effects) }
}

pub fn marked(offset: u64, effects: Vec<Outgoing>, mark: Mark) -> Settlement {
    let disposition = Disposition::Done { effects, mark: Some(mark), state: None };
    Settlement { token: AckToken(offset), disposition }
}

/// Lets `settlement` add one to `key`, too.
pub fn count(settlement: &mut Settlement, key: &str) {
    let Disposition::Done { state, .. } = &mut settlement.disposition else { return };
    let op = StateOp { key: key.to_owned(), only_if: None, change: StateChange::Add(1) };
    let changes = StateChanges { ops: vec![op], quota: StateQuota::UNLIMITED, at_ms: 0 };
    *state = Some(Box::new(changes));
}

pub fn mark(id: impl ToString, expires_ms: u64) -> Mark {
    Mark { id: id.to_string(), expires_ms }
}
