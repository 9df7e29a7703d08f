//! Begins plugins and builds them from source, each language by its own toolchain, into one
//! component per plugin.
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
//! The whole interface is [`build`] with its [`BuildRequest`], [`begin`] for a new plugin's
//! folder, and [`componentize`] for a core module that something else has built. What is
//! particular to a language is in the file of its name.
#![warn(missing_docs)]

mod begin;
mod build;
mod c;
mod component;
mod error;
mod go;
mod javascript;
mod language;
mod preview1;
mod python;
mod rust;
mod tools;
mod wit;

pub use begin::{BeginRequest, Begun, begin};
pub use build::{BuildRequest, Built, build};
pub use component::{ComponentError, componentize};
pub use error::BuildError;
pub use language::{Language, UnknownLanguage};
pub use rust::TARGET;
