//! Publishing: a batch in, one result per record out.

use std::{collections::HashMap, sync::Arc};

use async_nats::jetstream::{
    self, Context, ErrorCode,
    context::{PublishError as NativeError, PublishErrorKind},
    message::PublishMessage,
};
use async_trait::async_trait;
use bytes::Bytes;
use futures::future::join_all;
use sandbar_core::{Outgoing, PublishError, Sink, SourceError};

use crate::{
    record,
    streams::{Streams, Topic},
};

/// Most records that wait for their acknowledgement at once.
const UNDER_WAY: usize = 1000;

/// The connection's sink.
pub(crate) struct NatsSink {
    streams: Arc<Streams>,
}

impl NatsSink {
    pub fn new(streams: Arc<Streams>) -> Self {
        Self { streams }
    }

    /// Finds the topics of `records`, or says why they cannot be written to.
    async fn topics(&self, records: &[Outgoing]) -> HashMap<Arc<str>, Result<Topic, PublishError>> {
        let mut found = HashMap::new();
        for record in records {
            if !found.contains_key(&record.topic) {
                let topic = self.streams.known(&record.topic).await.map_err(|e| match e {
                    SourceError::Unavailable(why) => PublishError::Unavailable(why),
                    other => PublishError::Rejected(other.to_string()),
                });
                found.insert(record.topic.clone(), topic);
            }
        }
        found
    }

    async fn send(
        &self,
        context: &Context,
        record: &Outgoing,
        topic: &Topic,
    ) -> Result<(), PublishError> {
        let config = &self.streams.link.config;
        let subject = record::subject(record, topic, config).map_err(PublishError::Rejected)?;
        let message = PublishMessage::build()
            .payload(record.payload.clone().unwrap_or_default())
            .headers(record::headers(record, config));
        let sent = async { context.send_publish(subject, message).await?.await };
        let ack = sent.await.map_err(|e| {
            if e.kind() == PublishErrorKind::StreamNotFound {
                self.streams.forget(&record.topic);
            }
            refused(record, &e, context.client().max_payload())
        })?;
        if ack.duplicate {
            tracing::debug!(topic = &*record.topic, "the server has this event already");
        }
        Ok(())
    }
}

/// The fate of one record that was not stored.
fn refused(record: &Outgoing, error: &NativeError, max_payload: usize) -> PublishError {
    let topic = &record.topic;
    let answer =
        std::error::Error::source(error).and_then(|e| e.downcast_ref::<jetstream::Error>());
    let too_large =
        answer.is_some_and(|e| e.error_code() == ErrorCode::STREAM_MESSAGE_EXCEEDS_MAXIMUM);
    if too_large || error.kind() == PublishErrorKind::MaxPayloadExceeded {
        return PublishError::Rejected(format!(
            "record of {} bytes is too large for topic {topic}: the server takes {max_payload} with \
             headers (its `max_payload`), the stream perhaps less (its `max_msg_size`)",
            record.size()
        ));
    }
    let why = answer.map_or_else(|| error.to_string(), ToString::to_string);
    PublishError::Unavailable(format!("topic {topic}: {why}"))
}

/// For each record how many before it share its topic and key.
fn ranks(records: &[Outgoing]) -> Vec<usize> {
    let mut counts: HashMap<(&str, &Bytes), usize> = HashMap::new();
    records
        .iter()
        .map(|record| {
            let Some(key) = &record.key else { return 0 };
            let count = counts.entry((&record.topic, key)).or_default();
            *count += 1;
            *count - 1
        })
        .collect()
}

#[async_trait]
impl Sink for NatsSink {
    /// A record is sent when the one before it with its topic and key is stored: what a
    /// broken connection swallows would otherwise be overtaken.
    async fn publish(&self, records: &[Outgoing]) -> Vec<Result<(), PublishError>> {
        let context = match self.streams.link.connected().await {
            Ok(context) => context,
            Err(e) => return vec![Err(PublishError::Unavailable(e.to_string())); records.len()],
        };
        let topics = self.topics(records).await;
        let ranks = ranks(records);
        let mut results: Vec<Result<(), PublishError>> = vec![Ok(()); records.len()];
        let mut failed: HashMap<(&str, &Bytes), PublishError> = HashMap::new();
        for rank in 0..=ranks.iter().copied().max().unwrap_or_default() {
            let wave: Vec<usize> = (0..records.len()).filter(|i| ranks[*i] == rank).collect();
            for part in wave.chunks(UNDER_WAY) {
                let send = |i: usize| {
                    let (record, topics, failed) = (&records[i], &topics, &failed);
                    async move {
                        let before =
                            record.key.as_ref().and_then(|k| failed.get(&(&*record.topic, k)));
                        if let Some(error) = before {
                            return (i, Err(error.clone()));
                        }
                        let sent = match &topics[&record.topic] {
                            Ok(topic) => self.send(context, record, topic).await,
                            Err(error) => Err(error.clone()),
                        };
                        (i, sent)
                    }
                };
                let sent = join_all(part.iter().map(|i| send(*i))).await;
                for (i, result) in sent {
                    // a record that can never be stored holds up no other
                    if let (Err(error @ PublishError::Unavailable(_)), Some(key)) =
                        (&result, &records[i].key)
                    {
                        failed.insert((&records[i].topic, key), error.clone());
                    }
                    results[i] = result;
                }
            }
        }
        results
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_of_one_key_wait_for_each_other() {
        let keyed = |topic: &str, key: &str| Outgoing::new(topic, "x").with_key(key.to_owned());
        let records = [
            keyed("t", "a"),
            keyed("t", "b"),
            Outgoing::new("t", "x"),
            keyed("t", "a"),
            keyed("u", "a"),
            Outgoing::new("t", "x"),
            keyed("t", "a"),
        ];
        assert_eq!(ranks(&records), [0, 0, 0, 1, 0, 0, 2]);
    }
}
