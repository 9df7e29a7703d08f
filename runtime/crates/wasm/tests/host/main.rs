//! The host against real components: plain, odd and hostile guest programs built
//! from `tests/programs` by `make guests`.

mod batches;
mod cache;
mod chaos;
mod grants;
mod instances;
mod limits;
mod load_errors;
mod programs;
mod publisher;
mod reload;
mod state;
mod support;
