//! The host's imports: real ones in a plugin, stand-ins in unit tests.

#[cfg(target_arch = "wasm32")]
mod guest;
#[cfg(not(target_arch = "wasm32"))]
mod host;

#[cfg(target_arch = "wasm32")]
pub use guest::*;
#[cfg(not(target_arch = "wasm32"))]
pub(crate) use host::*;
