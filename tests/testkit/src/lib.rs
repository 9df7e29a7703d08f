//! What end-to-end tests and the demo share: a `sandbar run` process in a folder
//! of its own, the built guest components, and waiting for conditions; and the
//! [conformance suite](conformance) of the brokers' adapters.

pub mod conformance;
mod process;
mod wait;

use std::path::PathBuf;

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

/// Address of a real Apache Kafka, or `None` with a line that names what is missing.
///
/// # Panics
/// In CI, where no broker may be missing.
pub fn kafka() -> Option<String> {
    let found = std::env::var("SANDBAR_KAFKA").ok().filter(|v| !v.is_empty());
    if found.is_none() {
        let message =
            "MISSING BROKER: Apache Kafka (set SANDBAR_KAFKA=host:port, or run `make test`)";
        assert!(std::env::var_os("CI").is_none(), "{message}");
        println!("{message}");
    }
    found
}
