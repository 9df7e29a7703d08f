//! Packed frames: many events, or their outcomes, in one list of bytes.
//!
//! A call through the component model costs one allocation in the guest for each string
//! and each list of an event. A frame is one list, whatever is in it. The format is told
//! in `docs/packed-frames.md`; host and Rust SDK both use this crate, so that it exists
//! once.
//!
//! Reading borrows from the frame and copies nothing. No frame, whatever its bytes, makes
//! a reader panic, read outside of it, or reserve more memory than the frame is long
//! times a small factor.
//!
//! ```
//! use sandbar_frame::{Event, Events, EventsWriter};
//!
//! let mut frame = EventsWriter::with_capacity(64);
//! frame.push(Event {
//!     topic: "orders",
//!     partition: 3,
//!     position: 7,
//!     key: None,
//!     payload: Some(b"{}"),
//!     headers: [("trace", &b"1"[..])],
//!     timestamp_ms: 0,
//!     attempt: 1,
//!     attributes: [],
//! });
//! let frame = frame.finish();
//!
//! let mut events = Events::open(&frame)?;
//! let event = events.next(|name, value| (name, value), |name, value| (name, value)).unwrap()?;
//! assert_eq!((event.topic, event.payload), ("orders", Some(&b"{}"[..])));
//! assert_eq!(event.headers, [("trace", &b"1"[..])]);
//! assert!(events.next(|_, _| (), |_, _| ()).is_none());
//! # Ok::<(), sandbar_frame::Malformed>(())
//! ```
#![warn(missing_docs)]

mod event;
mod outcome;
mod read;
mod write;

pub use event::{Event, Events, EventsWriter};
pub use outcome::{Failure, Outcome, Outcomes, OutcomesWriter, Outgoing};
pub use read::Malformed;

/// The version of the format: the first byte of every frame.
pub const VERSION: u8 = 1;

/// The length that stands for an absent value.
const ABSENT: u32 = u32::MAX;
