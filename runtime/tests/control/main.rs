//! The control plane as an operator sees it: a whole runtime, real files in its
//! plugins folder, and the embedded log.

mod admin;
mod bad_files;
mod delivery;
mod metrics;
mod redrive;
mod reload;
mod routes;
mod secrets;
mod shutdown;
mod support;
