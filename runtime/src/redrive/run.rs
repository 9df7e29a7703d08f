//! The redrive itself.

use std::{
    collections::{BTreeMap, HashMap},
    num::NonZeroU32,
};

use futures::{StreamExt as _, stream::FuturesUnordered};
use sandbar_core::{
    DrainGuard, Guarantees, Partition, PartitionId, ReadFrom, Source, SourceError, SourceEvent,
    SubscriptionSpec,
};
use tokio::sync::{Mutex, watch};
use tokio_util::sync::CancellationToken;

use super::{
    Filter, Progress, Routes,
    judge::{Judge, Judgement},
    lot::{Line, Lot, Patience, Postman},
    now_ms,
};
use crate::pace::Pace;

/// Letters looked at in one go.
const BATCH: usize = 256;

/// One redrive.
pub struct Redrive {
    /// The dead-letter topic, on the home of the routes.
    pub topic: String,
    /// The group whose cursor says how far it has come.
    pub cursor: String,
    /// Which letters are meant.
    pub filter: Filter,
    /// Where they go.
    pub routes: Routes,
    /// A letter redriven so often is quarantined; over what the routes say.
    pub max_redrives: Option<u32>,
    /// Letters a second, at most.
    pub rate: Option<NonZeroU32>,
    /// Passes over letters whose parcel the broker refuses, instead of stopping there.
    pub skip_refused: bool,
    /// Writes parcels and position in one step, or refuses to begin.
    pub exactly_once: bool,
    /// Begins with the oldest letter again.
    pub restart: bool,
    /// Sends nothing and moves no cursor.
    pub dry_run: bool,
}

/// Why a redrive ended early. It can be begun again, and goes on where it was.
#[derive(Debug, thiserror::Error)]
pub enum RedriveError {
    /// The broker of the letters.
    #[error("{0}")]
    Source(#[from] SourceError),
    /// One letter cannot be sent.
    #[error("the dead letter {letter} cannot go to {inbox}: {reason}")]
    Refused {
        /// Where it lies.
        letter: String,
        /// Where it was to go.
        inbox: String,
        /// What the broker says.
        reason: String,
    },
}

/// The positions of a partition that this run looks at.
#[derive(Debug, Clone, Copy)]
struct Span {
    from: u64,
    until: u64,
}

/// A partition in work.
struct Open {
    stop: CancellationToken,
    /// Dropped when the partition is done with.
    drained: Option<DrainGuard>,
}

impl Redrive {
    /// Runs until every letter that was there at the beginning was looked at: `true`; or
    /// until `cancel`, or until another process has taken over: `false`. What happens
    /// shows in `progress`.
    ///
    /// # Errors
    /// See [`RedriveError`]. A broker that goes away in the middle is waited for.
    pub async fn run(
        &self,
        progress: &watch::Sender<Progress>,
        cancel: &CancellationToken,
    ) -> Result<bool, RedriveError> {
        let spans = self.spans().await?;
        let left = spans.values().map(|s| s.until - s.from).sum();
        progress.send_modify(|p| p.left = left);
        if left == 0 {
            return Ok(true);
        }
        let judge = Judge {
            filter: &self.filter,
            routes: &self.routes,
            max_redrives: self.max_redrives,
            now_ms: now_ms(),
        };
        if self.dry_run {
            return self.rehearse(&judge, spans, progress, cancel).await;
        }
        let spec = SubscriptionSpec {
            prefetch: BATCH,
            until_end: true,
            exactly_once: self.exactly_once,
            ..SubscriptionSpec::new(&*self.cursor, vec![self.topic.clone()])
        };
        let mut source = self.routes.home().subscribe(spec).await?;
        let Guarantees { atomic_effects, .. } = source.guarantees();
        let run = Run {
            judge,
            postman: Postman::new(self.routes.home().name(), atomic_effects, self.skip_refused),
            pace: self.rate.map(|rate| Mutex::new(Pace::new(rate))),
            step: self.rate.map_or(usize::MAX, |rate| Pace::new(rate).step()),
            progress,
        };
        let ended = run.partitions(source.as_mut(), spans, cancel).await;
        let closed = source.close().await;
        let complete = ended?;
        closed?;
        Ok(complete)
    }

    /// What there is to look at, by partition.
    async fn spans(&self) -> Result<BTreeMap<u32, Span>, SourceError> {
        let home = self.routes.home();
        let extents = home.extents(&self.topic).await?;
        let mut cursors = HashMap::new();
        if !self.restart {
            let known = home.cursors(&self.cursor).await?.into_iter();
            cursors.extend(known.map(|(id, from, _)| (id, from)));
        } else if !self.dry_run {
            for extent in &extents {
                home.move_cursor(&self.cursor, &extent.id, extent.first).await?;
            }
        }
        let span = |extent: sandbar_core::Extent| {
            let from = cursors.get(&extent.id).copied().unwrap_or(extent.first);
            let from = from.max(extent.first).min(extent.end).0;
            (extent.id.partition, Span { from, until: extent.end.0 })
        };
        Ok(extents.into_iter().map(span).filter(|(_, s)| s.from < s.until).collect())
    }

    /// Shows what would happen, with a reader that leaves no trace.
    async fn rehearse(
        &self,
        judge: &Judge<'_>,
        mut spans: BTreeMap<u32, Span>,
        progress: &watch::Sender<Progress>,
        cancel: &CancellationToken,
    ) -> Result<bool, RedriveError> {
        let first = spans.values().map(|s| s.from).min().unwrap_or_default();
        let mut reader = self.routes.home().read(&self.topic, ReadFrom::Position(first)).await?;
        loop {
            let events = tokio::select! {
                () = cancel.cancelled() => return Ok(false),
                events = reader.next(BATCH) => events?,
            };
            if events.is_empty() {
                progress.send_modify(|p| p.left = 0);
                return Ok(true);
            }
            for event in events {
                let (partition, position) = (event.partition, event.position);
                let Some(span) = spans.get_mut(&partition) else { continue };
                if position < span.from || position >= span.until {
                    continue;
                }
                let judgement = judge.judge(event);
                if matches!(judgement, Judgement::TooYoung) {
                    spans.remove(&partition);
                    continue;
                }
                let passed = position + 1 - span.from;
                span.from = position + 1;
                progress.send_modify(|p| {
                    p.read += 1;
                    p.left -= passed;
                    judgement.rehearse(p);
                });
            }
        }
    }
}

/// A run under way.
struct Run<'a> {
    judge: Judge<'a>,
    postman: Postman<'a>,
    /// One for all partitions.
    pace: Option<Mutex<Pace>>,
    /// Most letters to send in one go.
    step: usize,
    progress: &'a watch::Sender<Progress>,
}

impl Run<'_> {
    /// Works on every partition of `spans` that is assigned, until none is left. Whether
    /// each came to its end.
    async fn partitions(
        &self,
        source: &mut dyn Source,
        mut spans: BTreeMap<u32, Span>,
        cancel: &CancellationToken,
    ) -> Result<bool, RedriveError> {
        let stop = cancel.child_token();
        let mut open: HashMap<PartitionId, Open> = HashMap::new();
        let mut working = FuturesUnordered::new();
        let mut failed = None;
        let mut complete = true;
        while !working.is_empty() || (!spans.is_empty() && !stop.is_cancelled()) {
            let failure = tokio::select! {
                Some((id, ended)) = working.next() => {
                    // with this it counts as drained
                    open.remove(&id);
                    match ended {
                        Ok(at_end) => {
                            complete &= at_end;
                            None
                        }
                        Err(failure) => Some(failure),
                    }
                }
                event = source.next(), if !stop.is_cancelled() => match event {
                    Ok(SourceEvent::Assigned(partition)) => {
                        let id = partition.id().clone();
                        if let Some(span) = spans.remove(&id.partition) {
                            let stop = stop.child_token();
                            open.insert(id.clone(), Open { stop: stop.clone(), drained: None });
                            working.push(async move {
                                let ended = self.partition(partition, span, &stop).await;
                                (id, ended)
                            });
                        }
                        None
                    }
                    Ok(SourceEvent::Revoking { id, drained }) => {
                        // another process works on the same redrive: it goes on with this one
                        if let Some(open) = open.get_mut(&id) {
                            open.drained = Some(drained);
                            open.stop.cancel();
                        }
                        None
                    }
                    Ok(SourceEvent::Finished) => {
                        spans.clear();
                        None
                    }
                    Err(SourceError::Unavailable(why)) => {
                        self.progress.send_modify(|p| p.waiting = Some(why));
                        None
                    }
                    Err(error) => Some(error.into()),
                },
                () = stop.cancelled(), if !stop.is_cancelled() => None,
                else => None,
            };
            if let Some(failure) = failure {
                stop.cancel();
                failed.get_or_insert(failure);
            }
        }
        match failed {
            Some(failure) => Err(failure),
            None => Ok(complete && spans.is_empty()),
        }
    }

    /// Works on one partition up to its end: `true`; or until `stop`, or until it is
    /// another's: `false`.
    async fn partition(
        &self,
        mut partition: Box<dyn Partition>,
        mut span: Span,
        stop: &CancellationToken,
    ) -> Result<bool, RedriveError> {
        let mut patience = Patience::default();
        loop {
            let received = tokio::select! {
                () = stop.cancelled() => return Ok(false),
                received = partition.recv(BATCH) => received,
            };
            let deliveries = match received {
                Ok(deliveries) => deliveries,
                Err(SourceError::Unavailable(why)) => {
                    self.progress.send_modify(|p| p.waiting = Some(why));
                    patience.pause(stop).await;
                    continue;
                }
                Err(SourceError::Fenced(_)) => return Ok(false),
                Err(error) => return Err(error.into()),
            };
            patience = Patience::default();
            let mut at_end = deliveries.is_empty();
            let mut too_young = false;
            let mut lot = Lot::default();
            for delivery in deliveries {
                let (token, position) = (delivery.token, delivery.event.position);
                at_end = position >= span.until;
                if at_end {
                    break;
                }
                let judgement = self.judge.judge(delivery.event);
                too_young = matches!(judgement, Judgement::TooYoung);
                if too_young {
                    break;
                }
                lot.push(Line { token, position, judgement });
                if lot.errands() >= self.step
                    && !self.send(partition.as_mut(), &mut lot, &mut span, stop).await?
                {
                    return Ok(false);
                }
            }
            if !self.send(partition.as_mut(), &mut lot, &mut span, stop).await? {
                return Ok(false);
            }
            if at_end {
                // what is missing up to the end are gaps
                let gap = span.until - span.from;
                self.progress.send_modify(|p| p.left = p.left.saturating_sub(gap));
            }
            if at_end || too_young {
                return Ok(true);
            }
        }
    }

    /// Sends and settles a lot, and empties it. `false`: stopped before the end of it.
    async fn send(
        &self,
        partition: &mut dyn Partition,
        lot: &mut Lot,
        span: &mut Span,
        stop: &CancellationToken,
    ) -> Result<bool, RedriveError> {
        let Some(last) = lot.last_position() else { return Ok(true) };
        if let Some(pace) = &self.pace
            && lot.errands() > 0
        {
            let paced = async { pace.lock().await.wait(lot.errands()).await };
            tokio::select! {
                () = stop.cancelled() => return Ok(false),
                () = paced => {}
            }
        }
        if !self.postman.deliver(partition, lot, self.progress, stop).await? {
            return Ok(false);
        }
        let passed = last + 1 - span.from;
        span.from = last + 1;
        self.progress.send_modify(|p| p.left = p.left.saturating_sub(passed));
        Ok(true)
    }
}

#[cfg(test)]
#[path = "run_tests.rs"]
mod tests;
