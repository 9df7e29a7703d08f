//! The host: its engines, and the way of a file to a serving generation.

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use sandbar_core::HandlerError;
use wasmtime::component::{InstancePre, Linker};

use crate::{
    Concurrent, Examined, Generation, HandlerKind, HostError, HostStats, Inspection, LoadError,
    LoadSpec, LogSink, ManualClock, TracingLog,
    bindings::exports::sandbar::events::{batch_handler, handler, lifecycle, packed_handler},
    cache::Cache,
    capability::{
        self, Grant, Grants,
        http::{Gateway, Outlet, Resolve, SystemResolver},
        logging::PluginLog,
        secrets::Redactor,
        state::StateAccess,
    },
    concurrent::{self, Handle, Shared},
    describe::{self, describe},
    engine::Engines,
    foreign,
    generation::{Pooled, Way},
    instance::{Entry, Indices, Instance, Stillborn, Template},
    load::{self, exports_interface},
    share::Cores,
    state::{Direct, Facts, State},
};

const LIFECYCLE: &str = "sandbar:events/lifecycle";

/// Settings of a host. All plugins share them.
#[derive(Clone)]
pub struct HostConfig {
    /// Folder for compiled plugins, made if it is not there; must belong to this user
    /// and no one else may write to it. `None`: compile at each load.
    pub cache_dir: Option<PathBuf>,
    /// How often guest code gives way, and the unit in which CPU time is counted.
    pub tick: Duration,
    /// Instances that may live at once, all plugins together; as many again of those with many
    /// events in one, once there are any. Each reserves 4 GiB of address space, not memory.
    pub max_instances: u32,
    /// Most that any plugin's `limits.memory` may be, in bytes.
    pub max_memory: usize,
    /// Largest plugin file, in bytes.
    pub max_file_size: usize,
    /// Where plugins' log lines go.
    pub log: Arc<dyn LogSink>,
    /// Finds the addresses of the hosts that plugins send requests to.
    pub resolver: Arc<dyn Resolve>,
    /// What granted clocks show instead of the system's, for tests; random numbers then
    /// are the same in each instance.
    pub clock: Option<ManualClock>,
}

impl Default for HostConfig {
    fn default() -> Self {
        Self {
            cache_dir: None,
            tick: Duration::from_millis(2),
            max_instances: 1000,
            max_memory: 1 << 30,
            max_file_size: 128 << 20,
            log: Arc::new(TracingLog),
            resolver: Arc::new(SystemResolver),
            clock: None,
        }
    }
}

impl fmt::Debug for HostConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HostConfig")
            .field("cache_dir", &self.cache_dir)
            .field("tick", &self.tick)
            .field("max_instances", &self.max_instances)
            .field("max_memory", &self.max_memory)
            .field("max_file_size", &self.max_file_size)
            .field("clock", &self.clock)
            .finish_non_exhaustive()
    }
}

/// Loads plugins. One per process: it holds the engines and their address space.
#[derive(Debug)]
pub struct Host {
    config: HostConfig,
    engines: Arc<Engines>,
    cache: Option<Arc<Cache>>,
    stats: HostStats,
    cores: Cores,
}

impl Host {
    /// Starts the engine and opens the cache.
    ///
    /// # Errors
    /// [`HostError`] where the system gives no address space, or the cache folder
    /// cannot be used safely.
    pub fn new(config: HostConfig) -> Result<Arc<Self>, HostError> {
        let cache = config.cache_dir.clone().map(Cache::open).transpose()?.map(Arc::new);
        let engines = Arc::new(Engines::new(config.clone())?);
        Ok(Arc::new(Self {
            config,
            engines,
            cache,
            stats: HostStats::default(),
            cores: Cores::default(),
        }))
    }

    /// What the host counts.
    pub fn stats(&self) -> &HostStats {
        &self.stats
    }

    /// Looks at a plugin without granting it anything: what it is, what it imports,
    /// which grants that takes, and what it says of itself.
    ///
    /// # Errors
    /// [`LoadError`] for a file that could not be loaded with any grants.
    pub async fn examine(&self, wasm: Bytes) -> Result<Examined, LoadError> {
        let examined = self.compile(wasm).await?;
        let Examined { wants, inspection, .. } = &examined;
        capability::check("", wants, &inspection.grants, inspection.handler.at_a_time())?;
        Ok(examined)
    }

    /// What is known of a plugin that is not to be loaded: as [`examine`](Self::examine).
    ///
    /// # Errors
    /// [`LoadError`] for a file that could not be loaded with any grants.
    pub async fn inspect(&self, wasm: Bytes) -> Result<Inspection, LoadError> {
        Ok(self.examine(wasm).await?.inspection)
    }

    /// Compiles (or takes from the cache), and [loads](Self::load_examined).
    ///
    /// # Errors
    /// [`LoadError`], which says what is wrong, where, and what to do.
    pub async fn load(&self, wasm: Bytes, spec: LoadSpec) -> Result<Arc<Generation>, LoadError> {
        let examined = self.compile(wasm).await?;
        self.load_examined(examined, spec).await
    }

    /// Links with what is granted, and tries: a generation that is returned has described
    /// itself and has one warm instance whose `init` went well. Nothing else is touched, so
    /// after an error whatever served before goes on serving (contract H3).
    ///
    /// # Errors
    /// [`LoadError`], which says what is wrong, where, and what to do.
    pub async fn load_examined(
        &self,
        mut candidate: Examined,
        spec: LoadSpec,
    ) -> Result<Arc<Generation>, LoadError> {
        if spec.limits.memory > self.config.max_memory {
            let (asked, max) = (spec.limits.memory, self.config.max_memory);
            return Err(LoadError::MemoryLimit { asked, max });
        }
        let Inspection { handler, imports, exports, .. } = &mut candidate.inspection;
        let kind = load::handler_kind(imports, exports, spec.packed_frames)?;
        *handler = kind;
        let grants = spec.granted();
        capability::check(&spec.name, &candidate.wants, &grants, kind.at_a_time())?;
        let (isolation, made) = (spec.isolation, &candidate);
        let (facts, way) = match kind {
            HandlerKind::Each => {
                let entry = |pre: &_| Ok(Entry::Each(handler::GuestIndices::new(pre)?));
                self.pooled(made, spec, grants, entry).await?
            }
            HandlerKind::Batch => {
                let entry = |pre: &_| Ok(Entry::Batch(batch_handler::GuestIndices::new(pre)?));
                self.pooled(made, spec, grants, entry).await?
            }
            HandlerKind::Packed => {
                let entry = |pre: &_| Ok(Entry::Packed(packed_handler::GuestIndices::new(pre)?));
                self.pooled(made, spec, grants, entry).await?
            }
            HandlerKind::Foreign(it) => {
                let entry = |pre: &_| Ok(Entry::Foreign(foreign::Indices::new(it, pre)?));
                self.pooled(made, spec, grants, entry).await?
            }
            HandlerKind::Concurrent(it) => self.shared(made, spec, grants, it).await?,
        };
        Ok(Arc::new(Generation::new(facts, way, isolation, candidate.inspection)))
    }

    /// One event at a time in each of several instances.
    async fn pooled(
        &self,
        candidate: &Examined,
        spec: LoadSpec,
        grants: Grants,
        entry: impl FnOnce(&InstancePre<State>) -> wasmtime::Result<Indices>,
    ) -> Result<(Arc<Facts>, Way), LoadError> {
        let LoadSpec { concurrency, isolation, .. } = spec;
        let template = Arc::new(self.link(candidate, spec, grants, entry)?);
        let facts = Arc::clone(&template.facts);
        let first = Instance::new(Arc::clone(&template)).await;
        let first = first.map_err(|e| smoke(e, &facts.redactor))?;
        let kind = candidate.inspection.handler;
        Ok((facts, Way::Pooled(Pooled::new(template, kind, concurrency, isolation, first))))
    }

    /// Many events at a time in one instance.
    async fn shared(
        &self,
        candidate: &Examined,
        spec: LoadSpec,
        grants: Grants,
        kind: Concurrent,
    ) -> Result<(Arc<Facts>, Way), LoadError> {
        let LoadSpec { concurrency, isolation, .. } = spec;
        let entry = |pre: &_| concurrent::Indices::new(kind, pre);
        let template = Arc::new(self.link(candidate, spec, grants, entry)?);
        let facts = Arc::clone(&template.facts);
        let first = Handle::new(&template, concurrency.max(1)).await;
        let first = first.map_err(|e| smoke(e, &facts.redactor))?;
        Ok((facts, Way::Shared(Shared::new(template, concurrency, isolation, first))))
    }

    async fn compile(&self, wasm: Bytes) -> Result<Examined, LoadError> {
        let (engines, cache) = (Arc::clone(&self.engines), self.cache.clone());
        let max_size = self.config.max_file_size;
        let examine = move || {
            let events = load::classify(&wasm, max_size)?;
            let engine = engines.of(events).map_err(|e| LoadError::Host(e.to_string()))?;
            load::examine(&engine, cache.as_deref(), &wasm)
        };
        let mut candidate = tokio::task::spawn_blocking(examine)
            .await
            .map_err(|e| LoadError::Host(format!("compiling was cut off: {e}")))??;
        if exports_interface(&candidate.inspection.exports, describe::PLUGIN) {
            let said = describe(&candidate.component, self.config.tick).await?;
            candidate.inspection.description = Some(said);
        }
        Ok(candidate)
    }

    fn link<E>(
        &self,
        candidate: &Examined,
        spec: LoadSpec,
        grants: Grants,
        entry: impl FnOnce(&InstancePre<State>) -> wasmtime::Result<E>,
    ) -> Result<Template<E>, LoadError> {
        let misfit = |e: wasmtime::Error| LoadError::Incompatible { reason: format!("{e:#}") };
        let mut linker = Linker::new(candidate.component.engine());
        capability::link(&mut linker, &grants, candidate.inspection.handler.at_a_time())
            .map_err(|e| LoadError::Host(format!("{e:#}")))?;
        let pre = linker.instantiate_pre(&candidate.component).map_err(misfit)?;
        let entry = entry(&pre).map_err(misfit)?;
        let lifecycle = exports_interface(&candidate.inspection.exports, LIFECYCLE)
            .then(|| lifecycle::GuestIndices::new(&pre).map_err(misfit))
            .transpose()?;
        let stats = self.stats.plugin(&spec.name);
        let lines = spec.limits.log_lines_per_second;
        let injected = spec.http.iter().flat_map(|http| &http.inject).map(|i| &i.secret);
        let redactor = Redactor::new(spec.secrets.values().chain(injected));
        let log = PluginLog::new(
            &spec.name,
            lines,
            Arc::clone(&self.config.log),
            Arc::clone(&stats),
            Arc::clone(&redactor),
        );
        let resolver = || Arc::clone(&self.config.resolver);
        let http = match (spec.fake_http, spec.http) {
            (Some(fake), _) => Some(Gateway::Fake(fake)),
            (None, Some(access)) => {
                Some(Gateway::Network(Outlet::new(access, resolver(), Arc::clone(&log))?))
            }
            (None, None) => None,
        };
        let description = candidate.inspection.description.as_ref();
        let quota = spec.limits.state_quota();
        let (state, publisher) = (spec.state, spec.publisher);
        let uses = |grant| candidate.inspection.grants.contains(&grant);
        let facts = Arc::new(Facts {
            state: state.filter(|_| uses(Grant::State)).map(|source| StateAccess { source, quota }),
            publisher: publisher.filter(|_| uses(Grant::Publisher)).map(Direct),
            limits: spec.limits.clone(),
            version: description.map_or_else(|| "0".into(), |said| said.version.clone()),
            name: spec.name,
            connection: spec.connection,
            config: spec.config,
            grants,
            secrets: spec.secrets,
            redactor,
            http,
            clock: self.config.clock.clone(),
        });
        let tick = self.config.tick;
        let cores = self.cores.clone();
        Ok(Template {
            pre,
            entry,
            on_errors: spec.on_errors,
            lifecycle,
            facts,
            limits: spec.limits,
            log,
            stats,
            tick,
            cores,
        })
    }
}

fn smoke(stillborn: Stillborn, redactor: &Redactor) -> LoadError {
    let clean = |HandlerError { class, message, .. }: HandlerError| {
        (class, redactor.clean(&message).into_owned())
    };
    match stillborn {
        Stillborn::Instantiate(error) => {
            let (class, message) = clean(error);
            LoadError::Instantiate { class, message }
        }
        Stillborn::Init(error) => {
            let (class, message) = clean(error);
            LoadError::Init { class, message }
        }
        Stillborn::Misfit(reason) => LoadError::Incompatible { reason },
    }
}
