//! One topic of one group: what is ready, what is open, and what is settled.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use async_nats::{Client, Subject, connection::State as Line};
use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use sandbar_core::{
    AckToken, Delivery, Disposition, Event, Partition, PartitionId, Settlement, SourceError,
};
use tokio::{
    sync::Notify,
    time::{Instant, MissedTickBehavior, interval, sleep_until, timeout},
};

use crate::link::Link;

const ACK: Bytes = Bytes::from_static(b"+ACK");
const NAK: Bytes = Bytes::from_static(b"-NAK");
const IN_PROGRESS: Bytes = Bytes::from_static(b"+WPI");
/// Acknowledgements that are kept to be said again.
const RECENT: usize = 8192;

/// A delivery that is not settled.
struct Open {
    reply: Subject,
    /// When the server was last told that it is in work.
    told: Instant,
    /// From when on it is certainly ours for `ack_wait`: the server sent it, or answered
    /// what it was told, no earlier than this.
    lent: Instant,
}

impl Open {
    fn new(reply: &Subject, lent: Instant) -> Self {
        Self { reply: reply.clone(), told: lent, lent }
    }
}

#[derive(Default)]
struct State {
    ready: VecDeque<Delivery>,
    /// By position; what is ready is open too.
    open: BTreeMap<u64, Open>,
    /// Settled last: a broken connection may have swallowed this.
    recent: VecDeque<(u64, Subject)>,
    /// Nothing comes any more, and was not to.
    ended: bool,
    /// Why nothing counts any more.
    fenced: Option<String>,
    dropped: bool,
}

/// What came of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Met {
    /// It is new here.
    New,
    /// It is open here already, or was settled and is so once more.
    Known,
}

/// A partition, shared by the pipeline's handle and the task that reads.
pub(crate) struct Slot {
    pub id: PartitionId,
    link: Arc<Link>,
    /// Whether the server may deliver a released event later than others.
    delays: bool,
    state: Mutex<State>,
    /// For the pipeline: something is ready, or nothing more will be.
    ready: Notify,
    /// For the reading task: there is room, or the pipeline's handle is gone.
    pub room: Notify,
}

impl Slot {
    pub fn new(id: PartitionId, link: Arc<Link>) -> Self {
        let delays = !link.config.exclusive;
        Self {
            id,
            link,
            delays,
            state: Mutex::default(),
            ready: Notify::new(),
            room: Notify::new(),
        }
    }

    /// Takes note of a message that came and was not sent before `lent`. One that is known is
    /// answered as it was before.
    pub async fn meet(
        &self,
        client: &Client,
        (position, reply): (u64, &Subject),
        lent: Instant,
        again: bool,
    ) -> Met {
        let answer = {
            let mut state = self.state.lock();
            if let Some(open) = state.open.get_mut(&position) {
                *open = Open::new(reply, lent.max(open.lent));
                None
            } else if again && state.recent.iter().any(|(p, _)| *p == position) {
                Some(ACK)
            } else {
                state.open.insert(position, Open::new(reply, lent));
                return Met::New;
            }
        };
        if let Some(answer) = answer {
            // what is lost here is asked for again
            let _ = client.publish(reply.clone(), answer).await;
        }
        Met::Known
    }

    /// Hands a delivery over. It must have been met.
    pub fn push(&self, event: Event, redeliveries: u32) {
        let token = AckToken(event.position);
        self.state.lock().ready.push_back(Delivery { event, token, redeliveries });
        self.ready.notify_one();
    }

    /// Deliveries that wait to be received.
    pub fn waiting(&self) -> usize {
        self.state.lock().ready.len()
    }

    /// Deliveries that are not settled.
    pub fn open(&self) -> usize {
        self.state.lock().open.len()
    }

    pub fn end(&self) {
        self.state.lock().ended = true;
        self.ready.notify_one();
    }

    pub fn is_dropped(&self) -> bool {
        self.state.lock().dropped
    }

    /// Waits until the pipeline's handle is gone.
    pub async fn dropped(&self) {
        while !self.is_dropped() {
            self.room.notified().await;
        }
    }

    /// From now on nothing counts.
    pub fn fence(&self, reason: &str) {
        self.state.lock().fenced.get_or_insert_with(|| reason.to_owned());
        self.ready.notify_one();
    }

    /// Says again what was settled last.
    pub async fn repeat(&self, client: &Client) {
        let recent: Vec<Subject> =
            self.state.lock().recent.iter().map(|(_, reply)| reply.clone()).collect();
        say(client, recent.into_iter().map(|reply| (reply, ACK))).await;
    }

    /// Gives back `held` and what the pipeline has not received, or with `all` whatever
    /// is open.
    pub async fn give_back(&self, client: &Client, held: impl Iterator<Item = u64>, all: bool) {
        let back: Vec<Subject> = {
            let mut state = self.state.lock();
            let mut positions: Vec<u64> = state.ready.drain(..).map(|d| d.token.0).collect();
            positions.extend(held);
            if all {
                positions = state.open.keys().copied().collect();
            }
            positions.iter().filter_map(|p| state.open.remove(p)).map(|o| o.reply).collect()
        };
        say(client, back.into_iter().map(|reply| (reply, NAK))).await;
    }

    /// Tells the server that what is open is being worked on, since handlers may take longer
    /// than it waits. Returns when it has not answered for so long that it may soon give what
    /// is open to another reader: nothing of this may then go on here.
    pub async fn stay_alive(&self, client: &Client) {
        let mut ticks = interval(self.often());
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let prolonged = async {
                ticks.tick().await;
                self.prolong(client).await;
            };
            tokio::select! {
                () = prolonged => {}
                () = self.lapsed() => return,
            }
        }
    }

    fn often(&self) -> Duration {
        self.link.config.ack_wait / 4
    }

    async fn prolong(&self, client: &Client) {
        let (now, often) = (Instant::now(), self.often());
        let mut due: Vec<(u64, Subject)> = {
            let mut state = self.state.lock();
            let old = state.open.iter_mut().filter(|(_, open)| now - open.told >= often);
            let due = old.map(|(position, open)| {
                open.told = now;
                (*position, open.reply.clone())
            });
            due.collect()
        };
        let Some((last, asked)) = due.pop() else { return };
        say(client, due.iter().map(|(_, reply)| (reply.clone(), IN_PROGRESS))).await;
        // it takes them in their order: to have answered the last is to have heard them all
        let answer = timeout(often, client.request(asked, IN_PROGRESS)).await;
        if matches!(answer, Ok(Ok(_))) {
            let mut state = self.state.lock();
            for position in due.into_iter().map(|(position, _)| position).chain([last]) {
                if let Some(open) = state.open.get_mut(&position) {
                    open.lent = open.lent.max(now);
                }
            }
        }
    }

    /// Waits until something open may soon be another's. The last quarter of `ack_wait` is for
    /// what runs here to end.
    async fn lapsed(&self) {
        loop {
            let now = Instant::now();
            let oldest = self.state.lock().open.values().map(|open| open.lent).min();
            let until = oldest.unwrap_or(now) + self.often() * 3;
            if until <= now {
                return;
            }
            sleep_until(until).await;
        }
    }

    fn take(&self, max: usize) -> Result<Option<Vec<Delivery>>, SourceError> {
        let mut state = self.state.lock();
        if let Some(reason) = &state.fenced {
            return Err(self.fenced(reason));
        }
        let count = state.ready.len().min(max);
        if count == 0 {
            return Ok(state.ended.then(Vec::new));
        }
        let taken = state.ready.drain(..count).collect();
        drop(state);
        self.room.notify_one();
        Ok(Some(taken))
    }

    fn fenced(&self, reason: &str) -> SourceError {
        SourceError::Fenced(format!("{}: {reason}; nothing of it can be settled any more", self.id))
    }

    async fn settle(&self, settlements: &[Settlement]) -> Result<(), SourceError> {
        Settlement::without_effects(settlements, &self.id)?;
        Settlement::without_state(settlements, &self.id)?;
        // what is said while the server is away may be lost
        let client = self.link.client().await?;
        let answers: Vec<(Subject, Bytes)> = {
            let mut state = self.state.lock();
            if let Some(reason) = &state.fenced {
                return Err(self.fenced(reason));
            }
            settlements.iter().filter_map(|s| self.answer(&mut state, s)).collect()
        };
        say(&client, answers.into_iter()).await;
        Ok(())
    }

    fn answer(&self, state: &mut State, settlement: &Settlement) -> Option<(Subject, Bytes)> {
        let position = settlement.token.0;
        let Some(Open { reply, .. }) = state.open.remove(&position) else {
            tracing::warn!(partition = %self.id, position, "settled twice, or never delivered");
            return None;
        };
        let answer = match settlement.disposition {
            Disposition::Done { .. } => {
                if state.recent.len() >= RECENT {
                    state.recent.pop_front();
                }
                state.recent.push_back((position, reply.clone()));
                ACK
            }
            Disposition::Release { after } => nak(after, self.delays),
        };
        Some((reply, answer))
    }
}

/// "Deliver it again." A delay would let later events overtake this one.
fn nak(after: Duration, delays: bool) -> Bytes {
    if !delays || after.is_zero() {
        return NAK;
    }
    Bytes::from(format!(r#"-NAK {{"delay": {}}}"#, after.as_nanos()))
}

async fn say(client: &Client, answers: impl Iterator<Item = (Subject, Bytes)>) {
    // while no server hears it, it would only fill the client's queue
    if client.connection_state() != Line::Connected {
        return;
    }
    for (reply, answer) in answers {
        // fails only for a client that is closed: then the server hears nothing, and waits
        if client.publish(reply, answer).await.is_err() {
            return;
        }
    }
}

/// The pipeline's handle of a [`Slot`].
pub(crate) struct NatsPartition(pub Arc<Slot>);

impl Drop for NatsPartition {
    fn drop(&mut self) {
        self.0.state.lock().dropped = true;
        self.0.room.notify_one();
    }
}

#[async_trait]
impl Partition for NatsPartition {
    fn id(&self) -> &PartitionId {
        &self.0.id
    }

    async fn recv(&mut self, max: usize) -> Result<Vec<Delivery>, SourceError> {
        loop {
            // nothing is awaited between taking deliveries and returning them
            if let Some(ready) = self.0.take(max.max(1))? {
                return Ok(ready);
            }
            self.0.ready.notified().await;
        }
    }

    async fn settle(&mut self, settlements: &[Settlement]) -> Result<(), SourceError> {
        self.0.settle(settlements).await
    }
}
