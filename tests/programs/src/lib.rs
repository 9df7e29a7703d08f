//! Guest programs for tests: each file in `examples/` is one, written directly
//! against the WIT so that it can do what an SDK would not let it, and each file in
//! `modules/` is one that no compiler would make, a core module in the text format.
//!
//! `make guests` builds the examples into `guests/program-NAME.wasm`; tests encode the
//! modules themselves. Each is proven by one test that bears its name, in
//! `runtime/crates/wasm/tests/host`, and all are run beside a neighbour by `contained.rs`.
