//! Publishing: a batch in, one result per record out, each confirmed by the broker.

use std::{collections::HashSet, sync::Arc, time::Duration};

use async_trait::async_trait;
use lapin::{
    Channel, Confirmation,
    options::{BasicPublishOptions, ConfirmSelectOptions},
    protocol::AMQPSoftError,
    types::ShortString,
};
use parking_lot::Mutex;
use sandbar_core::{Outgoing, PublishError, Sink, SourceError};
use tokio::time::{Instant, timeout_at};

use crate::{config::Settings, error, link::Link, message::Message, topology::Topology};

/// Longest that the confirmations of a batch may take.
const CONFIRM: Duration = Duration::from_secs(30);

/// The connection's sink.
pub(crate) struct RabbitSink {
    settings: Arc<Settings>,
    link: Link,
    topology: Arc<Topology>,
    /// Channels that no batch uses at present. A batch has one to itself: lapin numbers
    /// messages and queues them in two steps, so that of two who publish at once each may
    /// hear what became of the other's; and a refusal closes the channel for all on it.
    idle: Mutex<Vec<Channel>>,
}

/// A record and what is published of it.
type Prepared<'a> = (&'a Outgoing, Message);

/// The fate of one record.
enum Fate {
    Confirmed,
    /// Another attempt may go through.
    Failed(String),
    /// The broker closed the channel, because of this record or of one beside it.
    Closed(AMQPSoftError, String),
}

impl RabbitSink {
    pub fn new(settings: Arc<Settings>, link: Link, topology: Arc<Topology>) -> Self {
        Self { settings, link, topology, idle: Mutex::default() }
    }

    async fn channel(&self) -> Result<Channel, SourceError> {
        while let Some(channel) = { self.idle.lock().pop() } {
            if channel.status().connected() {
                return Ok(channel);
            }
        }
        let channel = self.link.channel().await?;
        let selected = channel.confirm_select(ConfirmSelectOptions::default()).await;
        selected.map_err(|e| error::request("ask for confirmations", &e))?;
        Ok(channel)
    }

    /// Publishes a batch and waits for what becomes of each record.
    async fn attempt(&self, batch: &[Prepared<'_>]) -> Result<Vec<Fate>, SourceError> {
        let channel = self.channel().await?;
        let deadline = Instant::now() + CONFIRM;
        let mut sent = Vec::with_capacity(batch.len());
        for (record, message) in batch {
            let Message { exchange, routing_key, properties, mandatory } = message;
            let options = BasicPublishOptions { mandatory: *mandatory, immediate: false };
            let payload = record.payload.as_deref().unwrap_or_default();
            let (exchange, key) = (exchange.clone(), routing_key.clone());
            let publish =
                channel.basic_publish(exchange, key, options, payload, properties.clone());
            sent.push(timeout_at(deadline, publish).await);
        }
        let mut fates = Vec::with_capacity(batch.len());
        let mut returned: HashSet<ShortString> = HashSet::new();
        let mut late = false;
        for confirm in sent {
            let confirmed = match confirm {
                Ok(Ok(confirm)) => timeout_at(deadline, confirm).await,
                Ok(Err(e)) => Ok(Err(e)),
                Err(late) => Err(late),
            };
            fates.push(match confirmed {
                Ok(Ok(Confirmation::Ack(message))) => {
                    returned.extend(message.map(|message| message.delivery.exchange));
                    Fate::Confirmed
                }
                Ok(Ok(_)) => Fate::Failed("the broker could not store the event".into()),
                Ok(Err(e)) => match error::refusal(&e) {
                    Some(soft) => Fate::Closed(soft, error::words(&e)),
                    None => Fate::Failed(error::words(&e)),
                },
                Err(_) => {
                    late = true;
                    Fate::Failed("the broker has not confirmed the event in time".into())
                }
            });
        }
        // whatever is still said of what is late is for nobody
        if !late && channel.status().connected() {
            self.idle.lock().push(channel);
        }
        // which of a topic's events was returned is not told apart: none of them counts
        for ((_, message), fate) in batch.iter().zip(&mut fates) {
            if matches!(fate, Fate::Confirmed) && returned.contains(&message.exchange) {
                *fate = Fate::Failed("no queue is bound that takes the event".into());
            }
        }
        Ok(fates)
    }

    /// Publishes records one by one where the broker refused one of several, so that it is
    /// known which.
    async fn alone(&self, one: Prepared<'_>) -> Result<(), PublishError> {
        let topic = one.0.topic.clone();
        let fates = self.attempt(&[one]).await.map_err(away)?;
        fates.into_iter().try_for_each(|fate| self.verdict(&topic, fate))
    }

    /// What the fate of a record means that was published by itself.
    fn verdict(&self, topic: &str, fate: Fate) -> Result<(), PublishError> {
        let unavailable =
            |reason: String| Err(PublishError::Unavailable(format!("topic {topic}: {reason}")));
        match fate {
            Fate::Confirmed => Ok(()),
            Fate::Failed(reason) => unavailable(reason),
            Fate::Closed(AMQPSoftError::NOTFOUND, reason) => {
                self.topology.forget(topic);
                unavailable(reason)
            }
            Fate::Closed(_, reason) => Err(PublishError::Rejected(format!(
                "topic {topic}: the broker refuses the event: {reason}"
            ))),
        }
    }

    /// Closes the channels and the connection.
    pub async fn close(&self) {
        self.idle.lock().clear();
        self.link.close().await;
    }
}

fn away(error: SourceError) -> PublishError {
    PublishError::Unavailable(error.to_string())
}

#[async_trait]
impl Sink for RabbitSink {
    async fn publish(&self, records: &[Outgoing]) -> Vec<Result<(), PublishError>> {
        let refused = self.topology.refused(records.iter().map(|r| &r.topic)).await;
        let mut results = Vec::with_capacity(records.len());
        let (mut batch, mut places) = (Vec::with_capacity(records.len()), Vec::new());
        for (place, record) in records.iter().enumerate() {
            let message = match refused.get(&record.topic) {
                Some(error) => Err(error.clone()),
                None => Message::new(record, &self.settings.config),
            };
            results.push(message.map(|message| {
                batch.push((record, message));
                places.push(place);
            }));
        }
        if batch.is_empty() {
            return results;
        }
        let fates = match self.attempt(&batch).await {
            Ok(fates) => fates,
            Err(e) => {
                let away = away(e);
                places.iter().for_each(|place| results[*place] = Err(away.clone()));
                return results;
            }
        };
        let closed = fates.iter().any(|fate| matches!(fate, Fate::Closed(..)));
        let again = closed && batch.len() > 1;
        for ((one, fate), place) in batch.into_iter().zip(fates).zip(places) {
            results[place] = match fate {
                Fate::Closed(..) | Fate::Failed(_) if again => self.alone(one).await,
                fate => self.verdict(&one.0.topic, fate),
            };
        }
        results
    }
}
