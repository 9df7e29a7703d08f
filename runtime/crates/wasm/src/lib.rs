//! Runs plugins: WebAssembly components of `sandbar:events`, sandboxed by
//! wasmtime. The crate knows no topics and no brokers; no wasmtime type leaves it.
//!
//! A plugin's life: [`Host::load`] turns a file into a [`Generation`] (compiled,
//! linked with the granted capabilities only, described, and tried once), a
//! [`HandlerSlot`] holds the generation that is serving, and the slot's
//! [`Handler::handle`](sandbar_core::Handler) runs events on warm instances under
//! [`Limits`]. What goes wrong is told apart: a [`LoadError`] before the plugin
//! serves, a [`HandlerError`](sandbar_core::HandlerError) per event after that.
//!
//! ```no_run
//! # async fn example(wasm: bytes::Bytes) -> Result<(), Box<dyn std::error::Error>> {
//! use sandbar_wasm::{HandlerSlot, Host, HostConfig, LoadSpec};
//!
//! let host = Host::new(HostConfig::default())?;
//! let generation = host.load(wasm, LoadSpec::new("router")).await?;
//! let slot = HandlerSlot::new(generation);
//! # Ok(())
//! # }
//! ```
#![warn(missing_docs)]

mod bindings;
mod cache;
mod capability;
mod clock;
mod concurrent;
mod convert;
mod deadline;
mod describe;
mod engine;
mod error;
mod failure;
mod foreign;
mod generation;
mod host;
mod http_metrics;
mod instance;
mod limits;
mod load;
mod pace;
mod packed;
mod pool;
mod share;
mod slot;
mod state;
mod stats;
mod user_metrics;
mod world;

pub use capability::{
    Grant, UnknownGrant,
    http::{
        HttpRequest, HttpResponse, Resolve, Respond, SystemResolver,
        access::{AllowedHost, BadHost, BadInjection, HostPattern, HttpAccess, Injection},
        address::{AddressRange, BadAddress},
    },
    logging::{LogLevel, LogLine, LogSink, TracingLog},
    secrets::{SecretValue, Secrets},
    state::StateSource,
};
pub use clock::ManualClock;
pub use concurrent::Concurrent;
pub use describe::{DeclaredSubscription, Description};
pub use error::{HostError, LoadError};
pub use foreign::{Foreign, ForeignError, OnError, OnErrors};
pub use generation::Generation;
pub use host::{Host, HostConfig};
pub use limits::Limits;
pub use load::{Examined, HandlerKind, Inspection, Isolation, LoadSpec};
pub use slot::HandlerSlot;
pub use stats::{HostStats, PluginStats};
