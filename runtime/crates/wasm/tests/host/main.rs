//! The host against real components: the plain, odd and hostile guest programs of
//! `tests/programs`, the modules there as they are and the rest as built by `make guests`,
//! called through their portable exports. `tests/packed` runs most of these tests through
//! packed frames.

/// Whether programs are called through packed frames.
const PACKED: bool = false;

mod batches;
mod beside;
mod cache;
mod chaos;
mod compatibility;
mod concurrent;
mod foreign;
mod grants;
mod hostile;
mod http;
mod instances;
mod kept;
mod limits;
mod load_errors;
mod modules;
mod programs;
mod publisher;
mod reload;
mod server;
mod state;
mod support;
mod tells;
