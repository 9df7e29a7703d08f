//! What end-to-end tests and the demo share: a `sandbar run` process in a folder
//! of its own, the built guest components, and waiting for conditions; [real brokers](server);
//! and the [conformance suite](conformance) of the brokers' adapters.

mod authority;
pub mod conformance;
mod process;
pub mod server;
mod wait;

use std::path::PathBuf;

pub use authority::Authority;
pub use process::Runtime;
pub use wait::{eventually, eventually_within};

/// Root of the repository.
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("repository root")
}

/// The built component `NAME.wasm`.
///
/// # Panics
/// When the guests were not built.
pub fn guest(name: &str) -> PathBuf {
    let folder =
        std::env::var_os("SANDBAR_GUESTS").map_or_else(|| root().join("guests"), Into::into);
    let file = folder.join(format!("{name}.wasm"));
    assert!(file.is_file(), "{} is missing: run `make guests`", file.display());
    file
}
