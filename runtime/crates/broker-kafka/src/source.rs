//! One subscription: a member of a consumer group.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use async_trait::async_trait;
use rdkafka::consumer::Consumer;
use sandbar_core::{Guarantees, Source, SourceError, SourceEvent, StartAt, SubscriptionSpec};
use tokio::sync::{mpsc, oneshot};

use crate::{
    admin::{self, Admin},
    assignment::{Group, GroupConsumer},
    config::Settings,
    creation::Kept,
    known::KnownTopics,
    poll::{self, Orders},
    sharing::Sharing,
    topics,
    transactions::Transactions,
    transactor::Transactor,
};

/// Longest time that the last commit and the farewell to the group may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(20);
/// Pause between attempts to find or make the topics.
const TOPICS_EVERY: Duration = Duration::from_secs(2);

/// What a Kafka source promises. Outputs and position become one step only in transactions.
pub(crate) const GUARANTEES: Guarantees = Guarantees {
    ordered: true,
    atomic_effects: false,
    atomic_marks: false,
    atomic_state: false,
    tombstones: true,
    delayed_release: false,
    spread_over_processes: true,
    fan_out: true,
    retained: true,
    redelivery_counted: false,
};

/// A member of a consumer group.
pub(crate) struct KafkaSource {
    events: mpsc::UnboundedReceiver<Result<SourceEvent, SourceError>>,
    orders: Arc<Orders>,
    ended: oneshot::Receiver<Result<(), SourceError>>,
    exactly_once: bool,
}

impl KafkaSource {
    pub fn open(
        settings: &Settings,
        admin: &Arc<Admin>,
        connection: &Arc<str>,
        known: &Arc<KnownTopics>,
        sharing: &Arc<Sharing>,
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
        let group = settings.group(&spec).map_err(|e| fatal(e.to_string()))?;

        // what is sent is bounded by the assignment and by the rate of reports; a bounded channel
        // would stop the polling whenever the pipeline looks away
        #[allow(clippy::disallowed_methods)]
        let (sender, events) = mpsc::unbounded_channel();
        let (transactions, waiting) =
            spec.exactly_once.then(|| Transactions::new(known.clone())).unzip();
        let sharing = group.shares.then(|| sharing.clone());
        let (name, transacted) = (connection.clone(), transactions.clone());
        let context = Group::new(name, &spec, group.drain, transacted, sharing, sender);
        let consumer: GroupConsumer =
            group.client.create_with_context(context).map_err(|e| fatal(e.to_string()))?;
        let consumer = Arc::new(consumer);
        consumer.context().bind(&consumer);
        {
            let mut groups = admin.groups.lock();
            groups.retain(|_, group| group.strong_count() > 0);
            groups.insert(spec.group.clone(), Arc::downgrade(consumer.context()));
        }
        if let Some((transactions, waiting)) = transactions.clone().zip(waiting) {
            let (client, timeout) =
                settings.transactional(&spec.group).map_err(|e| fatal(e.to_string()))?;
            let (connection, stats) = (connection.clone(), spec.stats.clone());
            let context = consumer.context().clone();
            Transactor::new(connection, context, transactions, client, timeout, stats)
                .start(waiting)
                .map_err(|e| fatal(format!("no thread for transactions: {e}")))?;
        }

        let orders = Arc::new(Orders::default());
        let names: Vec<String> =
            spec.topics.into_iter().filter(|topic| !topics::is_glob(topic)).collect();
        let preparation = Preparation {
            admin: admin.clone(),
            make: if settings.config.create_topics { names.clone() } else { Vec::new() },
            begin: match spec.start {
                StartAt::Latest => names,
                StartAt::Earliest => Vec::new(),
            },
            group: consumer.context().clone(),
            name: spec.group,
            orders: orders.clone(),
        };
        if !preparation.make.is_empty() || !preparation.begin.is_empty() {
            tokio::spawn(preparation.run());
        } else {
            orders.subscribe.store(true, Ordering::Release);
        }
        let ended =
            poll::start(consumer, patterns, orders.clone(), transactions.clone()).map_err(|e| {
                if let Some(transactions) = &transactions {
                    transactions.stop();
                }
                fatal(format!("no thread for polling: {e}"))
            })?;
        Ok(Self { events, orders, ended, exactly_once: spec.exactly_once })
    }
}

/// What has to be done before a member joins its group.
struct Preparation {
    admin: Arc<Admin>,
    /// Topics to be made where they are missing.
    make: Vec<String>,
    /// Topics whose later events the group is to get: without a cursor of its own it would
    /// begin wherever they end when it first fetches, which may be any time later.
    begin: Vec<String>,
    group: Arc<Group>,
    name: String,
    orders: Arc<Orders>,
}

impl Preparation {
    /// Does it, then lets the subscription begin. While the broker is away this goes on
    /// trying; a refusal leaves it to the topics to appear.
    async fn run(self) {
        while !self.orders.stop.load(Ordering::Acquire) {
            match self.attempt().await {
                Err(SourceError::Unavailable(reason)) => self.group.report("topics", &reason),
                Err(e) => {
                    self.group.report("topics", &e.to_string());
                    break;
                }
                Ok(()) => break,
            }
            tokio::time::sleep(TOPICS_EVERY).await;
        }
        self.orders.subscribe.store(true, Ordering::Release);
    }

    async fn attempt(&self) -> Result<(), SourceError> {
        if !self.make.is_empty() {
            self.admin.ensure(&self.make, Kept::AsConfigured).await?;
        }
        let (admin, name, begin) = (self.admin.clone(), self.name.clone(), self.begin.clone());
        admin::blocking(move || begin.iter().try_for_each(|topic| admin.begin(&name, topic))).await
    }
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
        Guarantees { atomic_effects: self.exactly_once, ..GUARANTEES }
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
