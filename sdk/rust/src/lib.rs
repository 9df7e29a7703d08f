//! Write Sandbar plugins in Rust: one attribute on one function.
//!
//! # A plugin
//!
//! ```toml
//! [package]
//! name = "greeter"
//! version = "1.0.0"
//! edition = "2024"
//! description = "Greets everyone who arrives"
//!
//! [lib]
//! crate-type = ["cdylib", "rlib"]     # cdylib: the plugin; rlib: its unit tests
//!
//! [dependencies]
//! sandbar = { package = "sandbar-sdk", version = "0.1" }
//! serde = { version = "1", features = ["derive"] }
//! log = "0.4"
//! ```
//!
//! ```
//! # extern crate sandbar_sdk as sandbar;
//! use sandbar::{Failure, Json, Outgoing};
//!
//! #[derive(serde::Deserialize)]
//! struct Arrival {
//!     name: String,
//! }
//!
//! #[sandbar::handler(topics = ["arrivals"], publishes = ["greetings"])]
//! fn greet(Json(arrival): Json<Arrival>) -> Result<Outgoing, Failure> {
//!     log::info!("greeting {}", arrival.name);
//!     Ok(Outgoing::new("greetings").key(arrival.name.clone()).text(format!("Hello, {}!", arrival.name)))
//! }
//!
//! // a unit test needs no Wasm: the attribute leaves the function as it is
//! # fn main() -> Result<(), Failure> {
//! let greeting = greet(Json(Arrival { name: "Ada".into() }))?;
//! assert_eq!(greeting.topic, "greetings");
//! assert_eq!(greeting.payload_text(), Some("Hello, Ada!"));
//! # Ok(())
//! # }
//! ```
//!
//! `sandbar plugin build` makes `greeter.wasm` of it; drop that into the `plugins`
//! folder of a running `sandbar`. The name of the package, its version and its
//! description are what the plugin says of itself.
//!
//! # What a handler takes and returns
//!
//! It takes an [`Event`], a `&Event`, a [`Json<T>`] or several of these, and returns
//! [`Outgoing`], a `Vec`, array or `Option` of it, or `()`, alone or in a `Result`
//! whose error is a [`Failure`] or anything that turns into one. What it returns is
//! published before the event is acknowledged; a failed attempt publishes nothing.
//!
//! Texts and bytes of events are [`Text`] and [`Bytes`]: read as `str` and `[u8]`, and moved
//! from an event into an [`Outgoing`] without a copy.
//!
//! ```
//! # extern crate sandbar_sdk as sandbar;
//! use std::time::Duration;
//! use sandbar::{Event, Failure, Json, ResultExt};
//!
//! #[derive(serde::Deserialize)]
//! struct Payment<'a> {
//!     amount: &'a str, // borrowed from the payload
//! }
//!
//! #[sandbar::handler(
//!     topics = ["payments"],
//!     ordering = "key",
//!     retry(max_attempts = 5, initial_delay = "200ms", max_delay = "30s"),
//! )]
//! fn book(event: &Event, Json(payment): Json<Payment<'_>>) -> Result<(), Failure> {
//!     let amount: u32 = payment.amount.parse().or_reject("bad-amount")?;
//!     match amount {
//!         0 => Err(Failure::skip("nothing to book")),
//!         1..1000 => Ok(()),
//!         _ if event.attempt < 3 => {
//!             Err(Failure::retry("ledger is busy").after(Duration::from_secs(1)))
//!         }
//!         _ => Err(Failure::reject("limit", "more than a single payment may have")),
//!     }
//! }
//!
//! # fn main() {
//! let failure = book(&Event::new("payments"), Json(Payment { amount: "1e3" })).unwrap_err();
//! assert_eq!(failure, Failure::reject("bad-amount", "invalid digit found in string"));
//! # }
//! ```
//!
//! # Everything the attribute knows
//!
//! | key | meaning |
//! |---|---|
//! | `topics = ["a", "b.*"]` | required: what it subscribes to, exact or with `*` |
//! | `publishes = ["c"]` | what it may publish to; the operator can narrow it |
//! | `connection = "kafka"` | the configured connection; without it the default one |
//! | `ordering = "key"` | `key`, `partition` or `none` |
//! | `delivery = "at-least-once"` | `at-least-once` or `exactly-once` |
//! | `concurrency = 8` | attempts that run at once |
//! | `max_in_flight = 1000` | unfinished events per partition |
//! | `start = "earliest"` | `earliest` or `latest`: where a new subscription begins |
//! | `retry(...)` | `max_attempts`, `initial_delay`, `max_delay`, `multiplier`, `jitter`, `max_age`, `through` |
//! | `dead_letter(...)` | `topic`, `dialect`, `on_exhausted`, `on_dead_letter` |
//! | `dedup(window = "24h")` | how long handled events are recognised and passed over |
//! | `breaker(...)` | `failures`, `pause`, `max_pause`: when to pause because nothing works |
//! | `init = path::to::function` | called on each new instance; `fn()` or `fn() -> Result<(), E>` |
//! | `batch` | the function takes `Vec<Event>` and returns one outcome per event |
//! | `config_schema = "schema.json"` | JSON Schema of the configuration; path from the crate's root |
//! | `name`, `version`, `description` | instead of what the package says: a text or a constant |
//! | `crate = path` | where this crate is, if not `::sandbar` |
//!
//! All of it is a suggestion: the operator's configuration wins.
//!
//! # Configuration, log, panics
//!
//! [`config`] reads the plugin's settings, [`context`] facts about the call. The macros
//! of the `log` and `tracing` crates reach the host's log, from level `info` on or
//! from what the setting `log-level` says. A panic fails the attempt and its message
//! and place are logged; the instance is thrown away.
//!
//! # State, publishing at once
//!
//! [`state`] is a durable key-value store of the plugin's own that changes with the
//! acknowledgement of the event, or not at all. [`publisher`] publishes in the middle of
//! a call. Both must be granted: `grants = ["state", "publisher"]`.
//!
//! # What needs a grant
//!
//! [`http`] sends requests to the hosts that the operator allows, [`secrets`] reads what was
//! granted by name, [`metrics`] counts into the runtime's own metrics. A plugin that uses one
//! imports it, and does not load where it is not granted: the error has the line of
//! configuration.
//!
//! # Batches
//!
//! ```
//! # extern crate sandbar_sdk as sandbar;
//! use sandbar::{Event, Failure, Outgoing};
//!
//! #[sandbar::handler(topics = ["readings"], publishes = ["sums"], batch)]
//! fn add(events: Vec<Event>) -> Vec<Result<Outgoing, Failure>> {
//!     events.iter().map(|e| Ok(Outgoing::new("sums").text(e.text()?))).collect()
//! }
//! # fn main() {}
//! ```
#![warn(missing_docs)]

mod bytes;
pub mod config;
pub mod context;
mod event;
mod extract;
mod failure;
pub mod http;
mod json_path;
pub mod metrics;
mod outcome;
mod outgoing;
#[cfg(any(target_arch = "wasm32", test))]
mod packed;
mod platform;
#[allow(missing_docs, reason = "for the attribute only")]
mod plugin;
pub mod publisher;
pub mod secrets;
pub mod state;
#[cfg(not(target_arch = "wasm32"))]
pub mod testing;

pub use bytes::{Bytes, Text};
pub use event::{Event, Header};
pub use extract::{FromEvent, Json};
pub use failure::{Failure, ResultExt};
pub use log;
pub use outcome::{IntoOutcome, IntoOutputs, Outcome};
pub use outgoing::Outgoing;
pub use sandbar_sdk_macros::handler;
#[cfg(feature = "tracing")]
pub use tracing;

/// What the attribute's code names. Not for use by hand; may change at any time.
#[doc(hidden)]
pub mod __private {
    #[cfg(target_arch = "wasm32")]
    pub use crate::platform::{Export, PackedEach, PackedWhole, base, batch, packed, single};
    pub use crate::plugin::{Batch, Description, IntoInit, Plugin, Single, check};
}
