//! Publishing: a batch in, one result per record out.

use std::{collections::HashMap, sync::Arc};

use async_trait::async_trait;
use parking_lot::Mutex;
use sandbar_core::{Outgoing, PublishError, Sink};

use crate::{
    error::{Failure, Kind},
    outbox::Outbox,
    queues::{Queue, Queues},
    record::Message,
};

type Results = Vec<Result<(), PublishError>>;

/// The connection's sink.
pub(crate) struct SqsSink {
    queues: Arc<Queues>,
    /// By the URLs of their queues.
    outboxes: Mutex<HashMap<String, Arc<Outbox>>>,
}

impl SqsSink {
    pub fn new(queues: Arc<Queues>) -> Self {
        Self { queues, outboxes: Mutex::default() }
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
        let small = messages.into_iter().enumerate().filter(|(index, _)| results[*index].is_ok());
        let (small, messages): (Vec<usize>, Vec<Message>) = small.unzip();
        let each = self.outbox(&queue).send(messages).await;
        for (index, result) in small.into_iter().zip(each) {
            if result.as_ref().is_err_and(|failure| failure.kind == Kind::NoQueue) {
                self.queues.forget(&queue);
            }
            results[index] = result.map_err(|failure| failure.publish(topic));
        }
        results
    }

    fn outbox(&self, queue: &Queue) -> Arc<Outbox> {
        let new = || {
            let (api, calls) = (self.queues.api.clone(), self.queues.config.calls);
            Outbox::new(api, queue.url.clone(), calls)
        };
        self.outboxes.lock().entry(queue.url.clone()).or_insert_with(new).clone()
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
