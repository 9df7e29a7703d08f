//! What travels between a partition's loop and its attempts, and back.

use std::{any::Any, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::FutureExt;
use sandbar_core::{AckToken, Call, Delivery, ErrorClass, Event, HandledBy, Outgoing};
use tokio::time::Instant;

/// An event under way, from its delivery to its settlement. There is one of each,
/// and it is always in exactly one place.
pub(crate) struct Record {
    /// The event as the handler sees it, and the number of the next attempt.
    pub call: Call,
    pub ticket: Ticket,
}

/// What the pipeline notes on an event.
pub(crate) struct Ticket {
    pub token: AckToken,
    /// Its place among the events that the partition has taken in.
    pub age: u64,
    pub redeliveries: u32,
    /// The lane that it holds until it is terminal.
    pub lane: Option<Bytes>,
    /// The event as delivered, where `call` holds a decoded one: what a dead
    /// letter must carry (contract D2).
    pub raw: Option<Box<Event>>,
    pub first_attempt: Option<Instant>,
    pub first_failed_ms: Option<u64>,
    /// What handled it last.
    pub by: Option<Arc<HandledBy>>,
}

impl Record {
    pub(crate) fn new(delivery: Delivery, lane: Option<Bytes>, age: u64) -> Self {
        let Delivery { event, token, redeliveries } = delivery;
        let ticket = Ticket {
            token,
            age,
            redeliveries,
            lane,
            raw: None,
            first_attempt: None,
            first_failed_ms: None,
            by: None,
        };
        Self { call: Call { event, attempt: 1 }, ticket }
    }

    /// The event as it was delivered.
    pub(crate) fn delivered(&self) -> &Event {
        self.ticket.raw.as_deref().unwrap_or(&self.call.event)
    }
}

/// What an attempt says of one event. Every event that an attempt was given comes
/// back in one of these, unless the attempt was aborted.
pub(crate) struct Report {
    pub record: Record,
    pub fate: Fate,
}

/// What follows an attempt.
pub(crate) enum Fate {
    /// Terminal, once it is settled together with `effects`.
    Done { end: End, effects: Vec<Outgoing> },
    /// Again, no sooner than that; the class is of the failed attempt.
    Retry { after: Duration, class: ErrorClass },
    /// Again as soon as the gate opens, as the same attempt.
    Defer,
    /// Not to be passed: its partition halts.
    Halt { reason: String },
}

/// How an event ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Handled,
    Skipped,
    DeadLettered(ErrorClass),
    Dropped(ErrorClass),
}

/// Runs code that is not ours: a panic in it is an error like others, and the
/// events at stake stay with the caller.
pub(crate) async fn guarded<T>(call: impl Future<Output = T>) -> Result<T, String> {
    AssertUnwindSafe(call).catch_unwind().await.map_err(|panic| panic_text(&*panic))
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
        .into()
}
