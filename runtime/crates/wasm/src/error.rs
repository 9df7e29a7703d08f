//! Why the host cannot start, and why a plugin does not load.

use std::path::PathBuf;

use sandbar_core::ErrorClass;

use crate::capability::Grant;

/// Why the host cannot start.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// The engine refuses its configuration, or the system its address space.
    #[error("the WebAssembly engine cannot start: {0}")]
    Engine(String),
    /// The folder for compiled plugins cannot be used.
    #[error("cannot keep compiled plugins in {}: {reason}", path.display())]
    Cache {
        /// The folder.
        path: PathBuf,
        /// What is wrong with it, and what to do.
        reason: String,
    },
}

/// Why a file does not become a plugin. Each message says what is wrong, where,
/// and what to do; the caller adds the name of the file.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LoadError {
    /// Nothing in it.
    #[error("the file is empty: write it under another name and rename it when it is complete")]
    Empty,
    /// It ends in the middle of something.
    #[error(
        "the file is cut short: it ends at byte {size}, inside what begins at byte {offset}; \
         write it under another name and rename it when it is complete"
    )]
    Truncated {
        /// Bytes there are.
        size: usize,
        /// Where the unfinished part begins.
        offset: usize,
    },
    /// Something else altogether.
    #[error(
        "the file is no WebAssembly: it begins with {begins}, a component begins with \"\\0asm\"; \
         build it with `sandbar plugin build`"
    )]
    NotWasm {
        /// The first bytes, quoted.
        begins: String,
    },
    /// A core module.
    #[error(
        "the file is a core WebAssembly module, not a component: build it with \
         `sandbar plugin build`, or encode it with `wasm-tools component new`"
    )]
    CoreModule,
    /// A component that does not validate or compile.
    #[error("the component is not valid: {reason}; build it anew with a current toolchain")]
    Invalid {
        /// What the validator says, with the offset.
        reason: String,
    },
    /// More bytes than the host takes.
    #[error(
        "the file has {size} bytes, more than the {max} that the host takes: build it in release \
         mode and strip it"
    )]
    TooLarge {
        /// Bytes it has.
        size: usize,
        /// Bytes it may have.
        max: usize,
    },
    /// No entry point.
    #[error(
        "the component exports no handler: it must export sandbar:events/handler@0.1.0, \
         sandbar:events/batch-handler@0.1.0 or sandbar:events-async/handler@0.1.0 (or \
         wasi:messaging/incoming-handler@0.2.0-draft, wasmcloud:messaging/handler@0.2.0 or \
         @0.3.0), but exports {}",
        list_or(exports, "nothing")
    )]
    NoHandler {
        /// What it exports instead.
        exports: Vec<String>,
    },
    /// Made for another version of the contract between host and plugin.
    #[error(
        "built for {package} {built_for}, this host serves {serves} (seen at {interface}): rebuild \
         the plugin or {}",
        if *newer { "upgrade the host" } else { "run it on an older host" }
    )]
    WrongVersion {
        /// Package of the interface.
        package: String,
        /// The import or export that shows it.
        interface: String,
        /// Version of the plugin, `major.minor`.
        built_for: String,
        /// Version of this host, `major.minor`.
        serves: String,
        /// Whether the plugin's is the later one.
        newer: bool,
    },
    /// It imports what it was not granted (contract S3).
    #[error("not granted: {}; to allow it write `{line}` in {plugin}.toml", wants(missing))]
    MissingGrants {
        /// Plugin name.
        plugin: String,
        /// Imported interface and the grant that would link it.
        missing: Vec<(String, Grant)>,
        /// The line of configuration.
        line: String,
    },
    /// It imports what no grant can give.
    #[error(
        "imports {}, which this host does not offer: build the plugin without it",
        imports.join(", ")
    )]
    UnknownImport {
        /// The imports, as the component names them.
        imports: Vec<String>,
    },
    /// It handles many events at a time and imports what belongs to one.
    #[error(
        "imports {}, which is not offered to a plugin that handles many events at a time, because \
         it would not be certain for which of them it does what: build it without, or export \
         sandbar:events/handler@0.1.1 instead",
        imports.join(", ")
    )]
    OneAtATime {
        /// The imports, as the component names them.
        imports: Vec<String>,
    },
    /// Names fit, types do not.
    #[error("does not fit this host: {reason}; rebuild it against sandbar:events 0.1")]
    Incompatible {
        /// What the linker says.
        reason: String,
    },
    /// `describe` did not return.
    #[error(
        "describe failed ({class}): {message}; it must return constants, no capability is there \
         while it runs"
    )]
    Describe {
        /// Kind of failure.
        class: ErrorClass,
        /// What happened.
        message: String,
    },
    /// `describe` returned something that cannot be true.
    #[error("describe returned a bad {field}: {reason}")]
    Description {
        /// Where in the metadata.
        field: String,
        /// What is wrong with it.
        reason: String,
    },
    /// No instance could be made of it.
    #[error("cannot make an instance ({class}): {message}")]
    Instantiate {
        /// Kind of failure.
        class: ErrorClass,
        /// What happened.
        message: String,
    },
    /// `lifecycle.init` returned an error or did not return.
    #[error("init failed ({class}): {message}")]
    Init {
        /// Kind of failure; `handler` when it returned an error.
        class: ErrorClass,
        /// What happened.
        message: String,
    },
    /// A limit that the host cannot give.
    #[error(
        "limits.memory is {asked} bytes, the host gives at most {max}: lower it, or raise the \
         host's `max_memory`"
    )]
    MemoryLimit {
        /// Bytes asked for.
        asked: usize,
        /// Bytes the host can give.
        max: usize,
    },
    /// `http.tls-ca` is of no use.
    #[error("the certificates of http.tls-ca cannot be used: {reason}; it must be a PEM file")]
    HttpCertificates {
        /// What is wrong.
        reason: String,
    },
    /// The host failed, not the plugin.
    #[error("the host failed while loading: {0}")]
    Host(String),
}

fn list_or(names: &[String], none: &str) -> String {
    if names.is_empty() { none.to_owned() } else { names.join(", ") }
}

fn wants(missing: &[(String, Grant)]) -> String {
    let want = |(interface, grant): &(String, Grant)| format!("{interface} (needs \"{grant}\")");
    missing.iter().map(want).collect::<Vec<_>>().join(", ")
}
