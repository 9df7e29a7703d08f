//! RabbitMQ under test. A queue forgets what was taken from it, so the reader has a stream of its
//! own bound to each exchange that plugins write to, and what the broker confirmed is taken for
//! the input.

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use async_trait::async_trait;
use futures::StreamExt;
use lapin::{
    BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, ExchangeKind,
    message::Delivery,
    options::{
        BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions,
        ConfirmSelectOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions,
    },
    types::{AMQPValue, FieldTable},
};
use tokio::{
    task::JoinHandle,
    time::{sleep, timeout},
};

use crate::{
    broker::{Broker, END, Reading, Sender},
    options::Scenario,
    outbox::{Event, Outbox, Publish},
    process::{Process, Scripts},
    timeline::{Millis, now_ms},
    verifier::{Place, Record, Verifier},
    world::SESSION,
};

const SCRIPTS: Scripts = Scripts { name: "rabbitmq", proxied: 0, advertises: false, version: None };
/// Header in which a message's time has milliseconds.
const TIME: &str = "timestamp_in_ms";
/// Argument and header of a stream's positions.
const OFFSET: &str = "x-stream-offset";
/// Messages on their way to the reader.
const PREFETCH: u16 = 500;
/// Persistent.
const DURABLE: u8 = 2;
/// Longest time for a connection.
const CONNECTED: Duration = Duration::from_secs(10);
/// Longest time for which a reader hears nothing before it connects again.
const SILENCE: Duration = Duration::from_secs(5);
/// Pause before that.
const AGAIN: Duration = Duration::from_millis(200);

/// A RabbitMQ node.
pub struct RabbitMq(Process);

impl RabbitMq {
    /// Starts a node that keeps everything in `folder`.
    pub async fn start(folder: &Path) -> Result<Self> {
        Ok(Self(Process::start(SCRIPTS, folder).await?))
    }
}

/// A connection with one channel, whose messages are confirmed.
struct Link {
    channel: Channel,
    /// Its end would be the channel's.
    _connection: Connection,
}

impl Link {
    async fn open(address: &str) -> Result<Self> {
        let uri = format!("amqp://{address}");
        let open = async {
            let connection = Connection::connect(&uri, ConnectionProperties::default()).await?;
            let channel = connection.create_channel().await?;
            channel.confirm_select(ConfirmSelectOptions::default()).await?;
            anyhow::Ok(Self { channel, _connection: connection })
        };
        timeout(CONNECTED, open).await.context("RabbitMQ does not answer")?
    }

    /// Publishes all and waits until all are confirmed.
    async fn publish(&self, messages: &[(&str, String, &[u8])], mandatory: bool) -> Result<()> {
        let mut confirms = Vec::new();
        for (exchange, key, payload) in messages {
            let mut headers = FieldTable::default();
            headers.insert(TIME.into(), AMQPValue::LongLongInt(now_ms().try_into()?));
            let properties =
                BasicProperties::default().with_delivery_mode(DURABLE).with_headers(headers);
            let options = BasicPublishOptions { mandatory, ..BasicPublishOptions::default() };
            let (exchange, key) = ((*exchange).into(), key.as_str().into());
            let sent = self.channel.basic_publish(exchange, key, options, payload, properties);
            confirms.push(sent.await?);
        }
        for confirm in confirms {
            ensure!(matches!(confirm.await?, Confirmation::Ack(None)), "a message was not stored");
        }
        Ok(())
    }
}

/// The reader's queue of a topic.
fn queue(topic: &str) -> String {
    format!("verifier.{topic}")
}

#[async_trait]
impl Broker for RabbitMq {
    fn process(&self) -> &Process {
        &self.0
    }

    /// A connection is given up when two heartbeats are missed.
    fn settings(&self, _: Scenario) -> String {
        let (port, heartbeat) = (self.0.proxy().port(), SESSION.as_secs() / 2);
        format!(
            "[connections.rabbit]\ntype = \"rabbitmq\"\ncreate-topics = true\n\
             uri = \"amqp://127.0.0.1:{port}?heartbeat={heartbeat}\"\n"
        )
    }

    async fn create(&self, topics: &[(String, Place)]) -> Result<()> {
        let Link { channel, _connection } = &Link::open(&self.0.address()).await?;
        for (topic, place) in topics {
            let durable = ExchangeDeclareOptions { durable: true, ..Default::default() };
            let exchange = topic.as_str().into();
            channel
                .exchange_declare(exchange, ExchangeKind::Topic, durable, FieldTable::default())
                .await?;
            if *place == Place::Input {
                continue;
            }
            let mut stream = FieldTable::default();
            stream.insert("x-queue-type".into(), AMQPValue::LongString("stream".into()));
            let durable = QueueDeclareOptions { durable: true, ..Default::default() };
            let (queue, exchange) = (queue(topic), topic.as_str().into());
            channel.queue_declare(queue.as_str().into(), durable, stream).await?;
            let (options, none) = (QueueBindOptions::default(), FieldTable::default());
            channel.queue_bind(queue.into(), exchange, "#".into(), options, none).await?;
        }
        Ok(())
    }

    async fn sender(&self, input: &str, verifier: &Arc<Verifier>) -> Result<Arc<dyn Sender>> {
        let (address, exchange, verifier) = (self.0.address(), input.to_owned(), verifier.clone());
        Ok(Outbox::new(Producer { address, exchange, verifier, link: None }))
    }

    fn read(&self, topics: Vec<(String, Place)>, reading: Reading) -> Vec<JoinHandle<Result<()>>> {
        let plugins = topics.into_iter().filter(|(_, place)| *place != Place::Input);
        let read = |(topic, place): (String, _)| {
            tokio::spawn(follow(self.0.address(), topic, place, reading.clone()))
        };
        plugins.map(read).collect()
    }

    async fn mark_ends(&self, topics: &[String]) -> Result<()> {
        let link = Link::open(&self.0.address()).await?;
        let marks: Vec<_> = topics.iter().map(|t| (t.as_str(), END.to_owned(), &b""[..])).collect();
        link.publish(&marks, false).await
    }
}

struct Producer {
    address: String,
    exchange: String,
    verifier: Arc<Verifier>,
    /// After a failure a new one is opened.
    link: Option<Link>,
}

#[async_trait]
impl Publish for Producer {
    const AT_ONCE: usize = 50;

    async fn publish(&mut self, events: &[Event]) -> Result<()> {
        let link = match self.link.take() {
            Some(link) => link,
            None => Link::open(&self.address).await?,
        };
        let exchange = self.exchange.as_str();
        // events that no plugin's queue takes would be confirmed and gone
        let messages: Vec<_> =
            events.iter().map(|e| (exchange, e.key.to_string(), e.payload.as_bytes())).collect();
        link.publish(&messages, true).await?;
        self.link = Some(link);
        events.iter().for_each(|event| self.verifier.sent(event.key, &event.payload));
        Ok(())
    }
}

/// Reads the stream of `topic` from its beginning, through the deaths of the broker, to its end.
async fn follow(address: String, topic: String, place: Place, reading: Reading) -> Result<()> {
    let mut next = 0;
    while let Err(error) = read(&address, &topic, place, &mut next, &reading.verifier).await {
        if reading.dropped.is_cancelled() {
            bail!("{topic} was not read to its end: {error:#}");
        }
        sleep(AGAIN).await;
    }
    Ok(())
}

async fn read(
    address: &str,
    topic: &str,
    place: Place,
    next: &mut i64,
    verifier: &Verifier,
) -> Result<()> {
    let Link { channel, _connection } = &Link::open(address).await?;
    channel.basic_qos(PREFETCH, BasicQosOptions::default()).await?;
    let mut from = FieldTable::default();
    from.insert(OFFSET.into(), AMQPValue::LongLongInt(*next));
    let (queue, options) = (queue(topic).into(), BasicConsumeOptions::default());
    let mut messages = channel.basic_consume(queue, "verifier".into(), options, from).await?;
    loop {
        let message = timeout(SILENCE, messages.next()).await.context("nothing is heard")?;
        let message = message.context("the consumer was cancelled")??;
        message.acker.ack(BasicAckOptions::default()).await?;
        let offset = number(&message, OFFSET).context("a message without an offset")?;
        // a stream gives out whole chunks, whatever offset is asked for
        if offset < *next {
            continue;
        }
        *next = offset + 1;
        let key = message.routing_key.as_str();
        if key == END {
            return Ok(());
        }
        let timestamp = number(&message, TIME).and_then(|ms| Millis::try_from(ms).ok());
        verifier.observe(&Record {
            place,
            key: key.as_bytes(),
            payload: &message.data,
            timestamp: timestamp.unwrap_or_default(),
        });
    }
}

fn number(message: &Delivery, header: &str) -> Option<i64> {
    match message.properties.headers().as_ref()?.inner().get(header)? {
        AMQPValue::LongLongInt(n) => Some(*n),
        AMQPValue::LongInt(n) => Some((*n).into()),
        AMQPValue::LongUInt(n) => Some((*n).into()),
        AMQPValue::Timestamp(n) => i64::try_from(*n).ok(),
        _ => None,
    }
}
