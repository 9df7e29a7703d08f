//! A partition in the hands of one subscription.

use std::sync::Arc;

use async_trait::async_trait;
use sandbar_core::{
    AckToken, Delivery, Disposition, Partition, PartitionId, ResumeFrom, Settlement, SourceError,
    Watermark,
};
use tokio::sync::{oneshot, watch};

use crate::{
    catalog::Topic,
    lease::Lease,
    log::Inner,
    scan::Scan,
    schema::Cursor,
    writer::{Answer, Settle, Settled, Work},
};

/// Delivers from a group's cursor on and moves that cursor.
pub(crate) struct LogPartition {
    id: PartitionId,
    log: Arc<Inner>,
    lease: Arc<Lease>,
    scan: Scan,
    /// Finished in an earlier life, beyond the cursor: not to be delivered again.
    finished: Vec<(u64, u64)>,
    watermark: Watermark,
    appended: watch::Receiver<()>,
    /// It does not wait for what may be appended later.
    until_end: bool,
    /// A settlement on its way: kept here because the future that sent it may be dropped.
    settling: Option<Settling>,
    /// The last settlement failed, and may have reached the disk all the same.
    uncertain: bool,
}

struct Settling {
    offsets: Vec<u64>,
    answered: oneshot::Receiver<Answer>,
}

impl LogPartition {
    pub(crate) fn new(
        log: Arc<Inner>,
        lease: Arc<Lease>,
        topic: Arc<Topic>,
        partition: u32,
        cursor: Cursor,
        until_end: bool,
    ) -> Self {
        let appended = topic.appended.subscribe();
        let id = PartitionId { topic: Arc::clone(&topic.name), partition };
        let scan = Scan::new(Arc::clone(&log.shared), topic, partition, cursor.resume_from);
        Self {
            id,
            log,
            lease,
            scan,
            finished: cursor.ahead,
            watermark: Watermark::new(ResumeFrom(cursor.resume_from)),
            appended,
            until_end,
            settling: None,
            uncertain: false,
        }
    }

    /// Hands out what is read; everything it returns is tracked as in work.
    fn deliver(&mut self, max: usize) -> Result<Vec<Delivery>, SourceError> {
        loop {
            let events = self.scan.take(max, u64::MAX)?;
            if events.is_empty() {
                return Ok(Vec::new());
            }
            let mut deliveries = Vec::with_capacity(events.len());
            for event in events {
                let position = event.position;
                self.watermark.deliver(position);
                if self.finished.iter().any(|r| (r.0..r.1).contains(&position)) {
                    // tracked all the same, so that the next cursor still says so
                    self.watermark.finish(position);
                } else {
                    deliveries.push(Delivery { event, token: AckToken(position), redeliveries: 0 });
                }
            }
            let next = self.scan.next_offset();
            self.finished.retain(|r| r.1 > next);
            if !deliveries.is_empty() {
                return Ok(deliveries);
            }
        }
    }

    /// Learns what became of a settlement that was sent. Cancel-safe.
    async fn settled(&mut self) -> Result<(), SourceError> {
        let Some(settling) = &mut self.settling else { return Ok(()) };
        let answer = self.log.writer.answer(&mut settling.answered).await;
        let offsets = self.settling.take().map(|s| s.offsets).unwrap_or_default();
        self.uncertain = answer.is_err();
        answer?;
        for offset in offsets {
            self.watermark.finish(offset);
        }
        Ok(())
    }

    /// The cursor that `watermark` stands for.
    fn cursor(&self, watermark: &Watermark) -> Cursor {
        let mut ahead = watermark.finished_ahead();
        // what was finished in an earlier life and not reached again is still finished
        let next = self.scan.next_offset();
        ahead.extend(self.finished.iter().map(|r| (r.0.max(next), r.1)));
        Cursor { resume_from: watermark.resume_from().0, ahead }
    }
}

#[async_trait]
impl Partition for LogPartition {
    fn id(&self) -> &PartitionId {
        &self.id
    }

    async fn recv(&mut self, max: usize) -> Result<Vec<Delivery>, SourceError> {
        loop {
            // seen before looking, so that nothing appended meanwhile is slept over
            self.appended.borrow_and_update();
            let deliveries = self.deliver(max)?;
            if !deliveries.is_empty() {
                return Ok(deliveries);
            }
            if self.scan.fill(u64::MAX).await? {
                continue;
            }
            if self.until_end {
                return Ok(Vec::new());
            }
            if self.appended.changed().await.is_err() {
                return Err(SourceError::Fatal("the log is closed".into()));
            }
        }
    }

    async fn settle(&mut self, settlements: &[Settlement]) -> Result<(), SourceError> {
        // the same settlements may be made again after a call was dropped half-way:
        // its outcome decides which of them are new. Where it failed, all are
        match self.settled().await {
            Ok(()) | Err(SourceError::Unavailable(_)) => {}
            Err(error) => return Err(error),
        }
        // the real one follows once the settlements are durable
        let mut watermark = self.watermark.clone();
        let mut settled = Vec::new();
        for settlement in settlements {
            let Disposition::Done { effects, mark, state } = &settlement.disposition else {
                // released: the cursor stays before it, and the next subscription
                // of the group begins there
                continue;
            };
            let offset = settlement.token.0;
            if !watermark.finish(offset) {
                // settled before
                continue;
            }
            for effect in effects {
                self.log
                    .validate(effect)
                    .map_err(|reason| SourceError::Rejected { token: settlement.token, reason })?;
            }
            let (effects, mark, state) = (effects.clone(), mark.clone(), state.clone());
            settled.push(Settled { offset, effects, mark, state });
        }
        if settled.is_empty() {
            return Ok(());
        }
        let offsets = settled.iter().map(|settled| settled.offset).collect();
        let settle = Settle {
            lease: Arc::clone(&self.lease),
            topic: Arc::clone(&self.scan.topic),
            partition: self.scan.partition,
            cursor: self.cursor(&watermark),
            settled,
            again: self.uncertain,
        };
        let answered = self.log.writer.submit(Work::Settle(settle)).await?;
        self.settling = Some(Settling { offsets, answered });
        self.settled().await
    }
}
