//! SQS by AWS's own client.

use std::{collections::HashMap, error::Error, fmt::Display, time::Duration};

use async_trait::async_trait;
use aws_config::{
    BehaviorVersion, Region, environment::region::EnvironmentVariableRegionProvider,
    meta::region::RegionProviderChain, profile::ProfileFileRegionProvider, retry::RetryConfig,
    timeout::TimeoutConfig,
};
use aws_sdk_sqs::{
    Client,
    config::Credentials,
    error::{BuildError, ProvideErrorMetadata, SdkError},
    primitives::Blob,
    types::{
        BatchResultErrorEntry, ChangeMessageVisibilityBatchRequestEntry,
        DeleteMessageBatchRequestEntry, MessageAttributeValue,
        MessageSystemAttributeName as System, QueueAttributeName as Attribute,
        SendMessageBatchRequestEntry,
    },
};
use aws_smithy_http_client::tls;
use tokio::sync::OnceCell;

use crate::{
    api::{Api, Described, Each, unmentioned},
    attributes::Value,
    config::SqsConfig,
    error::{Failure, Kind},
    record::{Message, Received},
};

const CONNECT: Duration = Duration::from_secs(3);
/// Longest that a call may take beyond the time that SQS was asked to wait, the client's
/// own repetitions included.
pub(crate) const PATIENCE: Duration = Duration::from_secs(15);
/// Fourteen days, the longest that SQS keeps a message.
const RETENTION: &str = "1209600";

/// A client that is made when it is first needed: finding region and credentials may take
/// files and requests.
pub(crate) struct Aws {
    config: SqsConfig,
    client: OnceCell<Client>,
}

impl Aws {
    pub fn new(config: SqsConfig) -> Self {
        Self { config, client: OnceCell::new() }
    }

    async fn client(&self) -> Result<&Client, Failure> {
        self.client.get_or_try_init(|| Box::pin(load(&self.config))).await
    }
}

async fn load(config: &SqsConfig) -> Result<Client, Failure> {
    let provider = tls::Provider::Rustls(tls::rustls_provider::CryptoMode::Ring);
    let http = aws_smithy_http_client::Builder::new().tls_provider(provider).build_https();
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        .http_client(http)
        .retry_config(RetryConfig::standard().with_max_attempts(3))
        .timeout_config(TimeoutConfig::builder().connect_timeout(CONNECT).build());
    if let Some(profile) = &config.profile {
        loader = loader.profile_name(profile);
    }
    if let Some(region) = &config.region {
        loader = loader.region(Region::new(region.clone()));
    } else if config.endpoint.is_some() {
        // servers that stand in for AWS care for none, and have no instance metadata to ask
        let region = RegionProviderChain::first_try(EnvironmentVariableRegionProvider::new())
            .or_else(ProfileFileRegionProvider::new())
            .or_else("us-east-1");
        loader = loader.region(region);
    }
    if let Some(endpoint) = &config.endpoint {
        loader = loader.endpoint_url(endpoint);
    }
    if let (Some(id), Some(secret)) = (&config.access_key_id, &config.secret_access_key) {
        let token = config.session_token.clone();
        loader = loader.credentials_provider(Credentials::new(id, secret, token, None, "sandbar"));
    }
    let shared = loader.load().await;
    if shared.region().is_none() {
        return Err(Failure {
            kind: Kind::Refused,
            message: "no AWS region: set `region` on the connection, or AWS_REGION".into(),
        });
    }
    Ok(Client::new(&shared))
}

#[async_trait]
impl Api for Aws {
    async fn send(&self, queue: &str, messages: &[&Message]) -> Result<Each, Failure> {
        let entries = messages.iter().enumerate().map(|(index, message)| entry(index, message));
        let entries = entries.collect::<Result<_, _>>().map_err(built)?;
        let call = self.client().await?.send_message_batch().queue_url(queue);
        let answer = timed(Duration::ZERO, call.set_entries(Some(entries)).send()).await?;
        let sent = answer.successful().iter().map(|entry| entry.id());
        Ok(each(messages.len(), sent, answer.failed()))
    }

    async fn receive(
        &self,
        queue: &str,
        max: usize,
        wait: Duration,
        visibility: Duration,
    ) -> Result<Vec<Received>, Failure> {
        let call = self
            .client()
            .await?
            .receive_message()
            .queue_url(queue)
            .max_number_of_messages(max as i32)
            .wait_time_seconds(seconds(wait))
            .visibility_timeout(seconds(visibility))
            .message_attribute_names("All")
            .message_system_attribute_names(System::All);
        let answer = timed(wait, call.send()).await?;
        Ok(answer.messages.unwrap_or_default().into_iter().filter_map(received).collect())
    }

    async fn delete(&self, queue: &str, receipts: &[String]) -> Result<Each, Failure> {
        let entry = |(index, receipt): (usize, &String)| {
            let entry = DeleteMessageBatchRequestEntry::builder().id(index.to_string());
            entry.receipt_handle(receipt).build()
        };
        let entries = receipts.iter().enumerate().map(entry);
        let entries = entries.collect::<Result<_, _>>().map_err(built)?;
        let call = self.client().await?.delete_message_batch().queue_url(queue);
        let answer = timed(Duration::ZERO, call.set_entries(Some(entries)).send()).await?;
        let deleted = answer.successful().iter().map(|entry| entry.id());
        Ok(each(receipts.len(), deleted, answer.failed()))
    }

    async fn set_visibility(
        &self,
        queue: &str,
        changes: &[(String, Duration)],
    ) -> Result<Each, Failure> {
        let entry = |(index, (receipt, after)): (usize, &(String, Duration))| {
            let entry = ChangeMessageVisibilityBatchRequestEntry::builder().id(index.to_string());
            entry.receipt_handle(receipt).visibility_timeout(seconds(*after)).build()
        };
        let entries = changes.iter().enumerate().map(entry);
        let entries = entries.collect::<Result<_, _>>().map_err(built)?;
        let call = self.client().await?.change_message_visibility_batch().queue_url(queue);
        let answer = timed(Duration::ZERO, call.set_entries(Some(entries)).send()).await?;
        let changed = answer.successful().iter().map(|entry| entry.id());
        Ok(each(changes.len(), changed, answer.failed()))
    }

    async fn find(&self, name: &str) -> Result<Option<String>, Failure> {
        let call = self.client().await?.get_queue_url().queue_name(name);
        match timed(Duration::ZERO, call.send()).await {
            Ok(answer) => Ok(answer.queue_url),
            Err(failure) if failure.kind == Kind::NoQueue => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    async fn create(&self, name: &str, visibility: Duration) -> Result<String, Failure> {
        let mut call = self
            .client()
            .await?
            .create_queue()
            .queue_name(name)
            .attributes(Attribute::MessageRetentionPeriod, RETENTION)
            .attributes(Attribute::VisibilityTimeout, seconds(visibility).to_string());
        if name.ends_with(".fifo") {
            call = call
                .attributes(Attribute::FifoQueue, "true")
                // throughput is limited by message group and not by queue
                .attributes(Attribute::DeduplicationScope, "messageGroup")
                .attributes(Attribute::FifoThroughputLimit, "perMessageGroupId");
        }
        let answer = timed(Duration::ZERO, call.send()).await?;
        answer.queue_url.ok_or_else(|| Failure::away("the answer has no queue URL"))
    }

    async fn describe(&self, queue: &str) -> Result<Described, Failure> {
        let call = self.client().await?.get_queue_attributes().queue_url(queue);
        let answer = timed(Duration::ZERO, call.attribute_names(Attribute::All).send()).await?;
        let attributes = answer.attributes.unwrap_or_default();
        let number = |name| attributes.get(&name).and_then(|value| value.parse::<u64>().ok());
        Ok(Described {
            size_max: number(Attribute::MaximumMessageSize).map(|size| size as usize),
            redrive_policy: attributes.get(&Attribute::RedrivePolicy).cloned(),
            visible: number(Attribute::ApproximateNumberOfMessages).unwrap_or_default(),
            in_flight: number(Attribute::ApproximateNumberOfMessagesNotVisible).unwrap_or_default(),
        })
    }

    async fn list(&self, prefix: &str) -> Result<Vec<String>, Failure> {
        let (mut names, mut next) = (Vec::new(), None);
        loop {
            let call = self.client().await?.list_queues().max_results(1000).set_next_token(next);
            let prefix = (!prefix.is_empty()).then(|| prefix.to_owned());
            let call = call.set_queue_name_prefix(prefix);
            let answer = timed(Duration::ZERO, call.send()).await?;
            let urls = answer.queue_urls.unwrap_or_default();
            names.extend(urls.iter().filter_map(|url| url.rsplit('/').next()).map(str::to_owned));
            next = answer.next_token;
            if next.is_none() {
                return Ok(names);
            }
        }
    }
}

fn seconds(duration: Duration) -> i32 {
    i32::try_from(duration.as_secs()).unwrap_or(i32::MAX)
}

fn entry(index: usize, message: &Message) -> Result<SendMessageBatchRequestEntry, BuildError> {
    let mut entry =
        SendMessageBatchRequestEntry::builder().id(index.to_string()).message_body(&message.body);
    for (name, value) in &message.attributes {
        let attribute = MessageAttributeValue::builder().data_type(value.data_type());
        let attribute = match value {
            Value::Text(text) => attribute.string_value(text),
            Value::Binary(bytes) => attribute.binary_value(Blob::new(bytes.to_vec())),
        };
        entry = entry.message_attributes(name, attribute.build()?);
    }
    if let Some(fifo) = &message.fifo {
        entry = entry.message_group_id(&fifo.group).message_deduplication_id(&fifo.deduplication);
    }
    entry.build()
}

/// `None` for what cannot be settled, which SQS never gives out.
fn received(message: aws_sdk_sqs::types::Message) -> Option<Received> {
    let mut system = message.attributes.unwrap_or_default();
    let number = |system: &HashMap<System, String>, name| {
        system.get(&name).and_then(|value| value.parse::<u64>().ok()).unwrap_or_default()
    };
    let receives = number(&system, System::ApproximateReceiveCount);
    let attribute = |(name, value): (String, MessageAttributeValue)| {
        let value = match value.binary_value {
            Some(blob) => Value::Binary(blob.into_inner().into()),
            None => Value::Text(value.string_value.unwrap_or_default()),
        };
        (name, value)
    };
    Some(Received {
        id: message.message_id?,
        receipt: message.receipt_handle?,
        body: message.body.unwrap_or_default(),
        attributes: message
            .message_attributes
            .unwrap_or_default()
            .into_iter()
            .map(attribute)
            .collect(),
        group: system.remove(&System::MessageGroupId).map(Into::into),
        sent_ms: number(&system, System::SentTimestamp),
        receives: u32::try_from(receives).unwrap_or(u32::MAX),
    })
}

/// What became of `count` entries whose ids are their numbers.
fn each<'a>(
    count: usize,
    successful: impl Iterator<Item = &'a str>,
    failed: &[BatchResultErrorEntry],
) -> Each {
    let mut each: Each = (0..count).map(|_| unmentioned()).collect();
    let mut put = |id: &str, result| {
        let index = id.parse::<usize>().ok();
        if let Some(place) = index.and_then(|index| each.get_mut(index)) {
            *place = result;
        }
    };
    successful.for_each(|id| put(id, Ok(())));
    for entry in failed {
        put(
            entry.id(),
            Err(Failure::answered(entry.code(), entry.message().unwrap_or("no reason"))),
        );
    }
    each
}

/// Waits for an answer, no longer than it may take.
async fn timed<T, E, R>(
    wait: Duration,
    call: impl Future<Output = Result<T, SdkError<E, R>>>,
) -> Result<T, Failure>
where
    E: ProvideErrorMetadata + Error + 'static,
    R: std::fmt::Debug + 'static,
{
    // the futures of the client are some kilobytes each
    match tokio::time::timeout(wait + PATIENCE, Box::pin(call)).await {
        Err(_) => Err(Failure::away(format!("no answer within {:?}", wait + PATIENCE))),
        Ok(answer) => answer.map_err(|error| match error.code() {
            Some(code) => Failure::answered(code, error.message().unwrap_or("no reason")),
            None => Failure::away(reasons(&error)),
        }),
    }
}

/// An error and what it comes from.
fn reasons(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(&format!(": {error}"));
        source = error.source();
    }
    text
}

/// A request that the client itself refuses.
fn built(error: impl Display) -> Failure {
    Failure { kind: Kind::Refused, message: error.to_string() }
}
