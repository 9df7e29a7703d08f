use std::collections::HashMap;

use parking_lot::Mutex;
use sandbar_core::{PublishError, Sink};

use super::*;
use crate::Output;

/// Takes what it is offered, unless the topic says otherwise.
#[derive(Default)]
struct FakeSink {
    /// Payloads of each call.
    offered: Mutex<Vec<Vec<String>>>,
}

#[async_trait]
impl Sink for FakeSink {
    async fn publish(&self, records: &[Outgoing]) -> Vec<Result<(), PublishError>> {
        let payload = |record: &Outgoing| {
            let bytes = record.payload.as_deref().unwrap_or_default();
            String::from_utf8_lossy(bytes).into_owned()
        };
        self.offered.lock().push(records.iter().map(payload).collect());
        let answer = |record: &Outgoing| match &*record.topic {
            "" => Err(PublishError::Rejected("no name of a topic".into())),
            "out.away" => Err(PublishError::Unavailable("no leader".into())),
            "out.broken" => panic!("boom"),
            _ => Ok(()),
        };
        records.iter().filter(|record| &*record.topic != "out.silent").map(answer).collect()
    }
}

/// What a plugin publishes with, and what comes of it on two connections.
struct Plugin {
    own: Arc<FakeSink>,
    other: Arc<FakeSink>,
    stats: Arc<SubscriptionStats>,
    publisher: DirectPublisher,
}

impl Plugin {
    fn new(allow: &[&str]) -> Self {
        let (own, other) = (Arc::new(FakeSink::default()), Arc::new(FakeSink::default()));
        let stats = Arc::new(SubscriptionStats::unregistered("plug"));
        let named = Output { connection: "other".into(), sink: other.clone() };
        let outputs = Outputs {
            named: HashMap::from([("other".to_owned(), named)]),
            ..Outputs::single("own", own.clone())
        };
        let allow = allow.iter().map(|topic| (*topic).to_owned()).collect();
        let publisher = DirectPublisher::new(outputs, allow, stats.clone());
        Self { own, other, stats, publisher }
    }

    async fn publishes<const N: usize>(&self, events: [Outgoing; N]) -> Result<(), PublishRefusal> {
        self.publisher.publish(events.to_vec()).await
    }

    /// Payloads of each call, on its own connection and on the other.
    fn offered(&self) -> [Vec<Vec<String>>; 2] {
        [self.own.offered.lock().clone(), self.other.offered.lock().clone()]
    }

    fn counted(&self) -> u64 {
        self.stats.published.get()
    }
}

fn event(topic: &str, payload: &'static str) -> Outgoing {
    Outgoing::new(topic, payload)
}

fn on(connection: &str, event: Outgoing) -> Outgoing {
    Outgoing { connection: Some(connection.into()), ..event }
}

#[tokio::test]
async fn events_go_to_the_connections_that_they_name_in_their_order() {
    let plugin = Plugin::new(&["out.*"]);
    let events = [
        event("out.a", "1"),
        on("other", event("out.a", "2")),
        on("own", event("out.b", "3")),
        on("other", event("out.b", "4")),
        event("out.a", "5"),
    ];
    assert_eq!(plugin.publishes(events).await, Ok(()));
    let [own, other] = plugin.offered();
    assert_eq!(own, [["1", "3", "5"]]);
    assert_eq!(other, [["2", "4"]]);
    assert_eq!(plugin.counted(), 5);
    assert_eq!(plugin.publishes([]).await, Ok(()));
    assert_eq!((plugin.offered()[0].len(), plugin.counted()), (1, 5), "nothing is nobody's call");
}

#[tokio::test]
async fn of_events_of_which_one_is_not_allowed_none_is_published() {
    let plugin = Plugin::new(&["out.*", "sandbar-*"]);
    for (denied, what) in [
        (event("secret", "2"), "secret"),
        (event("", "2"), ""),
        (event("sandbar-inbox.sandbar.plug", "2"), "sandbar-inbox.sandbar.plug"),
        (on("elsewhere", event("out.a", "2")), "elsewhere"),
    ] {
        let refused = plugin.publishes([event("out.a", "1"), denied]).await;
        assert_eq!(refused, Err(PublishRefusal::Denied(what.to_owned())));
    }
    assert!(plugin.offered().iter().all(Vec::is_empty), "{:?}", plugin.offered());
    assert_eq!(plugin.counted(), 0);
}

#[tokio::test]
async fn what_the_broker_refuses_is_told_and_the_others_are_published_and_counted() {
    let plugin = Plugin::new(&["*"]);
    let refused = plugin.publishes([event("out", "1"), event("", "2"), event("out", "3")]).await;
    let reason = "connection `own` refused an event for topic ``: no name of a topic";
    assert_eq!(refused, Err(PublishRefusal::Rejected(reason.to_owned())));
    assert_eq!(plugin.offered()[0], [["1", "2", "3"]]);
    assert_eq!(plugin.counted(), 2);
    // to try again does not help, whatever else is the matter
    let refused = plugin.publishes([on("other", event("out.away", "4")), event("", "5")]).await;
    assert_eq!(refused, Err(PublishRefusal::Rejected(reason.to_owned())));
    assert_eq!(plugin.counted(), 2);
}

#[tokio::test]
async fn a_broker_that_is_away_is_told_and_nothing_is_kept_for_later() {
    let plugin = Plugin::new(&["out.*"]);
    let events = [
        event("out.a", "1"),
        on("other", event("out.away", "2")),
        on("other", event("out.b", "3")),
    ];
    let reason = "connection `other` does not take events for topic `out.away`: no leader";
    let away: Result<(), _> = Err(PublishRefusal::Unavailable(reason.to_owned()));
    assert_eq!(plugin.publishes(events.clone()).await, away);
    assert_eq!(plugin.counted(), 2, "what was taken all the same");
    // what follows is for the plugin to say: it may ask for all of them again, or for others
    assert_eq!(plugin.publishes(events).await, away);
    assert_eq!(plugin.publishes([on("other", event("out.c", "4"))]).await, Ok(()));
    let [own, other] = plugin.offered();
    assert_eq!(own, [["1"], ["1"]]);
    assert_eq!(other, [vec!["2", "3"], vec!["2", "3"], vec!["4"]]);
    assert_eq!(plugin.counted(), 5);
}

#[tokio::test]
async fn a_sink_that_panics_or_does_not_answer_is_a_broker_that_is_away() {
    let plugin = Plugin::new(&["out.*"]);
    for (topic, what) in [
        ("out.broken", "the sink panicked: boom"),
        ("out.silent", "the sink answered for 0 of 1 records"),
    ] {
        let reason = format!("connection `own` does not take events for topic `{topic}`: {what}");
        let refused = plugin.publishes([event(topic, "1")]).await;
        assert_eq!(refused, Err(PublishRefusal::Unavailable(reason)));
    }
    assert_eq!(plugin.counted(), 0);
}
