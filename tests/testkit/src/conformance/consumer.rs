//! The least that a pipeline does with a source, one step at a time.

use std::{collections::HashMap, future::poll_fn, task::Poll, time::Duration};

use sandbar_core::{
    Delivery, Disposition, Event, Guarantees, Partition, PartitionId, Settlement, Source,
    SourceError, SourceEvent,
};
use tokio::time::{sleep, timeout};

use super::PATIENCE;

/// Pause after a report that the broker is away.
const AWAY: Duration = Duration::from_millis(20);

/// A subscription driven by its test: nothing happens unless the test calls.
pub struct Consumer {
    source: Box<dyn Source>,
    held: Vec<Held>,
    /// Assignments so far: each has a number, so that what came under an earlier one is
    /// never settled under a later one.
    assignments: u64,
    /// Who is polled first in the next step.
    turn: usize,
    /// Reports that the broker is away.
    away: u64,
}

struct Held {
    assignment: u64,
    partition: Box<dyn Partition>,
    ended: bool,
}

/// A delivery, and the assignment that it came under.
#[derive(Debug, Clone)]
pub struct Got {
    /// As it came.
    pub delivery: Delivery,
    assignment: u64,
}

impl Got {
    /// The event.
    pub fn event(&self) -> &Event {
        &self.delivery.event
    }
}

enum Step {
    Source(Result<SourceEvent, SourceError>),
    Partition(usize, Result<Vec<Delivery>, SourceError>),
}

impl Consumer {
    /// One that holds nothing yet.
    pub fn new(source: Box<dyn Source>) -> Self {
        Self { source, held: Vec::new(), assignments: 0, turn: 0, away: 0 }
    }

    /// What the source promises.
    pub fn guarantees(&self) -> Guarantees {
        self.source.guarantees()
    }

    /// How often the source said that the broker is away.
    pub fn away(&self) -> u64 {
        self.away
    }

    /// Partitions that it holds.
    pub fn partitions(&self) -> Vec<PartitionId> {
        self.held.iter().map(|h| h.partition.id().clone()).collect()
    }

    /// Waits for the next thing to happen, and gives the deliveries if it was that. All
    /// that did not happen is dropped half-way. Cancel-safe.
    ///
    /// # Errors
    /// [`SourceError::Fatal`] of the source or a partition.
    pub async fn step(&mut self, max: usize) -> Result<Vec<Got>, SourceError> {
        match self.happening(max).await {
            Step::Source(Ok(SourceEvent::Assigned(partition))) => {
                self.assignments += 1;
                self.held.push(Held { assignment: self.assignments, partition, ended: false });
            }
            Step::Source(Ok(SourceEvent::Revoking { id, drained })) => {
                self.held.retain(|h| *h.partition.id() != id);
                drop(drained);
            }
            Step::Source(Ok(SourceEvent::Finished)) => {
                self.held.iter_mut().for_each(|h| h.ended = true);
            }
            Step::Partition(index, Ok(deliveries)) => {
                let held = &mut self.held[index];
                assert!(deliveries.len() <= max, "{} for {max} asked for", deliveries.len());
                held.ended = deliveries.is_empty();
                let id = held.partition.id();
                for Delivery { event, .. } in &deliveries {
                    assert_eq!((&event.topic, event.partition), (&id.topic, id.partition));
                }
                let assignment = held.assignment;
                let got = |delivery| Got { delivery, assignment };
                return Ok(deliveries.into_iter().map(got).collect());
            }
            Step::Partition(index, Err(SourceError::Fenced(_))) => {
                self.held.remove(index);
            }
            Step::Source(Err(SourceError::Unavailable(_)))
            | Step::Partition(_, Err(SourceError::Unavailable(_))) => {
                self.away += 1;
                sleep(AWAY).await;
            }
            Step::Source(Err(e)) | Step::Partition(_, Err(e)) => return Err(e),
        }
        Ok(Vec::new())
    }

    async fn happening(&mut self, max: usize) -> Step {
        self.turn += 1;
        let (source, first) = (&mut self.source, self.turn);
        let mut next = source.next();
        let open = self.held.iter_mut().enumerate().filter(|(_, h)| !h.ended);
        let mut intakes: Vec<_> = open.map(|(i, h)| (i, h.partition.recv(max))).collect();
        poll_fn(|context| {
            let all = intakes.len() + 1;
            for index in (0..all).map(|n| (n + first) % all) {
                let Some((held, intake)) = intakes.get_mut(index) else {
                    if let Poll::Ready(event) = next.as_mut().poll(context) {
                        return Poll::Ready(Step::Source(event));
                    }
                    continue;
                };
                if let Poll::Ready(deliveries) = intake.as_mut().poll(context) {
                    return Poll::Ready(Step::Partition(*held, deliveries));
                }
            }
            Poll::Pending
        })
        .await
    }

    /// Waits until it holds `count` partitions. Nothing is taken in.
    pub async fn assigned(&mut self, count: usize) {
        let all = async {
            while self.held.len() < count {
                match self.source.next().await {
                    Ok(SourceEvent::Assigned(partition)) => {
                        self.assignments += 1;
                        let assignment = self.assignments;
                        self.held.push(Held { assignment, partition, ended: false });
                    }
                    Ok(SourceEvent::Revoking { id, .. }) => {
                        self.held.retain(|h| *h.partition.id() != id);
                    }
                    Ok(SourceEvent::Finished) => panic!("finished before it was assigned"),
                    Err(SourceError::Unavailable(_)) => {
                        self.away += 1;
                        sleep(AWAY).await;
                    }
                    Err(e) => panic!("the source ended: {e}"),
                }
            }
        };
        let waited = timeout(PATIENCE, all).await;
        assert!(waited.is_ok(), "{} of {count} partitions were assigned", self.held.len());
    }

    /// Exactly `count` deliveries, however long each takes.
    pub async fn take(&mut self, count: usize) -> Vec<Got> {
        let mut got = Vec::new();
        let all = async {
            while got.len() < count {
                let more = self.step(count - got.len()).await;
                got.extend(more.unwrap_or_else(|e| panic!("intake ended: {e}")));
            }
        };
        let waited = timeout(PATIENCE, all).await;
        let numbers = || got.iter().map(|g| g.event().id()).collect::<Vec<_>>();
        assert!(waited.is_ok(), "{} of {count} events came: {:?}", got.len(), numbers());
        got
    }

    /// Up to `max` deliveries, as soon as there is one.
    pub async fn some(&mut self, max: usize) -> Vec<Got> {
        let first = async {
            loop {
                let got = self.step(max).await.unwrap_or_else(|e| panic!("intake ended: {e}"));
                if !got.is_empty() {
                    return got;
                }
            }
        };
        timeout(PATIENCE, first).await.expect("nothing came")
    }

    /// Everything that there is, for a subscription until the end: until `partitions`
    /// are assigned and every one of them has nothing more. With `settling`, each is
    /// settled as it comes.
    pub async fn drain(&mut self, partitions: usize, settling: bool) -> Vec<Got> {
        let mut got = Vec::new();
        let all = async {
            while self.held.len() < partitions || self.held.iter().any(|h| !h.ended) {
                let more = self.step(7).await;
                let more = more.unwrap_or_else(|e| panic!("intake ended: {e}"));
                if settling {
                    self.done(&more).await.expect("settles");
                }
                got.extend(more);
            }
        };
        let waited = timeout(PATIENCE, all).await;
        assert!(waited.is_ok(), "no end came after {} events", got.len());
        self.held.iter_mut().for_each(|h| h.ended = false);
        got
    }

    /// Whatever comes within `time`, for where nothing is to come.
    pub async fn listen(&mut self, time: Duration) -> Vec<Got> {
        let mut got = Vec::new();
        let all = async {
            loop {
                let more = self.step(100).await;
                got.extend(more.unwrap_or_else(|e| panic!("intake ended: {e}")));
            }
        };
        // nothing comes to an end but by the time
        let _: Result<(), _> = timeout(time, all).await;
        got
    }

    /// Settles `got` as done, in this order. Asks again while the broker is away.
    ///
    /// # Errors
    /// [`SourceError::Fenced`] and everything else that asking again does not help.
    pub async fn done<'a>(
        &mut self,
        got: impl IntoIterator<Item = &'a Got>,
    ) -> Result<(), SourceError> {
        let done = || Disposition::done(Vec::new());
        self.settle(got.into_iter().map(|g| (g, done()))).await
    }

    /// Gives `got` back, to be delivered again no sooner than `after`.
    ///
    /// # Errors
    /// As [`done`](Self::done).
    pub async fn release<'a>(
        &mut self,
        got: impl IntoIterator<Item = &'a Got>,
        after: Duration,
    ) -> Result<(), SourceError> {
        self.settle(got.into_iter().map(|g| (g, Disposition::Release { after }))).await
    }

    /// Settles each delivery with what goes with it.
    ///
    /// # Errors
    /// As [`done`](Self::done).
    pub async fn settle<'a>(
        &mut self,
        all: impl Iterator<Item = (&'a Got, Disposition)>,
    ) -> Result<(), SourceError> {
        let mut by_assignment: Vec<(u64, Vec<Settlement>)> = Vec::new();
        for (Got { delivery, assignment }, disposition) in all {
            let settlement = Settlement { token: delivery.token, disposition };
            match by_assignment.iter_mut().find(|(a, _)| a == assignment) {
                Some((_, settlements)) => settlements.push(settlement),
                None => by_assignment.push((*assignment, vec![settlement])),
            }
        }
        let mut result = Ok(());
        for (assignment, settlements) in by_assignment {
            let held = self.held.iter_mut().find(|h| h.assignment == assignment);
            let Some(Held { partition, .. }) = held else {
                result = Err(SourceError::Fenced("the partition has gone".into()));
                continue;
            };
            let settling = async {
                loop {
                    match partition.settle(&settlements).await {
                        Err(SourceError::Unavailable(_)) => sleep(AWAY).await,
                        other => return other,
                    }
                }
            };
            let settled = timeout(PATIENCE, settling).await;
            result = result.and(settled.expect("settling stalled"));
        }
        result
    }

    /// Leaves the group; what is not settled is given back.
    pub async fn close(self) {
        drop(self.held);
        let closed = timeout(PATIENCE, self.source.close()).await.expect("closing stalled");
        closed.unwrap_or_else(|e| panic!("the subscription did not close: {e}"));
    }
}

/// The number that [`Bench::numbered`](super::Bench::numbered) gave an event.
pub fn number(got: &Got) -> u64 {
    let payload = got.event().payload.clone().expect("a payload");
    let number = std::str::from_utf8(&payload).ok().and_then(|text| text.parse().ok());
    number.unwrap_or_else(|| panic!("no number: {payload:?}"))
}

/// The numbers of `got`, smallest first.
pub fn numbers<'a>(got: impl IntoIterator<Item = &'a Got>) -> Vec<u64> {
    let mut numbers: Vec<_> = got.into_iter().map(number).collect();
    numbers.sort_unstable();
    numbers
}

/// Fails unless `got`, of one subscription, is in the order that a source of `guarantees`
/// owes: of the position in each partition, and of the number for each key.
pub fn assert_order(guarantees: Guarantees, got: &[Got]) {
    if !guarantees.ordered {
        return;
    }
    let mut positions = HashMap::new();
    for got in got {
        let Event { topic, partition, position, .. } = got.event();
        let last = positions.insert((topic, partition), *position);
        assert!(last <= Some(*position), "{position} after {last:?} in {topic}/{partition}");
    }
    assert_keys_in_order(got);
}

/// Fails unless the numbers of each key rise.
pub fn assert_keys_in_order(got: &[Got]) {
    let mut keys = HashMap::new();
    for got in got {
        let number = number(got);
        let last = keys.insert((&got.event().topic, &got.event().key), number);
        assert!(last < Some(number), "{number} after {last:?} of {:?}", got.event().key);
    }
}
