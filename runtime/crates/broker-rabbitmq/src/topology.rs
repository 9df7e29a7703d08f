//! Exchanges, queues and bindings: declared, or looked for.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use lapin::{
    Channel, Error, ExchangeKind,
    options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions},
    protocol::AMQPSoftError,
    types::{AMQPValue, FieldTable, ShortString},
};
use parking_lot::RwLock;
use sandbar_core::{PublishError, SourceError, reserved};

use crate::{config::ExchangeType, config::Settings, error, link::Link, message::short};

/// Arguments of a queue without which its subscription would not be what was asked for.
const ESSENTIAL: [&str; 3] = ["x-queue-type", "x-single-active-consumer", "durable"];
/// When an event has failed often enough is for the retry policy to say. RabbitMQ 4 drops it
/// after 20 deliveries unless told otherwise; it takes -1 for "never", which the versions
/// before take for "at once".
const DELIVERY_LIMIT: i64 = i32::MAX as i64;

/// Why something cannot be used.
pub(crate) enum Lack {
    /// It does not exist and may not be made.
    Missing(String),
    /// The broker is away, or does not let us.
    Other(SourceError),
}

impl From<SourceError> for Lack {
    fn from(error: SourceError) -> Self {
        Self::Other(error)
    }
}

/// What this connection makes and finds at the broker.
pub(crate) struct Topology {
    settings: Arc<Settings>,
    link: Arc<Link>,
    /// Topics that were seen. Publishing to an exchange that does not exist would close the
    /// channel under all that is on its way.
    seen: RwLock<HashSet<Arc<str>>>,
}

impl Topology {
    /// `link` must not be the one that publishes: that may be blocked.
    pub fn new(settings: Arc<Settings>, link: Arc<Link>) -> Self {
        Self { settings, link, seen: RwLock::default() }
    }

    /// Those of `topics` that cannot be written to, and why.
    pub async fn refused(
        &self,
        topics: impl Iterator<Item = &Arc<str>>,
    ) -> HashMap<Arc<str>, PublishError> {
        let new: HashSet<Arc<str>> = {
            let seen = self.seen.read();
            topics.filter(|t| !seen.contains(*t)).cloned().collect()
        };
        let mut refused = HashMap::new();
        for topic in new {
            let error = match self.ensure(&topic).await {
                Ok(()) => continue,
                Err(SourceError::Unavailable(reason)) => PublishError::Unavailable(reason),
                Err(e) => PublishError::Rejected(e.to_string()),
            };
            refused.insert(topic, error);
        }
        refused
    }

    /// `topic` is gone: the next attempt looks again, and says which.
    pub fn forget(&self, topic: &str) {
        self.seen.write().remove(topic);
    }

    /// Makes sure of a topic that is written to. A reserved one gets its reader's queue
    /// too: nothing sent there may be lost before that comes.
    ///
    /// # Errors
    /// [`SourceError::Fatal`] where it may not be made.
    pub async fn ensure(&self, topic: &str) -> Result<(), SourceError> {
        let made = match reserved_queue(topic) {
            Some(queue) => self.queue(&queue, topic).await,
            None => self.exchange(topic).await.map(|_| ()),
        };
        made.map_err(|lack| match lack {
            Lack::Missing(what) => {
                SourceError::Fatal(format!("{what}, and `create-topics` is off"))
            }
            Lack::Other(error) => error,
        })?;
        self.seen.write().insert(topic.into());
        Ok(())
    }

    /// The exchange of a topic. One that exists is taken as it is: with the broker's words
    /// where it is not of the configured type.
    async fn exchange(&self, topic: &str) -> Result<Option<String>, Lack> {
        let (name, create) = (name(topic)?, self.settings.config.create_topics);
        let what = format!("exchange {topic}");
        let kind = match reserved::is_reserved(topic) {
            true => ExchangeKind::Fanout,
            false => self.settings.config.exchange_type.kind(),
        };
        let declare = async |passive: bool| {
            let options = ExchangeDeclareOptions { passive, durable: true, ..Default::default() };
            let (name, kind) = (name.clone(), kind.clone());
            let channel = self.link.channel().await?;
            let table = FieldTable::default();
            Ok::<_, SourceError>(channel.exchange_declare(name, kind, options, table).await)
        };
        let mut differs = None;
        if create {
            match declare(false).await? {
                Ok(()) => return Ok(None),
                Err(e) if may_exist(&e) => differs = Some(error::words(&e)),
                Err(e) => return Err(error::request(&format!("declare {what}"), &e).into()),
            }
        }
        match declare(true).await? {
            Ok(()) => Ok(differs),
            Err(e) if error::is_missing(&e) && !create => {
                Err(Lack::Missing(format!("{what} does not exist")))
            }
            Err(e) => {
                let because = differs.map(|d| format!(" ({d})")).unwrap_or_default();
                Err(error::request(&format!("declare or find {what}{because}"), &e).into())
            }
        }
    }

    /// The queue of a group on a topic, its exchange and its bindings.
    pub async fn queue(&self, queue: &str, topic: &str) -> Result<(), Lack> {
        let differs = self.exchange(topic).await?;
        let name = name(queue)?;
        if !self.settings.config.create_topics {
            return self.find(&name).await.map(|_| ());
        }
        let keys = self.routing_keys(queue, topic, differs)?;
        let channel = self.declare(&name, queue).await?;
        for key in keys {
            let (options, table) = (QueueBindOptions::default(), FieldTable::default());
            // the length of keys is checked with the configuration
            let (exchange, key) = (self::name(topic)?, short(&key).unwrap_or_default());
            let bound = channel.queue_bind(name.clone(), exchange, key, options, table).await;
            bound.map_err(|e| error::request(&format!("bind queue {queue} to {topic}"), &e))?;
        }
        Ok(())
    }

    fn routing_keys(
        &self,
        queue: &str,
        topic: &str,
        differs: Option<String>,
    ) -> Result<Vec<String>, SourceError> {
        let everything = vec!["#".to_owned()];
        if reserved::is_reserved(topic) {
            return Ok(everything);
        }
        if let Some(keys) = self.settings.bindings(queue, topic) {
            return Ok(keys.to_vec());
        }
        let why = match (differs, self.settings.config.exchange_type) {
            (Some(words), _) => format!("the exchange is not as `exchange-type` says ({words})"),
            (None, ExchangeType::Direct) => "the exchange is a direct one".into(),
            (None, _) => return Ok(everything),
        };
        Err(SourceError::Fatal(format!(
            "queue {queue} has no routing keys to be bound with, and {why}: name them under \
             `bindings` as `\"{topic}\" = [..]`"
        )))
    }

    /// Declares the queue. One that exists is taken as it is, as long as it keeps what
    /// the subscription rests on.
    async fn declare(&self, name: &ShortString, queue: &str) -> Result<Channel, SourceError> {
        let options = QueueDeclareOptions { durable: true, ..Default::default() };
        let channel = self.link.channel().await?;
        let error = match channel.queue_declare(name.clone(), options, self.arguments()).await {
            Ok(_) => return Ok(channel),
            Err(e) => e,
        };
        let words = error::words(&error);
        let is_essential = |name: &&str| words.contains(&format!("inequivalent arg '{name}'"));
        if let Some(argument) = ESSENTIAL.iter().find(|a| is_essential(a)) {
            return Err(SourceError::Fatal(format!(
                "queue {queue} exists with another `{argument}` than the configuration asks for \
                 ({words}): delete it, or set `create-topics` to false to take it as it is"
            )));
        }
        if !may_exist(&error) {
            return Err(error::request(&format!("declare queue {queue}"), &error));
        }
        tracing::warn!(
            queue,
            reason = words,
            "the queue is taken as it is: a delivery limit of its own drops or dead-letters events \
             behind the retry policy's back, and its order is that of its own arguments"
        );
        self.find(name).await.map_err(|lack| match lack {
            Lack::Missing(what) => SourceError::Fatal(format!("{what}: {words}")),
            Lack::Other(error) => error,
        })
    }

    fn arguments(&self) -> FieldTable {
        let config = &self.settings.config;
        let mut table = FieldTable::default();
        table.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
        if config.exclusive {
            table.insert("x-single-active-consumer".into(), AMQPValue::Boolean(true));
        }
        table.insert("x-delivery-limit".into(), AMQPValue::LongLongInt(DELIVERY_LIMIT));
        for (name, value) in &config.queue_arguments {
            table.insert(name.as_str().into(), value.into());
        }
        table
    }

    async fn find(&self, name: &ShortString) -> Result<Channel, Lack> {
        let channel = self.link.channel().await?;
        match passive(&channel, name).await {
            Ok(_) => Ok(channel),
            Err(e) if error::is_missing(&e) => {
                Err(Lack::Missing(format!("queue {name} does not exist")))
            }
            Err(e) => Err(error::request(&format!("find queue {name}"), &e).into()),
        }
    }

    /// Events in `queue` that are delivered to nobody; `None` where there is no such queue.
    ///
    /// # Errors
    /// While the broker is away.
    pub async fn ready(&self, queue: &str) -> Result<Option<u32>, SourceError> {
        let channel = self.link.channel().await?;
        match passive(&channel, &name(queue)?).await {
            Ok(ready) => Ok(Some(ready)),
            Err(e) if error::is_missing(&e) => Ok(None),
            Err(e) => Err(error::request(&format!("ask for queue {queue}"), &e)),
        }
    }
}

/// Events that are ready in a queue that exists.
pub(crate) async fn passive(channel: &Channel, name: &ShortString) -> Result<u32, Error> {
    let options = QueueDeclareOptions { passive: true, ..Default::default() };
    let found = channel.queue_declare(name.clone(), options, FieldTable::default()).await?;
    Ok(found.message_count())
}

/// Whether what was to be declared may exist, in another way or in somebody else's care.
fn may_exist(error: &Error) -> bool {
    use AMQPSoftError as E;
    matches!(error::refusal(error), Some(E::PRECONDITIONFAILED | E::ACCESSREFUSED))
}

fn name(text: &str) -> Result<ShortString, SourceError> {
    let fits = !text.is_empty() && !text.contains('*');
    short(text).filter(|_| fits).ok_or_else(|| {
        SourceError::Fatal(format!("`{text}` is no name: it has from 1 to 255 bytes, and no `*`"))
    })
}

/// The queue of a group on a topic.
pub(crate) fn queue_name(group: &str, topic: &str) -> String {
    format!("{group}.{topic}")
}

/// The queue of who reads a reserved topic; named as the topic where that is people.
fn reserved_queue(topic: &str) -> Option<String> {
    if !reserved::is_reserved(topic) {
        return None;
    }
    if let Some(group) = topic.strip_prefix(&reserved::inbox("")) {
        return Some(queue_name(group, topic));
    }
    let tier = topic.strip_suffix("ms").map(|t| t.trim_end_matches(|c: char| c.is_ascii_digit()));
    let courier = reserved::courier("");
    let is_tier =
        |tier: &&str| courier.strip_suffix("courier").is_some_and(|r| tier.starts_with(r));
    match tier.filter(is_tier) {
        Some(tier) => Some(queue_name(&format!("{tier}courier"), topic)),
        None => Some(topic.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn reserved_topics_have_the_queue_of_their_reader() {
        assert_eq!(reserved_queue("orders"), None);
        assert_eq!(reserved_queue(&reserved::inbox("a.g")).unwrap(), "a.g.sandbar-inbox.a.g");
        let tier = reserved::retry_tier("a.", Duration::from_secs(5));
        assert_eq!(reserved_queue(&tier).unwrap(), queue_name(&reserved::courier("a."), &tier));
        let people = reserved::undeliverable("a.");
        assert_eq!(reserved_queue(&people).unwrap(), people);
    }

    #[test]
    fn names_are_neither_empty_nor_too_long() {
        assert!(name("orders.eu:1").is_ok());
        for bad in ["", "orders.*", &"x".repeat(256)] {
            assert!(matches!(name(bad), Err(SourceError::Fatal(_))), "{bad}");
        }
    }
}
