//! The engine alone: an event in, what its attempt came to out.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::Result;
use async_trait::async_trait;
use bytes::Bytes;
use sandbar_core::{
    Call, ErrorClass, Event, HandlerError, Outgoing, PublishRefusal, Publisher, Verdict,
    cloudevents,
};
use sandbar_pipeline::{Environment, check_topic, topic_matches};
use sandbar_wasm::{
    Description, Examined, Generation, Grant, Host, HostConfig, LoadError, LoadSpec, ManualClock,
    StateSource,
};

use crate::{LogLine, counted, log::Captured, memory};

/// Each instance reserves address space; a test needs a few.
const INSTANCES: u32 = 64;

/// Settings of a [`Bench`].
#[derive(Debug, Clone, Default)]
pub struct BenchConfig {
    /// Folder that keeps compiled plugins for the next test; only this user may be able to
    /// write to it.
    pub cache: Option<PathBuf>,
    /// What `wasi:clocks` shows, as time since 1970 began (UTC); `None`: the system's. It
    /// stands still until it is moved. Random numbers then repeat with each instance.
    pub time: Option<Duration>,
}

/// The production engine, with a log that is kept and time that can be set.
#[derive(Debug, Clone)]
pub struct Bench {
    host: Arc<Host>,
    lines: Arc<Captured>,
    clock: Option<ManualClock>,
}

impl Bench {
    /// Starts the engine.
    ///
    /// # Errors
    /// Where the system gives it no address space, or the cache cannot be used.
    pub fn new(config: BenchConfig) -> Result<Self> {
        let lines = Arc::new(Captured::default());
        let clock = config.time.map(ManualClock::new);
        let config = HostConfig {
            cache_dir: config.cache,
            max_instances: INSTANCES,
            log: lines.clone(),
            clock: clock.clone(),
            ..HostConfig::default()
        };
        Ok(Self { host: Host::new(config)?, lines, clock })
    }

    /// Compiles a plugin and asks it what it is, without granting it anything.
    ///
    /// # Errors
    /// [`LoadError`] for a file that could not be loaded with any grants.
    pub async fn examine(&self, wasm: Bytes) -> Result<Examined, LoadError> {
        self.host.examine(wasm).await
    }

    /// Links and initialises a plugin, as in production. Where `spec` says nothing of state and
    /// publisher, it remembers in memory, and what it publishes is kept.
    ///
    /// # Errors
    /// [`LoadError`], which says what is wrong, where, and what to do.
    pub async fn load(&self, plugin: Examined, mut spec: LoadSpec) -> Result<Loaded, LoadError> {
        let name = spec.name.clone();
        let published = Arc::new(Published::default());
        if spec.state.is_none() {
            let state = self.state(&name, BTreeMap::new()).await;
            spec.state = Some(state.map_err(|e| LoadError::Host(e.to_string()))?);
        }
        let state = spec.state.clone();
        spec.publisher.get_or_insert_with(|| published.clone());
        let generation = self.host.load_examined(plugin, spec).await?;
        let said = generation.description().map(|d| d.publishes.clone()).unwrap_or_default();
        published.allow(said);
        Ok(Loaded { bench: self.clone(), name, generation, published, state })
    }

    /// State in memory that begins with these keys, for a plugin of this name.
    ///
    /// # Errors
    /// Where the store does not take them.
    pub async fn state(&self, plugin: &str, keys: BTreeMap<String, Bytes>) -> Result<StateSource> {
        memory::store(plugin.to_owned(), self.now_ms(), keys).await
    }

    /// Milliseconds since the Unix epoch, by the clock that plugins read.
    pub(crate) fn now_ms(&self) -> Arc<dyn Fn() -> u64 + Send + Sync> {
        match self.clock.clone() {
            None => Environment::default().wall_ms,
            Some(clock) => {
                Arc::new(move || u64::try_from(clock.now().as_millis()).unwrap_or(u64::MAX))
            }
        }
    }

    /// Sets the clock, where [`BenchConfig::time`] has made one, for the next plugin.
    pub fn set_time(&self, since_epoch: Duration) {
        if let Some(clock) = &self.clock {
            clock.set(since_epoch);
        }
    }

    /// Moves the clock on to `since_epoch`, where there is one; never back.
    pub fn move_to(&self, since_epoch: Duration) {
        if let Some(clock) = &self.clock {
            clock.move_to(since_epoch);
        }
    }

    /// What the host counts and what plugins count by themselves, as the runtime exports it.
    pub fn metrics(&self) -> String {
        self.host.stats().text()
    }

    /// All lines that plugins have logged.
    pub fn log(&self) -> Vec<LogLine> {
        self.lines.lines()
    }
}

/// A plugin on a [`Bench`].
#[derive(Debug)]
pub struct Loaded {
    bench: Bench,
    name: String,
    generation: Arc<Generation>,
    published: Arc<Published>,
    state: Option<StateSource>,
}

/// What one attempt at one event came to.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// What would be published, or why the event was not handled and what would follow.
    pub outcome: Result<Vec<Outgoing>, HandlerError>,
    /// What it published at once, whatever the outcome.
    pub published: Vec<Outgoing>,
    /// What the plugin logged meanwhile.
    pub log: Vec<LogLine>,
    /// What it counted meanwhile: a counter by its name, of a histogram `NAME_count` and
    /// `NAME_sum`, with labels as in `name{label="value"}`.
    pub metrics: BTreeMap<String, f64>,
    /// What it remembers now: keys and values; a counter is a decimal number.
    pub state: BTreeMap<String, Bytes>,
}

impl Loaded {
    /// Lets it publish to these topics, exact or with `*`, instead of those it declares.
    pub fn allow(&mut self, topics: Vec<String>) {
        self.published.allow(topics);
    }

    /// What the plugin says of itself, where it does.
    pub fn description(&self) -> Option<&Description> {
        self.generation.description()
    }

    /// The generation itself, for a slot of a pipeline.
    pub fn generation(&self) -> &Arc<Generation> {
        &self.generation
    }

    /// Makes one attempt, number `attempt` (from 1), as the pipeline makes it: an event in
    /// CloudEvents' structured mode is decoded first, and outputs to topics that are not
    /// allowed are refused.
    pub async fn attempt(&self, event: Event, attempt: u32) -> Attempt {
        let (lines, counts) = (self.bench.lines.len(), self.counts());
        let mut outcome = match cloudevents::decode_structured(&event) {
            Ok(decoded) => self.call(decoded.unwrap_or(event), attempt).await,
            Err(e) => Err(HandlerError::new(ErrorClass::Decode, Verdict::Reject, e.to_string())),
        };
        let state = match self.remembers().await {
            Ok(state) => state,
            Err(reason) => {
                outcome = Err(host_error(reason));
                BTreeMap::new()
            }
        };
        Attempt {
            outcome,
            published: self.published.take(),
            log: self.bench.lines.since(lines),
            metrics: counted::since(&counts, self.counts()),
            state,
        }
    }

    fn uses(&self, grant: Grant) -> bool {
        self.generation.inspection().grants.contains(&grant)
    }

    fn counts(&self) -> BTreeMap<String, f64> {
        match self.uses(Grant::Metrics) {
            true => counted::by(&self.name, &self.bench.metrics()),
            false => BTreeMap::new(),
        }
    }

    async fn remembers(&self) -> Result<BTreeMap<String, Bytes>, String> {
        match self.state.as_ref().filter(|_| self.uses(Grant::State)) {
            Some(source) => memory::all(source).await.map_err(|e| e.to_string()),
            None => Ok(BTreeMap::new()),
        }
    }

    async fn call(&self, event: Event, attempt: u32) -> Result<Vec<Outgoing>, HandlerError> {
        let outcomes = self.generation.call(&[Call { event, attempt }]).await;
        // one call, one outcome: the generation's promise
        let Some(outcome) = outcomes.results.into_iter().next() else { return Ok(Vec::new()) };
        let handled = outcome?;
        let allow = self.published.allowed();
        handled.outputs.iter().try_for_each(|o| check_topic(&self.name, &allow, &o.topic))?;
        if let (Some(changes), Some(source)) = (handled.state, &self.state) {
            // what the acknowledgement does in production
            memory::write(source, *changes).await.map_err(host_error)?;
        }
        Ok(handled.outputs)
    }
}

fn host_error(reason: String) -> HandlerError {
    HandlerError::new(ErrorClass::Host, Verdict::Retry { after: None }, reason)
}

/// Takes what a plugin publishes at once, to where it may.
#[derive(Debug, Default)]
struct Published(Mutex<(Vec<String>, Vec<Outgoing>)>);

impl Published {
    fn allow(&self, topics: Vec<String>) {
        self.lock().0 = topics;
    }

    fn allowed(&self) -> Vec<String> {
        self.lock().0.clone()
    }

    fn take(&self) -> Vec<Outgoing> {
        std::mem::take(&mut self.lock().1)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, (Vec<String>, Vec<Outgoing>)> {
        // a test that panicked elsewhere leaves whole events behind
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Publisher for Published {
    async fn publish(&self, events: Vec<Outgoing>) -> Result<(), PublishRefusal> {
        let mut kept = self.lock();
        let may = |event: &&Outgoing| kept.0.iter().any(|glob| topic_matches(glob, &event.topic));
        if let Some(denied) = events.iter().find(|event| !may(event)) {
            return Err(PublishRefusal::Denied(denied.topic.to_string()));
        }
        kept.1.extend(events);
        Ok(())
    }
}
