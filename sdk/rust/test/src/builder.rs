use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use sandbar_core::{Connection, Publisher, StartAt};
use sandbar_pipeline::{
    DirectPublisher, Outputs, RetryPolicy, SubscriptionConfig, SubscriptionStats,
};
use sandbar_store::{Log, LogConfig};
use sandbar_wasm::{
    Description, Grant, HttpAccess, Limits, LoadSpec, SecretValue, Secrets, StateSource,
};

use crate::{Bench, BenchConfig, TestHost, host::Parts, suggested::Suggested};

/// Name of the connection that everything in a test is on.
pub(crate) const CONNECTION: &str = "log";

/// What an operator would set: see [`TestHost::builder`].
#[derive(Debug, Clone)]
pub struct Builder {
    path: PathBuf,
    name: Option<String>,
    config: BTreeMap<String, String>,
    grants: BTreeSet<Grant>,
    secrets: Secrets,
    http: Option<HttpAccess>,
    limits: Limits,
    topics: Option<Vec<String>>,
    publish: Option<Vec<String>>,
    retry: Option<RetryPolicy>,
    options: Vec<(String, String)>,
    cache: Option<PathBuf>,
    time: Option<Duration>,
    pub(crate) timeout: Duration,
    pub(crate) partitions: u32,
}

impl Builder {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self {
            path,
            name: None,
            config: BTreeMap::new(),
            grants: BTreeSet::new(),
            secrets: Secrets::new(),
            http: None,
            limits: Limits::default(),
            topics: None,
            publish: None,
            retry: None,
            options: Vec::new(),
            cache: None,
            time: None,
            timeout: Duration::from_secs(60),
            partitions: 1,
        }
    }

    /// The plugin's name, instead of the file's name without `.wasm`.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Sets one value of the plugin's configuration.
    #[must_use]
    pub fn config(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.config.insert(key.into(), value.into());
        self
    }

    /// Grants a capability.
    #[must_use]
    pub fn grant(mut self, grant: Grant) -> Self {
        self.grants.insert(grant);
        self
    }

    /// Grants a secret.
    #[must_use]
    pub fn secret(mut self, name: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        self.secrets.insert(name.into(), SecretValue::new(value));
        self
    }

    /// Lets it send HTTP requests.
    #[must_use]
    pub fn http(mut self, access: HttpAccess) -> Self {
        self.http = Some(access);
        self
    }

    /// Replaces the default limits.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Subscribes to these topics instead of the plugin's own.
    #[must_use]
    pub fn topics<T: Into<String>>(mut self, topics: impl IntoIterator<Item = T>) -> Self {
        self.topics = Some(topics.into_iter().map(Into::into).collect());
        self
    }

    /// Allows these topics instead of the ones that the plugin says it publishes to.
    #[must_use]
    pub fn publish<T: Into<String>>(mut self, globs: impl IntoIterator<Item = T>) -> Self {
        self.publish = Some(globs.into_iter().map(Into::into).collect());
        self
    }

    /// Replaces the whole retry policy.
    #[must_use]
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.retry = Some(policy);
        self
    }

    /// Sets one option by its name in `NAME.toml`, such as `ordering` or
    /// `dead-letter.topic`.
    #[must_use]
    pub fn option(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.options.push((key.into(), value.into()));
        self
    }

    /// Keeps the compiled plugin in this folder, for the next test of the same file: plugins in
    /// Python or JavaScript take seconds to compile. Only this user may be able to write to it.
    #[must_use]
    pub fn cache(mut self, dir: impl Into<PathBuf>) -> Self {
        self.cache = Some(dir.into());
        self
    }

    /// Sets the time that the plugin reads, as time since 1970 began (UTC), instead of the
    /// system's. It stands still until [`TestHost::move_to`] moves it or the plugin waits, and
    /// random numbers repeat with each instance. Retries still wait in real time.
    #[must_use]
    pub fn time(mut self, since_epoch: Duration) -> Self {
        self.time = Some(since_epoch);
        self
    }

    /// Partitions of each topic; 1 by default.
    #[must_use]
    pub fn partitions(mut self, partitions: u32) -> Self {
        self.partitions = partitions;
        self
    }

    /// The longest time that [`TestHost::drain`] waits; 60 seconds by default.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Loads the plugin and subscribes it.
    ///
    /// # Errors
    /// Where the file does not load, or nobody says which topics it handles.
    pub async fn load(self) -> Result<TestHost> {
        let name = match &self.name {
            Some(name) => name.clone(),
            None => {
                let stem = self.path.file_stem().context("the path names no file")?;
                stem.to_string_lossy().into_owned()
            }
        };
        let bench = Bench::new(BenchConfig { cache: self.cache.clone(), time: self.time })?;
        let bus = Arc::new(Log::in_memory(LogConfig {
            name: CONNECTION.to_owned(),
            partitions: self.partitions,
            ..LogConfig::default()
        })?);
        let stats = Arc::new(SubscriptionStats::unregistered(&name));
        let wasm = tokio::fs::read(&self.path)
            .await
            .with_context(|| format!("cannot read {}", self.path.display()))?;
        let cannot_load = || format!("cannot load {}", self.path.display());
        let examined = bench.examine(wasm.into()).await.with_context(cannot_load)?;
        let publisher: Option<Arc<dyn Publisher>> = match self.grants.contains(&Grant::Publisher) {
            true => {
                let allow = self.allow(examined.inspection().description.as_ref());
                let outputs = Outputs::single(CONNECTION, bus.sink());
                Some(Arc::new(DirectPublisher::new(outputs, allow, stats.clone())))
            }
            false => None,
        };
        let group = SubscriptionConfig::new(&*name, CONNECTION).group;
        let now_ms = bench.now_ms();
        let spec = LoadSpec {
            state: bus.state().map(|store| StateSource { store, group, now_ms }),
            publisher,
            connection: CONNECTION.to_owned(),
            limits: self.limits.clone(),
            grants: self.grants.clone(),
            secrets: self.secrets.clone(),
            http: self.http.clone(),
            config: self.config.clone(),
            concurrency: SubscriptionConfig::new(&*name, CONNECTION).concurrency,
            ..LoadSpec::new(&name)
        };
        let plugin = bench.load(examined, spec.clone()).await.with_context(cannot_load)?;
        let subscription = self.subscription(&name, plugin.description())?;
        let parts = Parts { bench, spec, plugin, bus, stats, subscription };
        TestHost::start(&self, parts).await
    }

    /// Topics that it may publish to.
    fn allow(&self, says: Option<&Description>) -> Vec<String> {
        match &self.publish {
            Some(globs) => globs.clone(),
            None => says.map(|d| d.publishes.clone()).unwrap_or_default(),
        }
    }

    fn subscription(&self, name: &str, says: Option<&Description>) -> Result<Subscribe> {
        let mut suggested = Suggested::new(name, CONNECTION);
        let declared = says.map_or(&[][..], |d| &d.subscriptions);
        for (key, value) in declared.iter().flat_map(|s| &s.options) {
            suggested.apply(key, value)?;
        }
        for (key, value) in &self.options {
            suggested.apply(key, value)?;
        }
        let Suggested { mut config, start, exactly_once } = suggested;
        if let Some(retry) = &self.retry {
            config.retry = retry.clone();
        }
        config.allow = self.allow(says);
        let topics = match &self.topics {
            Some(topics) => topics.clone(),
            None => declared.iter().flat_map(|s| s.topics.clone()).collect(),
        };
        ensure!(
            !topics.is_empty(),
            "plugin `{name}` is subscribed to no topic: name some with `topics`"
        );
        Ok(Subscribe { config, start, exactly_once, topics })
    }
}

/// How the plugin is to be subscribed.
#[derive(Debug)]
pub(crate) struct Subscribe {
    pub config: SubscriptionConfig,
    pub start: StartAt,
    pub exactly_once: bool,
    pub topics: Vec<String>,
}
