//! The same plugin in every language.

pub mod cost;

use std::path::PathBuf;

use sandbar_test::{Builder, TestHost, guest};

/// Languages beside Rust, as `sandbar plugin new --lang` names them.
pub const OTHERS: [&str; 5] = ["js", "ts", "python", "go", "c"];

/// Real webhooks, one a line.
pub const WEBHOOKS: &str = include_str!("../../../examples/data/github-webhooks.ndjson");

/// The plugin `NAME-LANGUAGE` as `scripts/build-languages.sh` has built it; `None`, with a line that says
/// so, where the language's toolchain is missing.
///
/// # Panics
/// In CI, where no language may be missing.
pub fn built(name: &str, language: &str) -> Option<PathBuf> {
    let found = guest(&format!("{name}-{language}")).ok();
    if found.is_none() {
        let message = format!(
            "MISSING LANGUAGE: {language} (scripts/build-languages.sh {language} says what it needs)"
        );
        assert!(std::env::var_os("CI").is_none(), "{message}");
        println!("{message}");
    }
    found
}

/// The plugin as a test loads it; once compiled it is kept beside the guests.
pub fn as_built(file: PathBuf) -> Builder {
    let cache = file.with_file_name(".compiled");
    TestHost::builder(file).cache(cache)
}
