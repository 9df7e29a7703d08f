//! Reading one consumer: one pull request at a time, and order across broken connections
//! and changes of the active reader.
//!
//! The server numbers the deliveries of a consumer. While only we read it these numbers have
//! no gap; where one is missing, an event went to a reader before us, or was lost on its way.
//! It comes again only when the server has waited for its acknowledgement, and events behind
//! it must not overtake it. So after a gap everything that comes is held, until the server has
//! nothing unacknowledged that is not here ([`Puller::is_complete`]).

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use async_nats::{Client, Message, StatusCode, Subscriber, jetstream::consumer::Info};
use bytes::Bytes;
use futures::{FutureExt, StreamExt};
use sandbar_core::{Event, SourceError};
use serde_json::json;
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

use crate::{
    cursors::READERS,
    link::Health,
    partition::{Met, Slot},
    record::{self, Place},
    streams::{Streams, Topic},
};

/// Pause before asking again for what is not there yet.
const AGAIN: Duration = Duration::from_millis(100);
/// How much later than it should a pull request may end before it is given up.
const LATE: Duration = Duration::from_secs(2);

/// How reading came to its end.
#[derive(Debug)]
pub(crate) enum Ended {
    /// The pipeline has dropped its handle, or the subscription is being closed.
    Done,
    /// Another process is the active reader.
    Taken,
    /// The server has not answered for so long that another process may be the active reader.
    Lapsed,
    /// The consumer or its stream is gone.
    Gone(String),
}

/// A pull request under way.
struct Request {
    /// Messages that it may still bring.
    left: usize,
    until: Instant,
}

/// What to read, and how.
pub(crate) struct Reading {
    pub topic: Topic,
    pub consumer: String,
    pub prefetch: usize,
    /// End once everything before this position was delivered.
    pub until: Option<u64>,
}

/// The task that reads.
pub(crate) struct Puller {
    streams: Arc<Streams>,
    client: Client,
    slot: Arc<Slot>,
    reading: Reading,
    health: watch::Receiver<Health>,
    inbox: String,
    messages: Subscriber,
    /// Messages that came while an answer was awaited.
    backlog: VecDeque<Message>,
    request: Option<Request>,
    /// When the oldest request was made that may still bring messages.
    since: Instant,
    /// A request was given up, and may bring messages yet.
    late: bool,
    /// When the next request may be made.
    next: Instant,
    pin: Option<String>,
    /// Number of the next delivery, where nothing is missing before it.
    expected: Option<u64>,
    /// What came since something was missing.
    held: BTreeMap<u64, (Event, u32)>,
    /// Since when something is missing.
    missing: Option<Instant>,
}

impl Puller {
    /// `info` is the consumer as it was found.
    pub async fn open(
        streams: Arc<Streams>,
        slot: Arc<Slot>,
        reading: Reading,
        info: &Info,
    ) -> Result<Self, SourceError> {
        let client = streams.link.client().await?;
        let health = streams.link.health();
        let inbox = client.new_inbox();
        let messages = client.subscribe(inbox.clone()).await;
        let messages = messages
            .map_err(|e| SourceError::Unavailable(format!("{}: no inbox: {e}", slot.id)))?;
        Ok(Self {
            client,
            slot,
            reading,
            health,
            inbox,
            messages,
            backlog: VecDeque::new(),
            request: None,
            since: Instant::now(),
            late: false,
            next: Instant::now(),
            pin: None,
            expected: (info.num_ack_pending == 0).then_some(info.delivered.consumer_sequence + 1),
            held: BTreeMap::new(),
            missing: None,
            streams,
        })
    }

    fn exclusive(&self) -> bool {
        self.streams.link.config.exclusive
    }

    /// How long a request waits for messages. Each one keeps us the active reader.
    fn patience(&self) -> Duration {
        self.streams.link.config.ack_wait / 3
    }

    /// Reads until there is a reason to end.
    pub async fn run(&mut self, stop: &mut watch::Receiver<bool>) -> Ended {
        let slot = self.slot.clone();
        loop {
            if *stop.borrow() || slot.is_dropped() {
                return Ended::Done;
            }
            let ended = if let Some(message) = self.backlog.pop_front() {
                self.on_message(message).await
            } else {
                let wake = match &self.request {
                    Some(request) if self.missing.is_none() => request.until + LATE,
                    _ => self.next,
                };
                tokio::select! {
                    biased;
                    // an error means that the source is gone
                    _ = stop.changed() => return Ended::Done,
                    Ok(()) = self.health.changed() => self.reconnected().await,
                    message = self.messages.next() => match message {
                        Some(message) => self.on_message(message).await,
                        None => Some(Ended::Gone("the client is closed".into())),
                    },
                    () = slot.room.notified() => {
                        if self.room() > self.reading.prefetch / 2 {
                            self.next = Instant::now();
                        }
                        None
                    }
                    () = sleep_until(wake) => self.on_time().await,
                }
            };
            if let Some(ended) = ended {
                return ended;
            }
            let idle = self.request.is_none() && self.missing.is_none();
            if idle && self.next <= Instant::now() {
                self.ask_for_more().await;
            }
        }
    }

    /// After the connection was made anew: the server may know nothing of the request,
    /// and may not have heard what was said last.
    async fn reconnected(&mut self) -> Option<Ended> {
        if self.health.borrow_and_update().connected {
            self.request = None;
            self.late = false;
            self.next = Instant::now();
            self.slot.repeat(&self.client).await;
        }
        None
    }

    async fn on_message(&mut self, message: Message) -> Option<Ended> {
        if let Some(status) = message.status {
            return self.on_status(status, message.description.as_deref()).await;
        }
        if let Some(request) = &mut self.request {
            request.left = request.left.saturating_sub(1);
            if request.left == 0 {
                self.request = None;
                self.late = false;
            }
        }
        let pin = record::pin(&message);
        if pin != self.pin.as_deref() {
            self.pin = pin.map(str::to_owned);
        }
        let context = self.streams.link.context().await.ok()?;
        let (message, place) = Place::of(message, context);
        let (Some(place), Some(reply)) = (place, message.reply.clone()) else { return None };
        if self.exclusive() {
            if self.missing.is_none() && self.expected != Some(place.delivery) {
                tracing::debug!(
                    partition = %self.slot.id,
                    delivery = place.delivery,
                    expected = self.expected,
                    "deliveries are missing: waiting for them"
                );
                self.missing = Some(Instant::now());
                self.next = Instant::now();
            }
            self.expected = Some(place.delivery + 1);
        }
        let again = place.times > 1;
        let message_of = (place.position, &reply);
        if self.slot.meet(&self.client, message_of, self.since, again).await == Met::Known {
            return None;
        }
        let at = (place.position, place.timestamp_ms);
        let config = &self.streams.link.config;
        let event = record::event(message, &self.reading.topic.name, at, config);
        let redeliveries = u32::try_from(place.times.saturating_sub(1)).unwrap_or(u32::MAX);
        if self.missing.is_some() {
            self.held.insert(place.position, (event, redeliveries));
        } else {
            self.slot.push(event, redeliveries);
        }
        None
    }

    /// A request has ended before it brought all it might.
    async fn on_status(&mut self, status: StatusCode, why: Option<&str>) -> Option<Ended> {
        let nothing = self.request.take().is_some_and(|r| r.left == 0);
        self.late = false;
        match status {
            StatusCode::PIN_ID_MISMATCH => {
                self.pin = None;
                return Some(Ended::Taken);
            }
            // asked for nothing, and got it
            _ if nothing => {}
            StatusCode::NOT_FOUND | StatusCode::TIMEOUT => {
                self.next = Instant::now();
                if self.reading.until.is_some() && self.missing.is_none() {
                    if self.is_complete(true).await {
                        self.slot.end();
                    }
                    self.next += AGAIN;
                }
            }
            _ => {
                tracing::debug!(partition = %self.slot.id, %status, why, "a request was refused");
                self.next = Instant::now() + AGAIN;
                let state = self.streams.state(&self.reading.topic, &self.reading.consumer).await;
                if let Ok(None) = state {
                    return Some(Ended::Gone("its consumer was deleted".into()));
                }
            }
        }
        None
    }

    async fn on_time(&mut self) -> Option<Ended> {
        let now = Instant::now();
        if self.request.as_ref().is_some_and(|r| r.until + LATE <= now) {
            tracing::debug!(partition = %self.slot.id, "a request was lost");
            self.request = None;
            self.late = true;
            self.next = now;
        }
        let since = self.missing?;
        if self.is_complete(false).await {
            self.missing = None;
            self.next = Instant::now();
            for (_, (event, redeliveries)) in std::mem::take(&mut self.held) {
                self.slot.push(event, redeliveries);
            }
            return None;
        }
        self.next = Instant::now() + AGAIN;
        if self.request.is_none() {
            // what is missing comes before anything new, once the server has waited for it
            let due = since.elapsed() > self.streams.link.config.ack_wait;
            let more = due || self.held.len() < self.reading.prefetch;
            self.ask(if more { self.reading.prefetch } else { 0 }, false).await;
        }
        None
    }

    /// Whether all that the server has delivered and not seen acknowledged is here; with
    /// `at_end`, and whether there is nothing to be delivered.
    async fn is_complete(&mut self, at_end: bool) -> bool {
        let state = self.streams.state(&self.reading.topic, &self.reading.consumer).await;
        let Ok(Some(info)) = state else { return false };
        // what came meanwhile may or may not be counted
        while let Some(Some(message)) = self.messages.next().now_or_never() {
            self.backlog.push_back(message);
        }
        let came = !self.backlog.is_empty();
        let end = self
            .reading
            .until
            .is_some_and(|end| info.num_pending == 0 || info.delivered.stream_sequence + 1 >= end);
        !came && info.num_ack_pending <= self.slot.open() && (end || !at_end)
    }

    fn room(&self) -> usize {
        self.reading.prefetch.saturating_sub(self.slot.waiting())
    }

    async fn ask_for_more(&mut self) {
        let (room, wait) = (self.room(), self.reading.until.is_none());
        if self.exclusive() && self.pin.is_none() {
            // whoever gets the first message is the active reader
            self.ask(room.min(1), wait).await;
        } else if room > self.reading.prefetch / 2 {
            self.ask(room, wait).await;
        } else {
            // until there is room
            self.next = Instant::now() + self.patience();
            if self.exclusive() {
                self.ask(0, false).await;
            }
        }
    }

    /// Requests up to `count` messages; 0 brings none and keeps us the active reader.
    async fn ask(&mut self, count: usize, wait: bool) {
        let mut body = json!({ "batch": count.max(1) });
        let patience = if wait { self.patience() } else { Duration::ZERO };
        if wait {
            body["expires"] = u64::try_from(patience.as_nanos()).unwrap_or(u64::MAX).into();
        } else {
            body["no_wait"] = true.into();
        }
        if count == 0 {
            // no message is that small: the server counts the request and ends it
            body["max_bytes"] = 1.into();
        }
        if self.exclusive() {
            body["group"] = READERS.into();
            if let Some(pin) = &self.pin {
                body["id"] = pin.as_str().into();
            }
        }
        let Reading { topic, consumer, .. } = &self.reading;
        let subject = format!("$JS.API.CONSUMER.MSG.NEXT.{}.{consumer}", topic.stream);
        let body = Bytes::from(body.to_string());
        if !self.late {
            self.since = Instant::now();
        }
        let sent = self.client.publish_with_reply(subject, self.inbox.clone(), body).await;
        if sent.is_ok() {
            self.request = Some(Request { left: count, until: Instant::now() + patience });
        } else {
            self.next = Instant::now() + AGAIN;
        }
    }

    /// Gives back what the pipeline has not received.
    pub async fn give_back(&mut self, all: bool) {
        let held = std::mem::take(&mut self.held);
        self.slot.give_back(&self.client, held.into_keys(), all).await;
    }

    /// Leaves the group: what is open belongs to the next reader, who need not wait for it.
    /// With `lapsed` the place may be another's already, and is left as it is.
    ///
    /// # Errors
    /// Where the server may not have heard what was settled.
    pub async fn leave(&mut self, lapsed: bool) -> Result<(), SourceError> {
        self.give_back(true).await;
        if self.pin.take().is_some() && !lapsed {
            self.streams.unpin(&self.reading.topic, &self.reading.consumer).await;
        }
        // the answer comes after all that was said before
        self.streams.state(&self.reading.topic, &self.reading.consumer).await.map(|_| ())
    }

    pub fn client(&self) -> Client {
        self.client.clone()
    }
}
