//! Guest programs for tests: each file in `examples/` is one, written directly
//! against the WIT so that it can do what an SDK would not let it.
//!
//! `make guests` builds them all into `guests/program-NAME.wasm`. Each is proven by
//! one test that bears its name, in `runtime/crates/wasm/tests`.
