//! Publishing: a batch in, one result per record out.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use async_trait::async_trait;
use futures::{StreamExt, stream};
use sandbar_core::{Outgoing, PublishError, Sink};

use crate::{
    api::{BATCH, batched},
    error::{Failure, Kind},
    queues::{Queue, Queues, SIZE_MAX},
    record::Message,
};

/// A message with the index of its record.
type Indexed<'a> = (usize, &'a Message);
type Results = Vec<Result<(), PublishError>>;

/// The connection's sink.
pub(crate) struct SqsSink {
    queues: Arc<Queues>,
}

impl SqsSink {
    pub fn new(queues: Arc<Queues>) -> Self {
        Self { queues }
    }

    /// Publishes `records`, all of one topic.
    async fn publish_to(&self, topic: &str, records: &[&Outgoing]) -> Results {
        let queue = match self.queues.open(topic).await {
            Ok(queue) => queue,
            Err(Failure { kind: Kind::NoQueue, message }) => {
                return vec![Err(PublishError::Rejected(message)); records.len()];
            }
            Err(failure) => return vec![Err(failure.publish(topic)); records.len()],
        };
        let config = &self.queues.config;
        let message = |record: &&Outgoing| Message::new(record, &config.key_attribute, config.fifo);
        let messages: Vec<Message> = records.iter().map(message).collect();
        let mut results: Results = messages.iter().map(|m| within(m, &queue)).collect();
        let small = (0..messages.len()).filter(|&i| results[i].is_ok());
        let mut waiting: Vec<Indexed<'_>> = small.map(|i| (i, &messages[i])).collect();
        let mut behind: HashSet<&str> = HashSet::new();
        while !waiting.is_empty() {
            let (now, later) = wave(waiting);
            waiting = later;
            for (index, failure) in self.send(&queue, &now).await {
                if let Some(fifo) = &messages[index].fifo {
                    behind.insert(&fifo.group);
                }
                results[index] = Err(failure.publish(topic));
            }
            waiting.retain(|(index, message)| {
                let held_up = message.fifo.as_ref().is_some_and(|f| behind.contains(&*f.group));
                if held_up {
                    let reason = "an earlier record of its key could not be sent, and it must not overtake that one";
                    results[*index] = Err(PublishError::Unavailable(format!("topic {topic}: {reason}")));
                }
                !held_up
            });
        }
        results
    }

    /// Sends messages in any order, and says which did not arrive.
    async fn send(&self, queue: &Queue, messages: &[(usize, &Message)]) -> Vec<(usize, Failure)> {
        let api = &self.queues.api;
        let calls = by_size(messages).into_iter().map(|batch| async move {
            let entries: Vec<&Message> = batch.iter().map(|(_, message)| *message).collect();
            let call = |entries: Vec<_>| async move { api.send(&queue.url, &entries).await };
            let each = batched(&entries, 1, call).await;
            let failed = each
                .into_iter()
                .zip(batch)
                .filter_map(|(result, (index, _))| result.err().map(|failure| (*index, failure)));
            failed.collect::<Vec<_>>()
        });
        let calls: Vec<_> = calls.collect();
        let failed: Vec<_> = stream::iter(calls).buffered(self.queues.config.calls).concat().await;
        if failed.iter().any(|(_, failure)| failure.kind == Kind::NoQueue) {
            self.queues.forget(queue);
        }
        failed
    }
}

/// Whether the queue takes a message of this size.
fn within(message: &Message, queue: &Queue) -> Result<(), PublishError> {
    let (size, limit) = (message.size(), queue.size_max);
    if size <= limit {
        return Ok(());
    }
    Err(PublishError::Rejected(format!(
        "record is too large for topic {}: it is {size} bytes as a message (body, and name, type \
         and value of each attribute; binary payloads in base64), and queue `{}` takes {limit}",
        queue.topic, queue.name
    )))
}

/// What can be sent now, and what has to wait until that has arrived: SQS may take one
/// entry of a call and not another, so no call carries two messages of one group.
fn wave(waiting: Vec<Indexed<'_>>) -> (Vec<Indexed<'_>>, Vec<Indexed<'_>>) {
    let mut groups: HashSet<&str> = HashSet::new();
    waiting.into_iter().partition(|(_, m)| m.fifo.as_ref().is_none_or(|f| groups.insert(&f.group)))
}

/// Cuts `messages` into batches that one call may carry. A queue may take larger messages
/// than the limit of all calls was for long: such a message goes alone.
fn by_size<'a, 'm>(mut messages: &'m [Indexed<'a>]) -> Vec<&'m [Indexed<'a>]> {
    let mut batches = Vec::new();
    while !messages.is_empty() {
        let mut size = 0;
        let fits = |(_, message): &&Indexed<'_>| {
            size += message.size();
            size <= SIZE_MAX
        };
        let count = messages.iter().take(BATCH).take_while(fits).count().max(1);
        let (batch, rest) = messages.split_at(count);
        batches.push(batch);
        messages = rest;
    }
    batches
}

#[async_trait]
impl Sink for SqsSink {
    async fn publish(&self, records: &[Outgoing]) -> Vec<Result<(), PublishError>> {
        let mut topics: HashMap<&str, Vec<usize>> = HashMap::new();
        for (index, record) in records.iter().enumerate() {
            topics.entry(&record.topic).or_default().push(index);
        }
        let sent = topics.into_iter().map(|(topic, indices)| async move {
            let records: Vec<&Outgoing> = indices.iter().map(|&i| &records[i]).collect();
            let results = self.publish_to(topic, &records).await;
            indices.into_iter().zip(results).collect::<Vec<_>>()
        });
        let mut results: Results = records.iter().map(|_| Ok(())).collect();
        for (index, result) in futures::future::join_all(sent).await.into_iter().flatten() {
            results[index] = result;
        }
        results
    }
}

#[cfg(test)]
#[path = "sink_tests.rs"]
mod tests;
