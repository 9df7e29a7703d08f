//! Reading a topic beside all subscriptions: the past, the future, or both.

use std::{collections::HashMap, future::ready};

use futures::{Stream, StreamExt as _, stream};
use sandbar_core::{Connection, Event, ReadFrom, Reader, SourceError};

/// Events asked for in one go.
const BATCH: usize = 256;

/// An event, or why there is no next one.
pub type EventResult = Result<Event, SourceError>;

/// What `topic` holds from `from` on and, with `follow`, what arrives after,
/// without a gap and without repetition.
///
/// # Errors
/// Where the topic does not exist or the broker is away.
pub async fn read_events(
    connection: &dyn Connection,
    topic: &str,
    from: ReadFrom,
    follow: bool,
) -> Result<impl Stream<Item = EventResult> + Send + use<>, SourceError> {
    // opened first: what arrives while the past is read is seen twice, not never
    let present = match follow || from == ReadFrom::Follow {
        true => Some(connection.read(topic, ReadFrom::Follow).await?),
        false => None,
    };
    let past = match from {
        ReadFrom::Follow => None,
        from => Some(connection.read(topic, from).await?),
    };
    let mut seen: HashMap<u32, u64> = HashMap::new();
    let mut fresh = move |event: &EventResult| {
        let Ok(event) = event else { return true };
        if seen.get(&event.partition).is_some_and(|last| event.position <= *last) {
            return false;
        }
        seen.insert(event.partition, event.position);
        true
    };
    let readers = past.into_iter().chain(present).map(events_of);
    Ok(stream::iter(readers).flatten().filter(move |event| ready(fresh(event))))
}

/// The events of a reader up to its end.
fn events_of(reader: Box<dyn Reader>) -> impl Stream<Item = EventResult> + Send {
    let batches = stream::unfold(Some(reader), async |reader| {
        let mut reader = reader?;
        match reader.next(BATCH).await {
            Ok(events) if events.is_empty() => None,
            Ok(events) => Some((events.into_iter().map(Ok).collect(), Some(reader))),
            Err(error) => Some((vec![Err(error)], None)),
        }
    });
    batches.flat_map(|batch: Vec<EventResult>| stream::iter(batch))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use async_trait::async_trait;
    use futures::TryStreamExt as _;
    use sandbar_core::{
        Guarantees, PartitionId, ResumeFrom, Sink, Source, SubscriptionSpec, TopicInfo,
    };

    use super::*;

    /// A topic whose past ends later than its future begins.
    struct Overlapping;

    struct Batches(std::vec::IntoIter<Vec<Event>>);

    #[async_trait]
    impl Reader for Batches {
        async fn next(&mut self, _: usize) -> Result<Vec<Event>, SourceError> {
            Ok(self.0.next().unwrap_or_default())
        }
    }

    fn event((partition, position): (u32, u64)) -> Event {
        Event {
            topic: "t".into(),
            partition,
            position,
            key: None,
            payload: None,
            headers: Arc::default(),
            timestamp_ms: 0,
            attributes: Arc::default(),
        }
    }

    #[async_trait]
    impl Connection for Overlapping {
        fn name(&self) -> &str {
            "c"
        }
        fn guarantees(&self) -> Guarantees {
            sandbar_store::GUARANTEES
        }
        async fn subscribe(&self, _: SubscriptionSpec) -> Result<Box<dyn Source>, SourceError> {
            Err(SourceError::Fatal("not here".into()))
        }
        fn sink(&self) -> Arc<dyn Sink> {
            unreachable!("nothing is published")
        }
        async fn read(&self, _: &str, from: ReadFrom) -> Result<Box<dyn Reader>, SourceError> {
            let batches: Vec<Vec<_>> = match from {
                ReadFrom::Follow => vec![vec![(0, 7), (1, 3)], vec![(0, 8), (1, 4)]],
                _ => vec![vec![(0, 6), (0, 7)], vec![(1, 3)]],
            };
            let batches: Vec<_> =
                batches.into_iter().map(|b| b.into_iter().map(event).collect()).collect();
            Ok(Box::new(Batches(batches.into_iter())))
        }
        async fn topics(&self) -> Result<Vec<TopicInfo>, SourceError> {
            Ok(Vec::new())
        }
        async fn ensure_topics(&self, _: &[String]) -> Result<(), SourceError> {
            Ok(())
        }
        async fn cursors(
            &self,
            _: &str,
        ) -> Result<Vec<(PartitionId, ResumeFrom, ResumeFrom)>, SourceError> {
            Ok(Vec::new())
        }
        async fn close(&self) {}
    }

    async fn read(from: ReadFrom, follow: bool) -> Vec<(u32, u64)> {
        let events = read_events(&Overlapping, "t", from, follow).await.unwrap();
        let events: Vec<Event> = events.try_collect().await.unwrap();
        events.iter().map(|e| (e.partition, e.position)).collect()
    }

    #[tokio::test]
    async fn past_and_future_join_without_gap_and_repetition() {
        assert_eq!(read(ReadFrom::Start, true).await, [(0, 6), (0, 7), (1, 3), (0, 8), (1, 4)]);
        assert_eq!(read(ReadFrom::Start, false).await, [(0, 6), (0, 7), (1, 3)]);
        assert_eq!(read(ReadFrom::Follow, false).await, [(0, 7), (1, 3), (0, 8), (1, 4)]);
    }
}
