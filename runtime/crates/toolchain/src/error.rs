//! Why a plugin cannot be built or begun.

use std::{io, path::PathBuf, process::ExitStatus};

use crate::{ComponentError, Language, rust::TARGET};

/// Why a build failed.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// Nothing in the folder shows what it is written in.
    #[error(
        "{} is no plugin's folder: it has no Cargo.toml, go.mod, package.json, pyproject.toml, *.py or *.c; \
         `sandbar plugin new --lang LANGUAGE NAME` begins one",
        dir.display()
    )]
    NoLanguage {
        /// The folder.
        dir: PathBuf,
    },
    /// A program that the build needs.
    #[error("{tool} was not found: {advice}")]
    ToolMissing {
        /// What was to be run.
        tool: String,
        /// What to install or to set.
        advice: String,
    },
    /// A program ran and failed; its own messages went to standard error.
    #[error("{tool} could not build {what} ({status}): its messages are above")]
    ToolFailed {
        /// What was run.
        tool: String,
        /// What it was run for.
        what: String,
        /// How it ended.
        status: ExitStatus,
    },
    /// The compiler has no standard library for [`TARGET`].
    #[error(
        "the Rust target {TARGET} is not installed for {rustc}: run `rustup target add {TARGET}`, \
         or in sandbar's own repository `eval \"$(scripts/wasm-rust.sh)\"`"
    )]
    TargetMissing {
        /// The compiler that was asked.
        rustc: String,
    },
    /// Everything compiled, but no plugin came of it.
    #[error(
        "{what} has no cdylib: add `[lib] crate-type = [\"cdylib\", \"rlib\"]` to its Cargo.toml \
         (for an example: `[[example]] crate-type = [\"cdylib\"]`)"
    )]
    NoCdylib {
        /// What was built.
        what: String,
    },
    /// Cargo's options for something that cargo does not build.
    #[error("packages, features and examples are Rust's: the plugin in {} is {language}", dir.display())]
    OnlyRust {
        /// The folder.
        dir: PathBuf,
        /// What it is written in.
        language: Language,
    },
    /// The module is no plugin.
    #[error("{}: {source}", path.display())]
    Component {
        /// The core module.
        path: PathBuf,
        /// What is wrong with it.
        source: ComponentError,
    },
    /// A name that no plugin can have.
    #[error(
        "{name:?} cannot be a plugin's name: use lower-case letters, digits and `-`, a letter first"
    )]
    BadName {
        /// The name.
        name: String,
    },
    /// There is something already where a new plugin was to be.
    #[error("{} is there already and not empty: choose another name or folder", path.display())]
    Occupied {
        /// The folder.
        path: PathBuf,
    },
    /// A file could not be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

impl BuildError {
    /// For `map_err`: names the file.
    pub(crate) fn at(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }
}
