//! The host against real components: the plain, odd and hostile guest programs of
//! `tests/programs`, the modules there as they are and the rest as built by `make guests`.

mod batches;
mod cache;
mod chaos;
mod compatibility;
mod foreign;
mod grants;
mod hostile;
mod http;
mod instances;
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
