use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use sandbar_core::{Connection, Event, Outgoing, ReadFrom, SubscriptionSpec, reserved};
use sandbar_pipeline::{
    DeadLetter as Info, Outputs, Services, State, StopHandle, Subscription, SubscriptionStats, run,
    topic_matches,
};
use sandbar_store::Log;
use sandbar_wasm::{Description, HandlerSlot, Inspection, LoadSpec};
use tokio::{
    task::JoinHandle,
    time::{sleep, timeout},
};

use crate::{
    Bench, Builder, DeadLetter, Loaded, Outcome,
    builder::{CONNECTION, Subscribe},
    memory,
};

/// How long attempts may go on when the host is dropped.
const DRAIN: Duration = Duration::from_secs(5);
/// How often to look whether everything is done.
const LOOK: Duration = Duration::from_millis(2);
/// Events read at a time.
const READ: usize = 1000;

/// One plugin, running. It stops when this is dropped.
pub struct TestHost {
    bench: Bench,
    spec: LoadSpec,
    slot: Arc<HandlerSlot>,
    log: Arc<Log>,
    subscribed: Subscribe,
    stats: Arc<SubscriptionStats>,
    stop: StopHandle,
    run: JoinHandle<()>,
    timeout: Duration,
}

/// What [`Builder::load`] has put together.
pub(crate) struct Parts {
    pub bench: Bench,
    pub spec: LoadSpec,
    pub plugin: Loaded,
    pub bus: Arc<Log>,
    pub stats: Arc<SubscriptionStats>,
    pub subscription: Subscribe,
}

impl TestHost {
    /// Loads a built plugin as its own description asks for, with default limits and
    /// without any grant.
    ///
    /// # Errors
    /// As [`Builder::load`].
    pub async fn load(path: impl Into<PathBuf>) -> Result<Self> {
        Self::builder(path).load().await
    }

    /// Sets what an operator would set before loading.
    pub fn builder(path: impl Into<PathBuf>) -> Builder {
        Builder::new(path.into())
    }

    pub(crate) async fn start(builder: &Builder, parts: Parts) -> Result<Self> {
        let Parts { bench, spec, plugin, bus: log, stats, subscription: subscribed } = parts;
        let slot = Arc::new(HandlerSlot::new(plugin.generation().clone()));
        let outputs = Outputs::single(CONNECTION, log.sink());
        let config = subscribed.config.clone();
        let services = Services {
            marks: log.marks(),
            state: log.state(),
            connection: Some(log.clone()),
            ..Services::default()
        };
        log.ensure_compacted_topic(&config.halted()).await?;
        let subscription =
            Subscription::with_services(config, slot.clone(), outputs, stats.clone(), services);
        let source = log
            .subscribe(SubscriptionSpec {
                start: subscribed.start,
                prefetch: subscribed.config.max_in_flight,
                drain_timeout: DRAIN,
                exactly_once: subscribed.exactly_once,
                ..SubscriptionSpec::new(&*subscribed.config.group, subscribed.topics.clone())
            })
            .await?;
        let (stop, stopped) = StopHandle::new();
        // how it ends is in the statistics, where `drain` looks
        let run = tokio::spawn(async move { drop(run(source, subscription, stopped).await) });
        let timeout = builder.timeout;
        Ok(Self { bench, spec, slot, log, subscribed, stats, stop, run, timeout })
    }

    /// What the plugin says of itself, where it does.
    pub fn description(&self) -> Option<Description> {
        self.slot.current().description().cloned()
    }

    /// What is known of the plugin's file: imports, exports, size, digest.
    pub fn inspection(&self) -> Inspection {
        self.slot.current().inspection().clone()
    }

    /// What the host counts and what the plugin counts by itself, as the runtime exports it.
    pub fn metrics(&self) -> String {
        self.bench.metrics()
    }

    /// Publishes events in order and returns when all of them are in the log.
    ///
    /// # Errors
    /// Where the log refuses one.
    pub async fn publish(&self, events: impl IntoIterator<Item = Outgoing>) -> Result<()> {
        let events: Vec<_> = events.into_iter().collect();
        for (event, result) in events.iter().zip(self.log.sink().publish(&events).await) {
            result.with_context(|| format!("cannot publish to `{}`", event.topic))?;
        }
        Ok(())
    }

    /// Replaces the plugin while it runs, with the same settings: what a change of the
    /// file in the plugins folder does.
    ///
    /// # Errors
    /// Where the file does not load; the old version then goes on serving.
    pub async fn replace(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let wasm = tokio::fs::read(path)
            .await
            .with_context(|| format!("cannot read {}", path.display()))?;
        let cannot_load = || format!("cannot load {}", path.display());
        let examined = self.bench.examine(wasm.into()).await.with_context(cannot_load)?;
        let plugin =
            self.bench.load(examined, self.spec.clone()).await.with_context(cannot_load)?;
        drop(self.slot.swap(plugin.generation().clone()));
        Ok(())
    }

    /// Moves the time that the plugin reads on to `since_epoch`, where [`Builder::time`] set it.
    pub fn move_to(&self, since_epoch: Duration) {
        self.bench.move_to(since_epoch);
    }

    /// Waits until everything that was published is handled, skipped or given up, and
    /// collects what came of it, from the start on. More can be published afterwards.
    ///
    /// # Errors
    /// Where the subscription halts or fails, or the time is up.
    pub async fn drain(&self) -> Result<Outcome> {
        match timeout(self.timeout, self.quiet()).await {
            Ok(quiet) => quiet?,
            Err(_) => bail!(
                "not done within {:?}: {:?}; the plugin's log: {:?}",
                self.timeout,
                self.stats.snapshot(),
                self.bench.log()
            ),
        }
        let mut outputs = BTreeMap::new();
        let mut dead_letters = Vec::new();
        let dead_letter_topic = self.subscribed.config.dead_letter.as_ref().map(|d| &*d.topic);
        for topic in self.log.topics().await?.into_iter().map(|t| t.name) {
            if Some(topic.as_str()) == dead_letter_topic {
                for event in self.read(&topic).await? {
                    let info = Info::parse(&event)
                        .with_context(|| format!("{} is no dead letter", event.id()))?;
                    dead_letters.push(DeadLetter { info, event });
                }
            } else if !self.is_input(&topic) && !reserved::is_reserved(&topic) {
                let events = self.read(&topic).await?;
                outputs.insert(topic, events);
            }
        }
        let (stats, log) = (self.stats.snapshot(), self.bench.log());
        let state = self.state().await?;
        Ok(Outcome { outputs, dead_letters, state, stats, log })
    }

    /// The plugin's state as it is now.
    async fn state(&self) -> Result<BTreeMap<String, Bytes>> {
        match &self.spec.state {
            Some(source) => Ok(memory::all(source).await?),
            None => Ok(BTreeMap::new()),
        }
    }

    async fn quiet(&self) -> Result<()> {
        loop {
            let (state, reason) = self.stats.state();
            let reason = reason.unwrap_or_default();
            if matches!(state, State::Halted | State::Failed) || self.run.is_finished() {
                bail!("the subscription is {}: {reason}", state.as_str());
            }
            // the cursor moves first, then the counters
            if self.caught_up().await? && self.stats.in_flight.get() == 0 {
                return Ok(());
            }
            sleep(LOOK).await;
        }
    }

    /// Whether the cursor stands at the end of every partition that has events.
    async fn caught_up(&self) -> Result<bool> {
        let cursors = self.log.cursors(&self.subscribed.config.group).await?;
        let with_events = self.log.topics().await?.into_iter().filter(|t| t.events != Some(0));
        let unread = with_events
            .filter(|t| self.is_input(&t.name))
            .any(|t| !cursors.iter().any(|(id, ..)| *id.topic == *t.name));
        Ok(!unread && cursors.iter().all(|(_, at, end)| at == end))
    }

    fn is_input(&self, topic: &str) -> bool {
        self.subscribed.topics.iter().any(|glob| topic_matches(glob, topic))
    }

    async fn read(&self, topic: &str) -> Result<Vec<Event>> {
        let mut reader = self.log.read(topic, ReadFrom::Start).await?;
        let mut events = Vec::new();
        loop {
            match reader.next(READ).await? {
                more if more.is_empty() => return Ok(events),
                more => events.extend(more),
            }
        }
    }
}

impl Drop for TestHost {
    fn drop(&mut self) {
        self.stop.drain(DRAIN);
    }
}
