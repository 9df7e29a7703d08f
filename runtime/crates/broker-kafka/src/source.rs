//! One subscription: a member of a consumer group.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use async_trait::async_trait;
use rdkafka::consumer::Consumer;
use sandbar_core::{Guarantees, Source, SourceError, SourceEvent, SubscriptionSpec};
use tokio::sync::{mpsc, oneshot};

use crate::{
    admin::Admin,
    assignment::{Group, GroupConsumer},
    config::Settings,
    poll::{self, Orders},
    topics,
};

/// Longest time that the last commit and the farewell to the group may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(20);
/// Pause between attempts to find or make the topics.
const TOPICS_EVERY: Duration = Duration::from_secs(2);

/// What a Kafka source promises. Outputs and position become one step only with
/// transactions, which this source does not use.
const GUARANTEES: Guarantees = Guarantees {
    ordered: true,
    atomic_effects: false,
    tombstones: true,
    delayed_release: false,
    spread_over_processes: true,
};

/// A member of a consumer group.
pub(crate) struct KafkaSource {
    events: mpsc::UnboundedReceiver<Result<SourceEvent, SourceError>>,
    orders: Arc<Orders>,
    ended: oneshot::Receiver<Result<(), SourceError>>,
}

impl KafkaSource {
    pub fn open(
        settings: &Settings,
        admin: &Arc<Admin>,
        connection: &Arc<str>,
        spec: SubscriptionSpec,
    ) -> Result<Self, SourceError> {
        let fatal = |what: String| SourceError::Fatal(format!("connection {connection}: {what}"));
        if spec.topics.is_empty() {
            return Err(fatal(format!("group {} subscribes to no topic", spec.group)));
        }
        let patterns = spec.topics.iter().map(|topic| {
            topics::subscription(topic).ok_or_else(|| {
                fatal(format!(
                    "`{topic}` is no topic name or pattern: use letters, digits, `.`, `_`, `-`, \
                     and `*` for any of them"
                ))
            })
        });
        let patterns: Vec<String> = patterns.collect::<Result<_, _>>()?;
        let group = settings
            .group(&spec.group, spec.start, spec.prefetch, spec.drain_timeout)
            .map_err(|e| fatal(e.to_string()))?;

        // what is sent is bounded by the assignment and by the rate of reports; a bounded channel
        // would stop the polling whenever the pipeline looks away
        #[allow(clippy::disallowed_methods)]
        let (sender, events) = mpsc::unbounded_channel();
        let context = Group::new(connection.clone(), &spec.group, group.drain, sender);
        let consumer: GroupConsumer =
            group.client.create_with_context(context).map_err(|e| fatal(e.to_string()))?;
        let consumer = Arc::new(consumer);
        consumer.context().bind(&consumer);

        let orders = Arc::new(Orders::default());
        let names: Vec<String> =
            spec.topics.into_iter().filter(|topic| !topics::is_glob(topic)).collect();
        if settings.config.create_topics && !names.is_empty() {
            let context = consumer.context().clone();
            tokio::spawn(prepare(admin.clone(), names, context, orders.clone()));
        } else {
            orders.subscribe.store(true, Ordering::Release);
        }
        let ended = poll::start(consumer, patterns, orders.clone())
            .map_err(|e| fatal(format!("no thread for polling: {e}")))?;
        Ok(Self { events, orders, ended })
    }
}

/// Makes the topics that are missing, then lets the subscription begin. While the
/// broker is away this goes on trying; a refusal leaves it to the topics to appear.
async fn prepare(admin: Arc<Admin>, names: Vec<String>, group: Arc<Group>, orders: Arc<Orders>) {
    while !orders.stop.load(Ordering::Acquire) {
        match admin.ensure(&names).await {
            Err(SourceError::Unavailable(reason)) => group.report("topics", &reason),
            Err(e) => {
                group.report("topics", &e.to_string());
                break;
            }
            Ok(()) => break,
        }
        tokio::time::sleep(TOPICS_EVERY).await;
    }
    orders.subscribe.store(true, Ordering::Release);
}

impl Drop for KafkaSource {
    fn drop(&mut self) {
        // the thread commits what was settled, leaves the group and ends; nothing is settled here
        self.orders.stop.store(true, Ordering::Release);
    }
}

#[async_trait]
impl Source for KafkaSource {
    fn guarantees(&self) -> Guarantees {
        GUARANTEES
    }

    async fn next(&mut self) -> Result<SourceEvent, SourceError> {
        let ended = || Err(SourceError::Fatal("the subscription has ended".into()));
        self.events.recv().await.unwrap_or_else(ended)
    }

    async fn close(mut self: Box<Self>) -> Result<(), SourceError> {
        self.orders.stop.store(true, Ordering::Release);
        let unclear = |what: &str| {
            SourceError::Unavailable(format!(
                "{what}; what was not committed will be delivered again"
            ))
        };
        match tokio::time::timeout(CLOSE_TIMEOUT, &mut self.ended).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(unclear("the polling thread ended without a word")),
            Err(_) => Err(unclear("the group could not be left in time")),
        }
    }
}
