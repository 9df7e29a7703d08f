//! The same program as `chaos` under another version, for reloads.

const VERSION: &str = "2.0.0";

include!("chaos/program.rs");
