//! What travels between a partition's loop and its attempts, and back.

use std::{
    any::Any,
    ops::{Deref, DerefMut},
    panic::AssertUnwindSafe,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use futures::FutureExt;
use sandbar_core::{
    AckToken, Call, Delivery, ErrorClass, Event, HandledBy, Mark, Outgoing, StateChanges,
};
use tokio::time::Instant;

use crate::{Parcel, Reason, dedup::Claim};

/// An event under way, from its delivery to its settlement. There is one of each,
/// and it is always in exactly one place.
///
/// In a box: it is large, and changes its place ten times.
pub(crate) struct Record(Box<Contents>);

pub(crate) struct Contents {
    /// The event as the handler sees it, and the number of the next attempt.
    pub call: Call,
    pub ticket: Ticket,
}

impl Deref for Record {
    type Target = Contents;

    fn deref(&self) -> &Contents {
        &self.0
    }
}

impl DerefMut for Record {
    fn deref_mut(&mut self) -> &mut Contents {
        &mut self.0
    }
}

/// What the pipeline notes on an event.
#[derive(Default)]
pub(crate) struct Ticket {
    pub token: AckToken,
    /// Its place among the events that the partition has taken in.
    pub age: u64,
    pub redeliveries: u32,
    /// The lane that it holds until it is terminal.
    pub lane: Option<Bytes>,
    /// The event as it came, where `call` holds a decoded one: what a dead letter must
    /// carry (contract D2).
    pub raw: Option<Box<Event>>,
    pub first_attempt: Option<Instant>,
    pub first_failed_ms: Option<u64>,
    /// What handled it last.
    pub by: Option<Arc<HandledBy>>,
    /// Held while it is under way, where it must not be handled twice (contract I2).
    pub claim: Option<Claim>,
    /// Set where it came as a parcel.
    pub parcel: Option<Box<Origin>>,
    /// Location of the dead letter that it has to follow (contract O4).
    pub blocked_by: Option<String>,
}

impl Ticket {
    /// Whether it came as a parcel that cannot be opened.
    pub(crate) fn is_damaged(&self) -> bool {
        self.parcel.as_ref().is_some_and(|parcel| parcel.damage.is_some())
    }
}

/// What a parcel said besides its event.
#[derive(Default)]
pub(crate) struct Origin {
    /// Why the record is no parcel after all.
    pub damage: Option<String>,
    /// An operator wants it handled, whatever its key waits for.
    pub redriven: bool,
    pub redrives: u32,
    /// When it may be handled, milliseconds since the Unix epoch.
    pub due_ms: u64,
    /// How long attempts at it have gone on before it came here.
    pub aged: Duration,
}

impl Record {
    pub(crate) fn new(delivery: Delivery, lane: Option<Bytes>, age: u64) -> Self {
        let Delivery { event, token, redeliveries } = delivery;
        let ticket = Ticket { token, age, redeliveries, lane, ..Ticket::default() };
        Self(Box::new(Contents { call: Call { event, attempt: 1 }, ticket }))
    }

    /// The event inside of the parcel that `self` carries, as if it came from its own
    /// topic. What is no parcel of `group` is kept as it is and marked as damaged.
    pub(crate) fn opened(mut self, group: &str, now_ms: u64) -> Self {
        let mut origin = Origin::default();
        match Parcel::open(&self.call.event) {
            Ok(parcel) if parcel.to == group => {
                origin.redriven = parcel.reason == Reason::Redrive;
                (origin.redrives, origin.due_ms) = (parcel.redrives, parcel.due_ms);
                let began_ms = parcel.began_ms.unwrap_or(now_ms);
                origin.aged = Duration::from_millis(now_ms.saturating_sub(began_ms));
                self.ticket.first_failed_ms = Some(parcel.first_failed_ms);
                // time goes on while it waits here
                self.ticket.first_attempt = parcel.began_ms.map(|_| Instant::now());
                self.call = Call { event: parcel.event, attempt: parcel.attempt.max(1) };
            }
            Ok(parcel) => origin.damage = Some(format!("a parcel for group `{}`", parcel.to)),
            Err(error) => origin.damage = Some(error.to_string()),
        }
        self.ticket.parcel = Some(Box::new(origin));
        self
    }

    /// The event as it was delivered, out of its parcel where it came in one.
    pub(crate) fn delivered(&self) -> &Event {
        self.ticket.raw.as_deref().unwrap_or(&self.call.event)
    }

    /// How long attempts at it have gone on.
    pub(crate) fn age(&self) -> Duration {
        let here = self.ticket.first_attempt.map_or(Duration::ZERO, |at| at.elapsed());
        here + self.ticket.parcel.as_ref().map_or(Duration::ZERO, |parcel| parcel.aged)
    }
}

/// What an attempt says of one event. Every event that an attempt was given comes
/// back in one of these, unless the attempt was aborted.
pub(crate) struct Report {
    pub record: Record,
    pub fate: Fate,
}

/// What follows an attempt, or the look at whether to make one.
pub(crate) enum Fate {
    /// It was not handled before: attempts may begin.
    New,
    /// Nothing was done to it, and nothing is to be.
    Untouched,
    /// Terminal, once it is settled.
    Done(Ending),
    /// Again, no sooner than that; the class is of the failed attempt.
    Retry { due: Instant, class: ErrorClass },
    /// Again as soon as the gate opens, as the same attempt.
    Defer,
    /// Again at once, as the same attempt: the state that it was handled on has changed.
    Stale { reason: String },
    /// Not to be passed: its partition halts.
    Halt { reason: String },
    /// It was settled before, and now its mark is durable.
    Marked,
}

/// How an event is to be settled.
pub(crate) struct Ending {
    pub end: End,
    /// Events that the handler published.
    pub outputs: usize,
    /// Written in one step with the acknowledgement.
    pub effects: Vec<Outgoing>,
    /// Written in that step too, or else after it.
    pub mark: Option<Mark>,
    /// Made in that step too, or else durable before it and no longer here.
    pub state: Option<Box<StateChanges>>,
}

impl Ending {
    /// One without any effect.
    pub(crate) fn of(end: End) -> Self {
        Self { end, outputs: 0, effects: Vec::new(), mark: None, state: None }
    }

    /// Whether the source may refuse it for what it brings.
    pub(crate) fn may_fail(&self) -> bool {
        let brings = !self.effects.is_empty() || self.state.is_some();
        matches!(self.end, End::Handled | End::DeadLettered(_)) && brings
    }
}

/// How an event ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Handled,
    Skipped,
    /// It was handled before.
    Duplicate,
    /// Its next attempt comes through a topic.
    Delayed {
        due: Instant,
        class: ErrorClass,
    },
    DeadLettered(ErrorClass),
    Dropped(ErrorClass),
}

impl End {
    /// Whether the event must not be handled again.
    pub(crate) fn is_marked(self) -> bool {
        matches!(self, Self::Handled | Self::Skipped)
    }
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
