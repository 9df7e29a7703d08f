//! SQS under test, by ElasticMQ with FIFO queues, which it keeps on disk. Whoever receives a
//! message has it, so the reader reads what plugins write alone, and what the broker took is
//! taken for the input.

use std::{
    collections::{HashMap, HashSet},
    path::Path,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use async_trait::async_trait;
use aws_sdk_sqs::{
    Client,
    config::{BehaviorVersion, Credentials, Region, timeout::TimeoutConfig},
    types::{
        DeleteMessageBatchRequestEntry, MessageSystemAttributeName as System,
        QueueAttributeName as Attribute, SendMessageBatchRequestEntry,
    },
};
use tokio::{task::JoinHandle, time::sleep};

use crate::{
    broker::{Broker, Reading, Sender},
    options::Scenario,
    outbox::{Event, Outbox, Publish},
    process::{Process, Scripts},
    timeline::Millis,
    verifier::{Place, Record, Verifier},
    world::SESSION,
};

const SCRIPTS: Scripts =
    Scripts { name: "elasticmq", proxied: 0, advertises: false, version: None };
/// Messages of one call, by SQS.
const AT_ONCE: usize = 10;
/// Seconds for which a call waits for messages.
const WAIT: i32 = 1;
/// Seconds after which the reader gets a message again that it could not delete.
const AGAIN_AFTER: &str = "10";
/// Longest time for a call.
const PATIENCE: Duration = Duration::from_secs(5);
/// Pause before a call is repeated.
const AGAIN: Duration = Duration::from_millis(200);

/// An ElasticMQ server.
pub struct Sqs {
    process: Process,
    client: Client,
}

impl Sqs {
    /// Starts a server that keeps everything in `folder`.
    pub async fn start(folder: &Path) -> Result<Self> {
        let process = Process::start(SCRIPTS, folder).await?;
        let http = aws_smithy_http_client::Builder::new().build_http();
        let config = aws_sdk_sqs::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .http_client(http)
            .timeout_config(TimeoutConfig::builder().operation_timeout(PATIENCE).build())
            .region(Region::new("us-east-1"))
            .endpoint_url(format!("http://{}", process.address()))
            .credentials_provider(Credentials::new("chaos", "chaos", None, None, "chaos"));
        Ok(Self { process, client: Client::from_conf(config.build()) })
    }

    fn url(&self, topic: &str) -> String {
        format!("http://{}/000000000000/{}", self.process.address(), queue(topic))
    }
}

/// Of a topic.
fn queue(topic: &str) -> String {
    format!("{}.fifo", topic.replace('.', "__"))
}

#[async_trait]
impl Broker for Sqs {
    fn process(&self) -> &Process {
        &self.process
    }

    fn settings(&self, _: Scenario) -> String {
        let (port, session) = (self.process.proxy().port(), SESSION.as_secs());
        format!(
            "[connections.sqs]\ntype = \"sqs\"\nendpoint = \"http://127.0.0.1:{port}\"\n\
             access-key-id = \"chaos\"\nsecret-access-key = \"chaos\"\nfifo = true\n\
             create-topics = true\nvisibility-timeout = \"{session}s\"\nwait = \"0s\"\n"
        )
    }

    async fn create(&self, topics: &[(String, Place)]) -> Result<()> {
        for (topic, _) in topics {
            let call = self.client.create_queue().queue_name(queue(topic));
            let call = call.attributes(Attribute::FifoQueue, "true");
            call.attributes(Attribute::VisibilityTimeout, AGAIN_AFTER).send().await?;
        }
        Ok(())
    }

    async fn sender(&self, input: &str, verifier: &Arc<Verifier>) -> Result<Arc<dyn Sender>> {
        let (client, queue, verifier) = (self.client.clone(), self.url(input), verifier.clone());
        Ok(Outbox::new(Producer { client, queue, verifier }))
    }

    fn read(&self, topics: Vec<(String, Place)>, reading: Reading) -> Vec<JoinHandle<Result<()>>> {
        let plugins = topics.into_iter().filter(|(_, place)| *place != Place::Input);
        let read = |(topic, place): (String, _)| {
            let (client, queue) = (self.client.clone(), self.url(&topic));
            tokio::spawn(follow(client, queue, place, reading.clone()))
        };
        plugins.map(read).collect()
    }
}

struct Producer {
    client: Client,
    queue: String,
    verifier: Arc<Verifier>,
}

#[async_trait]
impl Publish for Producer {
    const AT_ONCE: usize = AT_ONCE;

    async fn publish(&mut self, events: &[Event]) -> Result<()> {
        let entry = |(n, event): (usize, &Event)| {
            SendMessageBatchRequestEntry::builder()
                .id(n.to_string())
                .message_group_id(event.key.to_string())
                // the server drops what it has stored already
                .message_deduplication_id(event.id.to_string())
                .message_body(&event.payload)
                .build()
        };
        let entries = events.iter().enumerate().map(entry).collect::<Result<_, _>>()?;
        let call = self.client.send_message_batch().queue_url(&self.queue);
        let answer = call.set_entries(Some(entries)).send().await?;
        ensure!(answer.failed().is_empty(), "not all was stored: {:?}", answer.failed());
        events.iter().for_each(|event| self.verifier.sent(event.key, &event.payload));
        Ok(())
    }
}

/// Reads `queue` until nothing more is written and it is empty.
async fn follow(client: Client, queue: String, place: Place, reading: Reading) -> Result<()> {
    let mut known = HashSet::new();
    loop {
        ensure!(!reading.dropped.is_cancelled(), "{queue} was not read to its end");
        let last = reading.written.is_cancelled();
        match read(&client, &queue, place, &mut known, &reading.verifier).await {
            Ok(()) if last && is_empty(&client, &queue).await.unwrap_or(false) => return Ok(()),
            Ok(()) => {}
            // it is away and will be back
            Err(_) => sleep(AGAIN).await,
        }
    }
}

/// Takes what one call gives. A message that is `known` could not be deleted before.
async fn read(
    client: &Client,
    queue: &str,
    place: Place,
    known: &mut HashSet<String>,
    verifier: &Verifier,
) -> Result<()> {
    let call = client.receive_message().queue_url(queue).wait_time_seconds(WAIT);
    let call =
        call.max_number_of_messages(AT_ONCE as i32).message_system_attribute_names(System::All);
    let mut done = Vec::new();
    for message in call.send().await?.messages.unwrap_or_default() {
        let id = message.message_id.context("a message without an id")?;
        let none = HashMap::new();
        let attributes = message.attributes.as_ref().unwrap_or(&none);
        let key = attributes.get(&System::MessageGroupId).context("a message without a group")?;
        let sent = attributes.get(&System::SentTimestamp).and_then(|ms| ms.parse::<Millis>().ok());
        if known.insert(id) {
            verifier.observe(&Record {
                place,
                key: key.as_bytes(),
                payload: message.body.as_deref().unwrap_or_default().as_bytes(),
                timestamp: sent.unwrap_or_default(),
            });
        }
        let entry = DeleteMessageBatchRequestEntry::builder().id(done.len().to_string());
        done.push(entry.set_receipt_handle(message.receipt_handle).build()?);
    }
    if !done.is_empty() {
        client.delete_message_batch().queue_url(queue).set_entries(Some(done)).send().await?;
    }
    Ok(())
}

async fn is_empty(client: &Client, queue: &str) -> Result<bool> {
    let counts =
        [Attribute::ApproximateNumberOfMessages, Attribute::ApproximateNumberOfMessagesNotVisible];
    let call = client.get_queue_attributes().queue_url(queue);
    let answer = call.set_attribute_names(Some(counts.to_vec())).send().await?;
    let attributes = answer.attributes.context("no attributes")?;
    Ok(counts.iter().all(|count| attributes.get(count).is_some_and(|n| n == "0")))
}
