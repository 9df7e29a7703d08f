//! From bytes to a component that can be linked: what a file is and what it wants.

use std::{
    collections::BTreeMap,
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use sandbar_core::Publisher;
use serde::Serialize;
use wasmparser::{Encoding, Parser, Payload};
use wasmtime::{
    Engine,
    component::{Component, types::ComponentItem},
};

use crate::{
    Concurrent, Description, Foreign, Limits, LoadError, OnErrors,
    cache::{self, Cache},
    capability::{
        self, AtATime, Grant, Grants,
        http::{Respond, access::HttpAccess},
        secrets::Secrets,
        state::StateSource,
    },
};

const HANDLER: &str = "sandbar:events/handler";
const BATCH_HANDLER: &str = "sandbar:events/batch-handler";
const PACKED_HANDLER: &str = "sandbar:events/packed-handler";
/// The version of `sandbar:events` that is served.
const SERVES: &str = "0.1";

/// How a plugin is to be loaded.
#[derive(Clone)]
pub struct LoadSpec {
    /// Plugin name: label of its metrics and logs.
    pub name: String,
    /// Name of the connection that its events come from.
    pub connection: String,
    /// What it may use.
    pub limits: Limits,
    /// What it may reach. `secrets` and `http` come with what is set for them, too.
    pub grants: Grants,
    /// Secrets that it may read.
    pub secrets: Secrets,
    /// Where it may send requests.
    pub http: Option<HttpAccess>,
    /// Who answers its requests instead of the network, in tests.
    pub fake_http: Option<Arc<dyn Respond>>,
    /// Its own configuration.
    pub config: BTreeMap<String, String>,
    /// Instances used at once; or events in one instance, where the plugin takes many.
    pub concurrency: usize,
    /// What follows the errors of a component that was built for other hosts.
    pub on_errors: OnErrors,
    /// How long an instance lives.
    pub isolation: Isolation,
    /// Whether packed frames are used where the plugin takes them; else it is called as one
    /// that does not.
    pub packed_frames: bool,
    /// Where it keeps its state, should it be granted that.
    pub state: Option<StateSource>,
    /// By whom it publishes in the middle of a call, should it be granted that.
    pub publisher: Option<Arc<dyn Publisher>>,
}

/// How long an instance of a plugin lives: what events can leave behind for later ones.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Isolation {
    /// For many events, until it traps, hits a limit, or has served
    /// [`Limits::instance_events`].
    #[default]
    Warm,
    /// For the events that are handed over together.
    PerBatch,
    /// For one attempt at one event.
    PerEvent,
}

impl fmt::Debug for LoadSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoadSpec")
            .field("name", &self.name)
            .field("limits", &self.limits)
            .field("grants", &self.grants)
            .finish_non_exhaustive()
    }
}

impl LoadSpec {
    /// Default limits, no grants, no configuration, one instance.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            connection: "log".into(),
            limits: Limits::default(),
            grants: Grants::new(),
            secrets: Secrets::new(),
            http: None,
            fake_http: None,
            config: BTreeMap::new(),
            concurrency: 1,
            state: None,
            publisher: None,
            on_errors: OnErrors::new(),
            isolation: Isolation::Warm,
            packed_frames: true,
        }
    }
}

impl LoadSpec {
    /// All that it may reach.
    pub(crate) fn granted(&self) -> Grants {
        let mut grants = self.grants.clone();
        if !self.secrets.is_empty() {
            grants.insert(Grant::Secrets);
        }
        if self.http.is_some() {
            grants.insert(Grant::Http);
        }
        grants
    }
}

/// How events get into a plugin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum HandlerKind {
    /// `handler`: one by one.
    Each,
    /// `batch-handler`: many at a time.
    Batch,
    /// `packed-handler`: many at a time, in one list of bytes.
    Packed,
    /// An interface of others: one by one.
    #[serde(untagged)]
    Foreign(Foreign),
    /// One whose function is asynchronous, our own or that of others: many at a time in one
    /// instance, each by itself.
    #[serde(untagged)]
    Concurrent(Concurrent),
}

impl HandlerKind {
    pub(crate) fn at_a_time(self) -> AtATime {
        match self {
            Self::Concurrent(_) => AtATime::Many,
            Self::Each | Self::Batch | Self::Packed | Self::Foreign(_) => AtATime::One,
        }
    }
}

/// What is known of a plugin file without granting it anything.
#[derive(Debug, Clone, Serialize)]
pub struct Inspection {
    /// BLAKE3 digest of the file, lower-case hex.
    pub digest: String,
    /// Bytes of the file.
    pub size: usize,
    /// Version of `sandbar:events` that it is served with, or package and version of the
    /// interface of others that it was built for.
    pub api: &'static str,
    /// How events get in.
    pub handler: HandlerKind,
    /// Interfaces it imports.
    pub imports: Vec<String>,
    /// Interfaces it exports.
    pub exports: Vec<String>,
    /// Grants that it needs for what it imports.
    pub grants: Grants,
    /// What it says of itself, where it does.
    pub description: Option<Description>,
    /// Time it took to compile it, or to read it from the cache; milliseconds when
    /// serialised.
    #[serde(rename = "compile_ms", serialize_with = "milliseconds")]
    pub compile_time: Duration,
    /// Whether it was read from the cache.
    pub cached: bool,
}

fn milliseconds<S: serde::Serializer>(time: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_f64(time.as_secs_f64() * 1000.0)
}

/// A plugin file that was compiled, and asked what it is. It can be loaded any number of times.
#[derive(Clone)]
pub struct Examined {
    pub(crate) component: Component,
    /// Imports that are more than names of types, which alone give nothing.
    pub(crate) wants: Vec<String>,
    pub(crate) inspection: Inspection,
}

impl Examined {
    /// What is known of it.
    pub fn inspection(&self) -> &Inspection {
        &self.inspection
    }
}

impl fmt::Debug for Examined {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Examined").field("inspection", &self.inspection).finish_non_exhaustive()
    }
}

/// What a file is that could be a plugin's: whether it takes many events at a time.
pub(crate) fn classify(wasm: &[u8], max_size: usize) -> Result<AtATime, LoadError> {
    if wasm.len() > max_size {
        return Err(LoadError::TooLarge { size: wasm.len(), max: max_size });
    }
    parse(wasm)
}

/// Compiles a file that was [classified](classify), and looks through it. Takes seconds for a
/// large one: not to be called on a worker.
pub(crate) fn examine(
    engine: &Engine,
    cache: Option<&Cache>,
    wasm: &[u8],
) -> Result<Examined, LoadError> {
    let digest = blake3::hash(wasm);
    let began = Instant::now();
    let (component, cached) = compile(engine, cache, wasm, &digest)?;
    let compile_time = began.elapsed();

    let kind = component.component_type();
    let imports: Vec<_> = kind.imports(engine).map(|(name, _)| name.to_owned()).collect();
    let wants: Vec<_> = kind
        .imports(engine)
        .filter(|(_, import)| !is_only_types(engine, &import.ty))
        .map(|(name, _)| name.to_owned())
        .collect();
    let exports: Vec<_> = kind.exports(engine).map(|(name, _)| name.to_owned()).collect();
    let handler = handler_kind(&imports, &exports, true)?;
    let inspection = Inspection {
        digest: digest.to_hex().to_string(),
        size: wasm.len(),
        api: api(handler),
        handler,
        grants: capability::needed(wants.iter().map(String::as_str), handler.at_a_time()),
        imports,
        exports,
        description: None,
        compile_time,
        cached,
    };
    Ok(Examined { component, wants, inspection })
}

/// Whether an import is there for names of types only, such as the clock's `duration`
/// that `wasi:http/types` mentions.
fn is_only_types(engine: &Engine, import: &ComponentItem) -> bool {
    match import {
        ComponentItem::ComponentInstance(instance) => {
            let mut exports = instance.exports(engine).peekable();
            exports.peek().is_some()
                && exports.all(|(_, export)| matches!(export.ty, ComponentItem::Type(_)))
        }
        _ => false,
    }
}

/// Tells apart what people put into a plugins folder by mistake.
fn parse(wasm: &[u8]) -> Result<AtATime, LoadError> {
    const MAGIC: &[u8] = b"\0asm";
    if wasm.is_empty() {
        return Err(LoadError::Empty);
    }
    if !wasm.starts_with(&MAGIC[..wasm.len().min(MAGIC.len())]) {
        let begins = wasm[..wasm.len().min(8)].escape_ascii();
        return Err(LoadError::NotWasm { begins: format!("\"{begins}\"") });
    }
    let (mut depth, mut events) = (0, AtATime::One);
    for payload in Parser::new(0).parse_all(wasm) {
        match &payload {
            Ok(Payload::Version { .. }) => depth += 1,
            Ok(Payload::End(_)) => depth -= 1,
            Ok(Payload::ComponentExportSection(exports)) if depth == 1 => {
                let mut names = exports.clone().into_iter().flatten().map(|export| export.name);
                if names.any(|name| Concurrent::shows_in(name.name)) {
                    events = AtATime::Many;
                }
            }
            _ => {}
        }
        match payload {
            Ok(Payload::Version { encoding: Encoding::Module, range, .. }) if range.start == 0 => {
                return Err(LoadError::CoreModule);
            }
            Ok(_) => {}
            Err(e) if e.message().starts_with("unexpected end") => {
                let offset = usize::try_from(e.offset()).unwrap_or(wasm.len());
                return Err(LoadError::Truncated { size: wasm.len(), offset });
            }
            Err(e) => return Err(LoadError::Invalid { reason: e.to_string() }),
        }
    }
    Ok(events)
}

fn compile(
    engine: &Engine,
    cache: Option<&Cache>,
    wasm: &[u8],
    digest: &blake3::Hash,
) -> Result<(Component, bool), LoadError> {
    let invalid = |e: wasmtime::Error| LoadError::Invalid { reason: format!("{e:#}") };
    let Some(cache) = cache else {
        return Component::from_binary(engine, wasm).map(|it| (it, false)).map_err(invalid);
    };
    let key = cache::key(engine, digest);
    if let Some(component) = cache.get(engine, &key) {
        return Ok((component, true));
    }
    let compiling = cache.compiling.lock();
    // another one may have been at the same file
    if let Some(component) = cache.get(engine, &key) {
        return Ok((component, true));
    }
    let artifact = engine.precompile_component(wasm).map_err(invalid)?;
    if let Err(error) = cache.put(&key, &artifact) {
        tracing::warn!(%error, "cannot keep a compiled plugin, the next start compiles it again");
    }
    drop((artifact, compiling));
    // from the file where it was kept: mapped memory is shared and can be dropped
    match cache.get(engine, &key) {
        Some(component) => Ok((component, false)),
        None => Component::from_binary(engine, wasm).map(|it| (it, false)).map_err(invalid),
    }
}

/// The version of its interface that a plugin is served with.
fn api(handler: HandlerKind) -> &'static str {
    match handler {
        HandlerKind::Each | HandlerKind::Batch | HandlerKind::Packed => SERVES,
        HandlerKind::Foreign(foreign) => foreign.api(),
        HandlerKind::Concurrent(concurrent) => concurrent.api(),
    }
}

/// There are no optional exports: what is there decides.
pub(crate) fn handler_kind(
    imports: &[String],
    exports: &[String],
    packed_frames: bool,
) -> Result<HandlerKind, LoadError> {
    if let Some(concurrent) = Concurrent::among(exports) {
        return Ok(HandlerKind::Concurrent(concurrent));
    }
    // the host prefers what is cheapest where a plugin exports several
    if packed_frames && exports_interface(exports, PACKED_HANDLER) {
        return Ok(HandlerKind::Packed);
    }
    if exports_interface(exports, BATCH_HANDLER) {
        return Ok(HandlerKind::Batch);
    }
    if exports_interface(exports, HANDLER) {
        return Ok(HandlerKind::Each);
    }
    if let Some(foreign) = Foreign::among(exports) {
        return Ok(HandlerKind::Foreign(foreign));
    }
    match exports.iter().chain(imports).find_map(|name| capability::wrong_version(name)) {
        Some(wrong) => Err(wrong),
        None => Err(LoadError::NoHandler { exports: exports.to_vec() }),
    }
}

/// Whether `interface` of a version that is served is among the exports.
pub(crate) fn exports_interface(exports: &[String], interface: &str) -> bool {
    exports.iter().any(|export| {
        export.split_once('@').is_some_and(|(name, _)| name == interface)
            && capability::wrong_version(export).is_none()
    })
}
