//! Reading one topic beside all groups.

use std::{sync::Arc, time::Duration};

use async_nats::{
    datetime,
    jetstream::{
        consumer::{
            DeliverPolicy,
            pull::{Ordered, OrderedConfig},
        },
        stream::Stream,
    },
};
use async_trait::async_trait;
use futures::StreamExt;
use sandbar_core::{Event, ReadFrom, Reader, SourceError};
use tokio::time::timeout;

use crate::{
    record::{self, Place},
    streams::{Streams, Topic, bounds},
};

/// How long more events are waited for when some are there.
const LINGER: Duration = Duration::from_millis(5);
/// How long the events up to a known end may stay away.
const STALLED: Duration = Duration::from_secs(15);

/// A consumer that the server forgets with its reader.
pub(crate) struct NatsReader {
    streams: Arc<Streams>,
    topic: Topic,
    messages: Ordered,
    /// Read up to this position; without end where absent.
    end: Option<u64>,
}

impl NatsReader {
    pub async fn open(
        streams: Arc<Streams>,
        topic: &str,
        from: ReadFrom,
    ) -> Result<Self, SourceError> {
        let (topic, info) = streams.existing(topic).await?;
        let (first, end) = bounds(&info);
        let begin = match from {
            ReadFrom::Start => DeliverPolicy::ByStartSequence { start_sequence: first },
            ReadFrom::Position(p) => {
                DeliverPolicy::ByStartSequence { start_sequence: p.clamp(first, end) }
            }
            ReadFrom::Time(ms) => {
                let start_time = datetime::from_nanos(i128::from(ms) * 1_000_000);
                let bad = |e| SourceError::Fatal(format!("{ms} ms is no time: {e}"));
                DeliverPolicy::ByStartTime { start_time: start_time.map_err(bad)? }
            }
            ReadFrom::Follow => DeliverPolicy::New,
        };
        let away = |e: &dyn std::fmt::Display| {
            SourceError::Unavailable(format!("could not read topic {}: {e}", topic.name))
        };
        let context = streams.link.connected().await?;
        let stream: Stream = context.get_stream(&topic.stream).await.map_err(|e| away(&e))?;
        let config = OrderedConfig {
            deliver_policy: begin,
            filter_subject: topic.filter.clone(),
            ..OrderedConfig::default()
        };
        let consumer = stream.create_consumer(config).await.map_err(|e| away(&e))?;
        let nothing = consumer.cached_info().num_pending == 0;
        let messages = consumer.messages().await.map_err(|e| away(&e))?;
        let end = match from {
            ReadFrom::Follow => None,
            _ if nothing => Some(0),
            _ => Some(end),
        };
        Ok(Self { streams, topic, messages, end })
    }
}

#[async_trait]
impl Reader for NatsReader {
    async fn next(&mut self, max: usize) -> Result<Vec<Event>, SourceError> {
        let mut events = Vec::new();
        while events.len() < max.max(1) && self.end != Some(0) {
            // `events` is empty whenever this is cancelled for long: what came within the
            // linger is not lost, because it is not awaited for
            let patience = match (events.is_empty(), self.end) {
                (false, _) => LINGER,
                (true, Some(_)) => STALLED,
                (true, None) => Duration::MAX,
            };
            let message = match timeout(patience, self.messages.next()).await {
                Ok(Some(Ok(message))) => message,
                Ok(Some(Err(e))) if events.is_empty() => {
                    let what = &self.topic.name;
                    return Err(SourceError::Unavailable(format!(
                        "could not read topic {what}: {e}"
                    )));
                }
                Err(_) if events.is_empty() => {
                    return Err(SourceError::Unavailable(self.streams.link.away()));
                }
                Ok(_) | Err(_) => break,
            };
            let (message, place) = Place::of(message.message, &message.context);
            let Some(place) = place else { continue };
            if let Some(end) = self.end {
                if place.position >= end {
                    self.end = Some(0);
                    break;
                }
                if place.behind == 0 || place.position + 1 == end {
                    self.end = Some(0);
                }
            }
            let at = (place.position, place.timestamp_ms);
            let config = &self.streams.link.config;
            events.push(record::event(message, &self.topic.name, at, config));
        }
        Ok(events)
    }
}
