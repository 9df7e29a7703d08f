//! Groups as durable consumers, one for each topic that a group reads.

use std::{collections::HashMap, time::Duration};

use async_nats::jetstream::{
    consumer::{AckPolicy, Config, DeliverPolicy, Info, PriorityPolicy},
    stream,
};
use sandbar_core::{PartitionId, ResumeFrom, SourceError, StartAt, reserved};
use serde::Deserialize;
use serde_json::json;

use crate::{
    link::Refusal,
    streams::{Streams, Topic, bounds},
    topics,
};

/// The one priority group of an exclusive consumer.
pub(crate) const READERS: &str = "readers";

const GROUP: &str = "sandbar-group";
const TOPIC: &str = "sandbar-topic";

#[derive(Deserialize)]
struct Page {
    total: usize,
    consumers: Option<Vec<Info>>,
}

#[derive(Deserialize)]
struct Deleted {}

impl Streams {
    /// The name of a group's consumer on `topic`.
    fn consumer_name(group: &str, topic: &Topic) -> String {
        format!("{}--{}", topics::name(group), topics::name(&topic.name))
    }

    async fn consumer(&self, topic: &Topic, name: &str) -> Result<Option<Info>, Refusal> {
        let subject = format!("CONSUMER.INFO.{}.{name}", topic.stream);
        match self.link.ask(subject, &json!({})).await {
            Ok(info) => Ok(Some(info)),
            Err(e) if e.is_missing() => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// How a consumer of this connection is configured, beside where it begins.
    fn configured(&self, group: &str, topic: &Topic, from: Config) -> Config {
        let link = &self.link.config;
        let mut config = Config {
            ack_wait: link.ack_wait,
            // what is under way is bounded by who reads
            max_ack_pending: -1,
            priority_policy: PriorityPolicy::None,
            priority_groups: Vec::new(),
            priority_timeout: Duration::ZERO,
            ..from
        };
        if link.exclusive {
            config.priority_policy = PriorityPolicy::PinnedClient;
            config.priority_groups = vec![READERS.to_owned()];
            config.priority_timeout = link.ack_wait;
        }
        let metadata = [(GROUP, group), (TOPIC, &*topic.name)];
        config.metadata.extend(metadata.map(|(k, v)| (k.to_owned(), v.to_owned())));
        config
    }

    fn fresh(&self, group: &str, topic: &Topic, begin: DeliverPolicy) -> Config {
        let name = Self::consumer_name(group, topic);
        let config = Config {
            durable_name: Some(name.clone()),
            name: Some(name),
            deliver_policy: begin,
            ack_policy: AckPolicy::Explicit,
            max_deliver: -1,
            filter_subject: topic.filter.clone(),
            ..Config::default()
        };
        self.configured(group, topic, config)
    }

    async fn write(&self, topic: &Topic, config: &Config) -> Result<Info, Refusal> {
        let name = config.name.as_deref().unwrap_or_default();
        let subject = format!("CONSUMER.DURABLE.CREATE.{}.{name}", topic.stream);
        let body = json!({ "stream_name": topic.stream, "config": config });
        self.link.ask(subject, &body).await
    }

    /// The consumer of `group` on `topic`, made where there is none.
    pub async fn join(
        &self,
        group: &str,
        topic: &Topic,
        start: StartAt,
    ) -> Result<Info, SourceError> {
        let what = format!("make the consumer of group {group} on topic {}", topic.name);
        let fail = |e: Refusal| e.during(&what);
        let name = Self::consumer_name(group, topic);
        let Some(found) = self.consumer(topic, &name).await.map_err(fail)? else {
            // what was sent to this group alone is for it, since whenever it lies there
            let begin = match start {
                StartAt::Latest if !reserved::is_reserved(&topic.name) => DeliverPolicy::New,
                _ => DeliverPolicy::All,
            };
            return self.write(topic, &self.fresh(group, topic, begin)).await.map_err(fail);
        };
        let wanted = self.configured(group, topic, found.config.clone());
        if wanted == found.config {
            return Ok(found);
        }
        self.write(topic, &wanted).await.map_err(fail)
    }

    /// The present state of a consumer; `None` where it is gone.
    pub async fn state(&self, topic: &Topic, name: &str) -> Result<Option<Info>, SourceError> {
        let found = self.consumer(topic, name).await;
        found.map_err(|e| e.during(&format!("look at consumer {name}")))
    }

    /// Lets another reader be the active one.
    pub async fn unpin(&self, topic: &Topic, name: &str) {
        let subject = format!("CONSUMER.UNPIN.{}.{name}", topic.stream);
        // where this fails the pin times out
        let _: Result<serde_json::Value, _> =
            self.link.ask(subject, &json!({ "group": READERS })).await;
    }

    async fn consumers(&self, stream: &str) -> Result<Vec<Info>, SourceError> {
        let mut all: Vec<Info> = Vec::new();
        loop {
            let subject = format!("CONSUMER.LIST.{stream}");
            let page: Page = match self.link.ask(subject, &json!({ "offset": all.len() })).await {
                Ok(page) => page,
                Err(e) if e.is_missing() => return Ok(Vec::new()),
                Err(e) => return Err(e.during(&format!("list the consumers of stream {stream}"))),
            };
            let consumers = page.consumers.unwrap_or_default();
            let last = consumers.is_empty();
            all.extend(consumers);
            if last || all.len() >= page.total {
                return Ok(all);
            }
        }
    }

    pub async fn cursors(
        &self,
        group: &str,
    ) -> Result<Vec<(PartitionId, ResumeFrom, ResumeFrom)>, SourceError> {
        let mut found = Vec::new();
        for stream in self.all().await?.iter().filter(|s| s.state.consumer_count > 0) {
            for consumer in self.consumers(&stream.config.name).await? {
                let metadata: &HashMap<_, _> = &consumer.config.metadata;
                if metadata.get(GROUP).is_none_or(|g| g != group) {
                    continue;
                }
                let Some(topic) = metadata.get(TOPIC) else { continue };
                let (from, end) = position(stream, &consumer);
                let id = PartitionId { topic: topic.as_str().into(), partition: 0 };
                found.push((id, ResumeFrom(from), ResumeFrom(end)));
            }
        }
        found.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(found)
    }

    pub async fn move_cursor(&self, group: &str, topic: &str, to: u64) -> Result<(), SourceError> {
        let (topic, _) = self.existing(topic).await?;
        let what = format!("move the cursor of {group} on {}", topic.name);
        let fail = |e: Refusal| e.during(&what);
        let name = Self::consumer_name(group, &topic);
        if let Some(found) = self.consumer(&topic, &name).await.map_err(fail)? {
            let pinned = found.priority_groups.iter().any(|g| g.pinned_client_id.is_some());
            if pinned || found.num_waiting > 0 {
                return Err(SourceError::Fatal(format!(
                    "cannot {what}: it has a subscription; stop it first (one that was killed \
                     counts for another {:?})",
                    self.link.config.ack_wait
                )));
            }
            let subject = format!("CONSUMER.DELETE.{}.{name}", topic.stream);
            match self.link.ask::<Deleted>(subject, &json!({})).await {
                Ok(_) => {}
                Err(e) if e.is_missing() => {}
                Err(e) => return Err(fail(e)),
            }
        }
        let begin = DeliverPolicy::ByStartSequence { start_sequence: to.max(1) };
        self.write(&topic, &self.fresh(group, &topic, begin)).await.map(|_| ()).map_err(fail)
    }
}

/// Where a consumer resumes, and the end of what it reads.
fn position(stream: &stream::Info, consumer: &Info) -> (u64, u64) {
    let (first, end) = bounds(stream);
    // beside its own topic the stream may hold others, which it never acknowledges
    if consumer.num_pending == 0 && consumer.num_ack_pending == 0 {
        return (end, end);
    }
    let begin = match consumer.config.deliver_policy {
        DeliverPolicy::ByStartSequence { start_sequence } => start_sequence,
        _ => first,
    };
    ((consumer.ack_floor.stream_sequence + 1).max(begin).max(first).min(end), end)
}
