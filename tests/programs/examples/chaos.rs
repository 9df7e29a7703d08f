//! Does to each event what its payload asks for, and says when it did: the plugin under
//! the fault harness (`tests/chaos`).

const VERSION: &str = "1.0.0";

include!("chaos/program.rs");
