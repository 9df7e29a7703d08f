//! Before the first attempt: was the event handled already, or is it just now (contract
//! I1 to I3)?

use std::sync::Arc;

use futures::future::select_all;
use tokio::select;

use crate::{
    Subscription,
    attempt::{End, Ending, Fate, Record},
    attempts::Way,
    backoff::Backoff,
    dedup::Dedup,
    faults::{Fault, planted},
    subscription::decode,
};

impl Subscription {
    /// Looks `records` up and reports each as new, or as terminal where it was handled
    /// before. What is under way elsewhere waits for that, and is looked up then.
    pub(crate) async fn screen(self: Arc<Self>, dedup: Arc<Dedup>, records: Vec<Record>, way: Way) {
        // what cannot be decoded has its place for an id, and fails when it is attempted
        let mut undecoded = Vec::new();
        let mut records = decode(records, &mut undecoded);
        records.extend(undecoded.into_iter().map(|(record, _)| record));
        let mut draining = false;
        while !records.is_empty() {
            let (mut claimed, mut others, mut waits) = (Vec::new(), Vec::new(), Vec::new());
            for mut record in records {
                match dedup.claim(record.call.event.id()) {
                    Ok(claim) => {
                        record.ticket.claim = Some(claim);
                        claimed.push(record);
                    }
                    Err(wait) => {
                        others.push(record);
                        waits.push(wait);
                    }
                }
            }
            select! {
                biased;
                () = way.draining.cancelled() => draining = true,
                handled = self.look_up(&dedup, &claimed) => {
                    if planted(Fault::MarkedFirst) {
                        let claims = claimed.iter().filter_map(|r| r.ticket.claim.as_ref());
                        let marks = claims.map(|c| dedup.mark_of(c, self.now_ms())).collect::<Vec<_>>();
                        let _ = self.write_marks(&marks).await;
                    }
                    for (record, handled) in claimed.drain(..).zip(handled) {
                        let fate = if handled {
                            Fate::Done(Ending::of(End::Duplicate))
                        } else {
                            Fate::New
                        };
                        way.report(record, fate).await;
                    }
                }
            }
            if !draining && !waits.is_empty() {
                select! {
                    biased;
                    () = way.draining.cancelled() => draining = true,
                    _ = select_all(waits) => {}
                }
            }
            if draining {
                for record in claimed.into_iter().chain(others) {
                    way.report(record, Fate::Untouched).await;
                }
                return;
            }
            records = others;
        }
    }

    /// Which of `records` were handled. While the store is away this holds back.
    async fn look_up(&self, dedup: &Dedup, records: &[Record]) -> Vec<bool> {
        let ids: Vec<_> = records
            .iter()
            .filter_map(|r| r.ticket.claim.as_ref().map(|c| c.id().clone()))
            .collect();
        let mut backoff = Backoff::default();
        loop {
            if ids.is_empty() {
                return Vec::new();
            }
            match dedup.seen(&ids, self.now_ms()).await {
                Ok(seen) => return seen,
                Err(error) => {
                    self.hold_back(ids.len(), error.to_string(), &mut backoff).await;
                }
            }
        }
    }

    /// Writes the marks of events that are settled.
    pub(crate) async fn remember(self: Arc<Self>, settled: Vec<(Record, Ending)>, way: Way) {
        let marks: Vec<_> = settled.iter().filter_map(|(_, ending)| ending.mark.clone()).collect();
        let mut backoff = Backoff::default();
        while let Err(reason) = self.write_marks(&marks).await {
            self.hold_back(marks.len(), reason, &mut backoff).await;
        }
        for (record, _) in settled {
            way.report(record, Fate::Marked).await;
        }
    }
}
