//! The host: one engine, and the way of a file to a serving generation.

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use sandbar_core::HandlerError;
use wasmtime::{Engine, component::Linker};

use crate::{
    Generation, HandlerKind, HostError, HostStats, Inspection, LoadError, LoadSpec, LogSink,
    ManualClock, TracingLog,
    bindings::exports::sandbar::events::{batch_handler, handler, lifecycle, packed_handler},
    cache::Cache,
    capability::{
        self, Grant, Grants,
        http::{Outlet, Resolve, SystemResolver, Way},
        logging::PluginLog,
        secrets::Redactor,
        state::StateAccess,
    },
    describe::{self, describe},
    engine, foreign,
    instance::{Entry, Instance, Stillborn, Template},
    load::{self, Candidate, exports_interface},
    share::Cores,
    state::{Direct, Facts},
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
    /// Instances that may live at once, all plugins together. Each reserves 4 GiB of
    /// address space, not memory.
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

/// Loads plugins. One per process: it holds the engine and its address space.
#[derive(Debug)]
pub struct Host {
    config: HostConfig,
    engine: Engine,
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
        let engine = engine::new(&config)?;
        Ok(Arc::new(Self {
            config,
            engine,
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
    pub async fn inspect(&self, wasm: Bytes) -> Result<Inspection, LoadError> {
        let Candidate { inspection, wants, .. } = self.examine(wasm).await?;
        capability::check("", &wants, &inspection.grants)?;
        Ok(inspection)
    }

    /// Compiles (or takes from the cache), links with what is granted, and tries: a
    /// generation that is returned has described itself and has one warm instance
    /// whose `init` went well. Nothing else is touched, so after an error whatever
    /// served before goes on serving (contract H3).
    ///
    /// # Errors
    /// [`LoadError`], which says what is wrong, where, and what to do.
    pub async fn load(
        self: &Arc<Self>,
        wasm: Bytes,
        spec: LoadSpec,
    ) -> Result<Arc<Generation>, LoadError> {
        if spec.limits.memory > self.config.max_memory {
            let (asked, max) = (spec.limits.memory, self.config.max_memory);
            return Err(LoadError::MemoryLimit { asked, max });
        }
        let mut candidate = self.examine(wasm).await?;
        let Inspection { handler, imports, exports, .. } = &mut candidate.inspection;
        *handler = load::handler_kind(imports, exports, spec.packed_frames)?;
        let grants = spec.granted();
        capability::check(&spec.name, &candidate.wants, &grants)?;
        let LoadSpec { concurrency, isolation, .. } = spec;
        let template = Arc::new(self.link(&candidate, spec, grants)?);
        let redactor = Arc::clone(&template.facts.redactor);
        let first = Instance::new(Arc::clone(&template)).await.map_err(|e| smoke(e, &redactor))?;
        let inspection = candidate.inspection;
        Ok(Arc::new(Generation::new(template, concurrency, isolation, first, inspection)))
    }

    async fn examine(&self, wasm: Bytes) -> Result<Candidate, LoadError> {
        let (engine, cache) = (self.engine.clone(), self.cache.clone());
        let max_size = self.config.max_file_size;
        let examine = move || load::examine(&engine, cache.as_deref(), &wasm, max_size);
        let mut candidate = tokio::task::spawn_blocking(examine)
            .await
            .map_err(|e| LoadError::Host(format!("compiling was cut off: {e}")))??;
        if exports_interface(&candidate.inspection.exports, describe::PLUGIN) {
            let said = describe(&self.engine, &candidate.component, self.config.tick).await?;
            candidate.inspection.description = Some(said);
        }
        Ok(candidate)
    }

    fn link(
        &self,
        candidate: &Candidate,
        spec: LoadSpec,
        grants: Grants,
    ) -> Result<Template, LoadError> {
        let misfit = |e: wasmtime::Error| LoadError::Incompatible { reason: format!("{e:#}") };
        let mut linker = Linker::new(&self.engine);
        capability::link(&mut linker, &grants).map_err(|e| LoadError::Host(format!("{e:#}")))?;
        let pre = linker.instantiate_pre(&candidate.component).map_err(misfit)?;
        let entry = match candidate.inspection.handler {
            HandlerKind::Each => Entry::Each(handler::GuestIndices::new(&pre).map_err(misfit)?),
            HandlerKind::Batch => {
                Entry::Batch(batch_handler::GuestIndices::new(&pre).map_err(misfit)?)
            }
            HandlerKind::Foreign(it) => {
                Entry::Foreign(foreign::Indices::new(it, &pre).map_err(misfit)?)
            }
            HandlerKind::Packed => {
                Entry::Packed(packed_handler::GuestIndices::new(&pre).map_err(misfit)?)
            }
        };
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
            (Some(fake), _) => Some(Way::Fake(fake)),
            (None, Some(access)) => {
                Some(Way::Network(Outlet::new(access, resolver(), Arc::clone(&log))?))
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
