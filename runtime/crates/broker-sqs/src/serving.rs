//! What goes on around a queue while it is subscribed to: receiving, settling, and keeping
//! invisible what is being handled.

use std::{sync::Arc, time::Duration};

use futures::{StreamExt, stream::FuturesUnordered};
use sandbar_core::SourceError;
use tokio::{select, sync::mpsc, task::JoinSet, time::Instant};

use crate::{
    api::{Api, BATCH, batched},
    error::{Failure, Kind},
    inflight::{Fate, Settling},
    partition::Slot,
    queues::Queues,
    record::Received,
};

/// Between attempts while SQS is away, and between calls that do not wait and bring nothing: doubled from the
/// first to the last.
pub(crate) const BACKOFF: (Duration, Duration) =
    (Duration::from_millis(100), Duration::from_secs(2));

/// How long an answer takes that SQS does not wait with.
const ANSWER: Duration = Duration::from_secs(5);

/// What the source has to know.
pub(crate) enum Report {
    /// For its caller.
    Trouble(SourceError),
    /// The queue is gone, and the slot is fenced.
    Gone(Arc<Slot>),
}

/// Serves one slot. Each part runs as a task of its own: SQS may be slow to answer one kind
/// of call and not another.
#[derive(Clone)]
pub(crate) struct Serving {
    pub slot: Arc<Slot>,
    pub queues: Arc<Queues>,
    pub reports: mpsc::Sender<Report>,
    /// Deliveries that may be ready.
    pub prefetch: usize,
    pub until_end: bool,
}

impl Serving {
    /// Starts to receive, which [`Slot::stop`] ends, and to settle and to extend, which
    /// dropping `rest` ends.
    pub fn start(self, polls: &mut JoinSet<()>, rest: &mut JoinSet<()>) {
        let (settling, extending) = (self.clone(), self.clone());
        polls.spawn(self.poll());
        rest.spawn(async move { settling.settle().await });
        rest.spawn(async move { extending.extend().await });
    }

    fn api(&self) -> &dyn Api {
        &*self.queues.api
    }

    /// Receives until stopped, with more calls at once while each comes back full.
    async fn poll(self) {
        let (slot, config) = (&self.slot, &self.queues.config);
        let wait = match self.until_end {
            true => config.wait.min(Duration::from_secs(1)),
            false => config.wait,
        };
        let receive = async |max: usize| {
            let call = self.api().receive(&slot.queue.url, max, wait, config.visibility_timeout);
            (max, call.await)
        };
        let mut calls = FuturesUnordered::new();
        let (mut wanted, mut asked, mut backoff) = (1, 0, BACKOFF.0);
        loop {
            while calls.len() < wanted {
                let ready = slot.with(|inflight| inflight.ready()).unwrap_or_default();
                let room = self.prefetch.max(1).saturating_sub(ready + asked).min(BATCH);
                if room == 0 {
                    break;
                }
                asked += room;
                calls.push(receive(room));
            }
            let (max, answer) = select! {
                () = slot.stop.cancelled() => break,
                () = slot.room.notified() => continue,
                Some(answer) = calls.next() => answer,
            };
            asked -= max;
            let rest = match answer {
                Ok(received) => {
                    wanted = match received.len() {
                        0 => 1,
                        count if count == max => (wanted + 1).min(config.calls),
                        _ => wanted,
                    };
                    let empty = received.is_empty();
                    self.admit(received);
                    if self.until_end && empty && calls.is_empty() && self.is_end().await {
                        slot.end();
                        break slot.stop.cancelled().await;
                    }
                    // it did not wait there, and each call costs
                    empty && wait.is_zero()
                }
                Err(failure) => {
                    wanted = 1;
                    if !self.trouble(&failure).await {
                        // what was delivered before may still be settled
                        break slot.stop.cancelled().await;
                    }
                    true
                }
            };
            if !rest {
                backoff = BACKOFF.0;
                continue;
            }
            select! {
                () = slot.stop.cancelled() => break,
                () = tokio::time::sleep(backoff) => {}
            }
            backoff = (backoff * 2).min(BACKOFF.1);
        }
        // SQS may give messages to calls that are under way: to drop them now would hide these
        // until their invisibility lapses
        let under_way = async {
            while let Some((_, answer)) = calls.next().await {
                self.admit(answer.unwrap_or_default());
            }
        };
        // after this time an answer is late
        let _ = tokio::time::timeout(wait + ANSWER, under_way).await;
        slot.release_all();
    }

    fn admit(&self, received: Vec<Received>) {
        if !received.is_empty() {
            self.slot.with(|inflight| inflight.admit(received, Instant::now()));
            self.slot.arrived();
        }
    }

    /// Whether nothing is left but what others hold or is to come later. Messages behind
    /// one of their group that is in flight count as left.
    async fn is_end(&self) -> bool {
        let described = self.api().describe(&self.slot.queue.url).await;
        described.is_ok_and(|described| described.visible == 0)
            && self.slot.with(|inflight| inflight.ready()) == Some(0)
    }

    /// Reports why a receive call failed, and says whether there is any use in another.
    async fn trouble(&self, failure: &Failure) -> bool {
        let topic = &self.slot.queue.topic;
        if failure.kind == Kind::NoQueue {
            self.queues.forget(&self.slot.queue);
            self.slot.fence("its queue is gone");
            self.send(Report::Gone(self.slot.clone())).await;
            return false;
        }
        let error = failure.source(&format!("receive from topic {topic}"));
        if matches!(error, SourceError::Fatal(_)) {
            self.send(Report::Trouble(error)).await;
            return false;
        }
        // the source's caller hears of the state, not of every attempt
        let _ = self.reports.try_send(Report::Trouble(error));
        true
    }

    async fn send(&self, report: Report) {
        // a source that is gone needs to know nothing
        let _ = self.reports.send(report).await;
    }

    /// Tells SQS what is done and what is released, for ever.
    async fn settle(&self) {
        let calls = self.queues.config.calls;
        let mut backoff = BACKOFF.0;
        while !self.slot.is_fenced() {
            let next = self.slot.with(|inflight| inflight.next_settling(calls * BATCH));
            let next = next.unwrap_or_default();
            if next.is_empty() {
                self.slot.settle.notified().await;
                continue;
            }
            let answers = self.tell(next, calls).await;
            match self.slot.with(|inflight| inflight.answered(answers)).flatten() {
                None => backoff = BACKOFF.0,
                Some(failure) => {
                    tracing::debug!(
                        partition = %self.slot.id, reason = failure.message, "not settled yet"
                    );
                    tokio::time::sleep(backoff).await;
                    backoff = (backoff * 2).min(BACKOFF.1);
                }
            }
        }
    }

    /// Answers come in the order of what was told.
    async fn tell(
        &self,
        settling: Vec<Settling>,
        calls: usize,
    ) -> Vec<(Settling, Result<(), Failure>)> {
        let (api, url) = (self.api(), self.slot.queue.url.as_str());
        let (deletes, releases): (Vec<_>, Vec<_>) =
            settling.into_iter().partition(|settling| settling.fate == Fate::Delete);
        let receipts: Vec<String> = deletes.iter().map(|d| d.receipt.clone()).collect();
        let deleted =
            batched(&receipts, calls, |batch| async move { api.delete(url, &batch).await });
        let delay = |fate| match fate {
            Fate::Release(after) => after,
            Fate::Open | Fate::Delete => Duration::ZERO,
        };
        let changes: Vec<_> = releases.iter().map(|r| (r.receipt.clone(), delay(r.fate))).collect();
        // one call after the other: they release the last message of a group first
        let change = |batch: Vec<_>| async move { api.set_visibility(url, &batch).await };
        let released = batched(&changes, 1, change);
        let (deleted, released) = tokio::join!(deleted, released);
        deletes.into_iter().zip(deleted).chain(releases.into_iter().zip(released)).collect()
    }

    /// Keeps messages invisible for as long as they are open.
    async fn extend(&self) {
        let visibility = self.queues.config.visibility_timeout;
        while !self.slot.is_fenced() {
            let Some(at) = self.slot.with(|inflight| inflight.extend_at()).flatten() else {
                self.slot.extend.notified().await;
                continue;
            };
            tokio::time::sleep_until(at).await;
            let now = Instant::now();
            let due = self.slot.with(|inflight| inflight.to_extend(now)).unwrap_or_default();
            let (tokens, receipts): (Vec<u64>, Vec<String>) = due.into_iter().unzip();
            let changes: Vec<_> = receipts.into_iter().map(|r| (r, visibility)).collect();
            let (api, url) = (self.api(), self.slot.queue.url.as_str());
            let change = |batch: Vec<_>| async move { api.set_visibility(url, &batch).await };
            let each = batched(&changes, self.queues.config.calls, change).await;
            self.slot
                .with(|inflight| inflight.extended(now, tokens.into_iter().zip(each).collect()));
        }
    }
}

/// Waits until SQS has been told of everything that is settled in `slots`, for as long as it answers.
///
/// # Errors
/// Where it has taken nothing for all of `patience`, naming the first queue that has something left.
pub(crate) async fn settled(slots: &[Arc<Slot>], patience: Duration) -> Result<(), SourceError> {
    // what is fenced cannot be settled, and that was said when it was
    let left = |slot: &Arc<Slot>| slot.with(|inflight| inflight.unsettled()).unwrap_or_default();
    let (mut least, mut since) = (usize::MAX, Instant::now());
    loop {
        let now = slots.iter().map(left).sum();
        if now == 0 {
            return Ok(());
        }
        if now < least {
            (least, since) = (now, Instant::now());
        } else if since.elapsed() >= patience {
            let open = slots.iter().find(|slot| left(slot) > 0);
            let id = open.map(|slot| slot.id.to_string()).unwrap_or_default();
            return Err(SourceError::Unavailable(format!(
                "{id}: SQS was not told of all that is done; what it does not know is delivered again"
            )));
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[cfg(test)]
mod tests {
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::{
        api::fake::{Asked, Fake, message},
        config::SqsConfig,
        inflight::InFlight,
        queues::Queue,
    };

    const PATIENCE: Duration = Duration::from_secs(10);

    /// One whose messages are all to be deleted.
    fn slot(messages: u64) -> Arc<Slot> {
        let url = "http://localhost/0/t".into();
        let queue = Queue { topic: "t".into(), name: "t".into(), url, size_max: 1 };
        let mut inflight = InFlight::new("t".into(), "key".into(), false, Duration::from_secs(30));
        let received = (0..messages).map(|id| message(&id.to_string(), None)).collect();
        inflight.admit(received, Instant::now());
        inflight.take(messages as usize);
        for token in 0..messages {
            inflight.settle(sandbar_core::AckToken(token), Fate::Delete);
        }
        Arc::new(Slot::new(Arc::new(queue), inflight, CancellationToken::new()))
    }

    #[tokio::test(start_paused = true)]
    async fn closing_waits_for_as_long_as_sqs_answers_and_no_longer() {
        let slow = slot(3);
        let telling = slow.clone();
        tokio::spawn(async move {
            for _ in 0..3 {
                tokio::time::sleep(PATIENCE * 4 / 5).await;
                telling.with(|inflight| {
                    let told = inflight.next_settling(1).into_iter().map(|told| (told, Ok(())));
                    inflight.answered(told.collect())
                });
            }
        });
        let began = Instant::now();
        settled(&[slow], PATIENCE).await.expect("it answers all the time");
        assert!(began.elapsed() > PATIENCE * 2);

        let (began, silent) = (Instant::now(), slot(2));
        let late = settled(&[slot(0), silent], PATIENCE).await.expect_err("nothing is taken");
        assert!(late.to_string().contains("t/0"), "{late}");
        let waited = began.elapsed();
        assert!(PATIENCE <= waited && waited < PATIENCE * 2, "{waited:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn calls_that_do_not_wait_are_few_while_they_bring_nothing() {
        let fake = Arc::new(Fake::default());
        let config = SqsConfig { wait: Duration::ZERO, ..SqsConfig::default() };
        let queues = Arc::new(Queues::new(fake.clone(), config, "c".into()));
        let (slot, (reports, _kept)) = (slot(0), mpsc::channel(1));
        let serving =
            Serving { slot: slot.clone(), queues, reports, prefetch: 10, until_end: false };
        let polls = tokio::spawn(serving.poll());

        tokio::time::sleep(Duration::from_secs(60)).await;
        let receives =
            || fake.asked.lock().iter().filter(|asked| **asked == Asked::Receive).count();
        assert!((25..40).contains(&receives()), "{}", receives());

        // one that brings something is followed by others at once
        let before = receives();
        fake.messages.lock().push(vec![message("m", None)]);
        tokio::time::sleep(BACKOFF.1 * 2).await;
        assert!(receives() - before >= 4, "{before}, {}", receives());

        slot.stop.cancel();
        polls.await.expect("it ends");
    }
}
