//! Sandbar runs event handlers as sandboxed WebAssembly plugins on a stream of
//! events. This is the control plane; [`app::App`] puts the parts together.
//!
//! An event's way is not here: it goes from a broker's crate through
//! `sandbar-pipeline` into `sandbar-wasm` and back. Here is what decides *which*
//! ways there are: [`config`] says how, [`watch`] and [`supervisor`] say for which
//! plugin, and the admin listener ([`api`], [`client`]) tells what they do.
#![warn(missing_docs)]

mod admin;
pub mod api;
pub mod app;
pub mod cases;
pub mod client;
pub mod config;
pub mod connections;
pub mod courier;
pub mod event_json;
mod metrics;
pub mod pace;
pub mod plugin_file;
pub mod plugin_state;
pub mod reading;
pub mod redrive;
pub mod route;
pub mod side_store;
pub mod supervisor;
pub mod watch;
