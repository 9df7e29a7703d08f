//! Builds plugins from source: cargo makes core modules for
//! `wasm32-unknown-unknown`, wit-component turns each into a component.
//!
//! ```no_run
//! use sandbar_toolchain::{BuildRequest, build};
//!
//! let built = build(&BuildRequest::new("my-plugin", "plugins"))?;
//! for plugin in built {
//!     println!("{} -> {} ({} bytes)", plugin.name, plugin.path.display(), plugin.size);
//! }
//! # Ok::<(), sandbar_toolchain::BuildError>(())
//! ```
//!
//! The whole interface is [`build`] with its [`BuildRequest`], and [`componentize`]
//! for a core module that something else has built.
#![warn(missing_docs)]

mod build;
mod component;

pub use build::{BuildError, BuildRequest, Built, TARGET, build};
pub use component::{ComponentError, componentize};
