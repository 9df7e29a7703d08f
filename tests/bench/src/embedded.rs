//! A runtime inside this program, upon an embedded log that both can reach.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use sandbar::{
    app::App,
    config::{Config, Overrides},
    connections::Connections,
    supervisor::PluginHandle,
};
use sandbar_core::{Connection, Outgoing, ReadFrom};
use sandbar_store::{Log, LogConfig, Retention};
use tokio::{runtime::Runtime, sync::oneshot, task::JoinHandle};

use crate::{progress::wait, sandbar::Folder};

/// Attribute of an event by which its output is known again.
const ID: &str = "id";
const CAUSE: &str = "causationid";
/// An output that is not there by then is lost.
const PATIENCE: Duration = Duration::from_secs(60);

/// A runtime with as many workers as processors, and the log that it works on.
pub struct Embedded {
    runtime: Runtime,
    supervisor: Arc<sandbar::supervisor::Supervisor>,
    stop: Option<oneshot::Sender<()>>,
    running: Option<JoinHandle<Result<sandbar::app::Summary>>>,
    pub log: Log,
    /// How often events were published in turn: each time they have other ids.
    drizzles: AtomicU64,
}

impl Embedded {
    /// Starts on what lies in `folder`.
    ///
    /// # Errors
    /// Where the runtime cannot be started.
    pub fn start(folder: &Folder, partitions: u32) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let inside = runtime.enter();
        std::fs::create_dir_all(folder.path().join("data"))?;
        let settings =
            LogConfig { partitions, retention: Retention::UNLIMITED, ..LogConfig::default() };
        let log = Log::open(folder.path().join("data/log.redb"), settings)?;
        let config =
            Config::load(Some(&folder.path().join("sandbar.toml")), &Overrides::default())?;
        let connection: Arc<dyn Connection> = Arc::new(log.clone());
        let app = runtime.block_on(async {
            App::with_connections(config, Connections::new([connection], "log")).await
        })?;
        let supervisor = Arc::clone(app.supervisor());
        let (stop, stopped) = oneshot::channel();
        let running = runtime.spawn(app.run(async move {
            let _ = stopped.await;
        }));
        drop(inside);
        let (stop, running) = (Some(stop), Some(running));
        Ok(Self { runtime, supervisor, stop, running, log, drizzles: AtomicU64::new(0) })
    }

    /// The plugin or route `name`, once it runs.
    ///
    /// # Errors
    /// When it does not.
    pub fn plugin(&self, name: &str) -> Result<PluginHandle> {
        wait("the plugin runs", || {
            let plugin = self.supervisor.plugin(name);
            let state = plugin.as_ref().map(|p| p.status());
            if let Some(status) = &state {
                ensure!(status.state.as_str() != "failed", "{name} failed: {:?}", status.reason);
            }
            Ok(plugin.filter(|_| state.is_some_and(|s| s.state.as_str() == "running")))
        })
    }

    /// Publishes `total` events as fast as the log takes them, from two publishers, and returns
    /// how many a second were handled.
    ///
    /// # Errors
    /// When one is not published or not handled.
    pub fn flood(&self, plugin: &PluginHandle, event: &Outgoing, total: u64) -> Result<f64> {
        const CALL: u64 = 250;
        let before = plugin.counts().handled;
        let began = Instant::now();
        let publish = |count: u64, event: Outgoing, log: Log| async move {
            let records: Vec<_> =
                (0..CALL).map(|n| event.clone().with_key(format!("key-{n}"))).collect();
            for _ in 0..count / CALL {
                for published in log.sink().publish(&records).await {
                    published?;
                }
            }
            anyhow::Ok(())
        };
        let publishers = [(); 2]
            .map(|()| self.runtime.spawn(publish(total / 2, event.clone(), self.log.clone())));
        for publisher in publishers {
            self.runtime.block_on(publisher)??;
        }
        let total = total / 2 / CALL * CALL * 2;
        wait("all events are handled", || {
            Ok((plugin.counts().handled >= before + total).then_some(()))
        })?;
        Ok(total as f64 / began.elapsed().as_secs_f64())
    }

    /// Publishes `events` in turn at `rate` a second for `time`, each with an id of its own, and
    /// returns when each was published, and how long it took until its output could be read from `output`.
    ///
    /// # Errors
    /// When one is not published, or an output does not come.
    pub fn drizzle(
        &self,
        events: Vec<Outgoing>,
        output: &str,
        rate: f64,
        time: Duration,
    ) -> Result<Vec<(Instant, Duration)>> {
        self.runtime.block_on(async {
            self.log.ensure_topics(&[output.to_owned()]).await?;
            let mut reader = self.log.read(output, ReadFrom::Follow).await?;
            let following = tokio::spawn(async move {
                let mut seen: Vec<(u64, Instant)> = Vec::new();
                loop {
                    let events = reader.next(1000).await?;
                    let now = Instant::now();
                    for event in events {
                        // a route passes an event on as it is
                        let id = event.attribute(CAUSE).or_else(|| event.attribute(ID));
                        match id.and_then(|id| id.parse().ok()) {
                            Some(u64::MAX) => return anyhow::Ok(seen),
                            Some(id) => seen.push((id, now)),
                            None => {}
                        }
                    }
                }
            });
            let log = self.log.clone();
            let first = self.drizzles.fetch_add(1, Ordering::Relaxed) << 32;
            let publishing = tokio::spawn(async move {
                let (began, mut sent) = (Instant::now(), HashMap::new());
                let mut next = first;
                let mut ticks = tokio::time::interval(Duration::from_millis(1));
                while began.elapsed() < time {
                    ticks.tick().await;
                    let due = first + (began.elapsed().as_secs_f64() * rate) as u64;
                    if next >= due {
                        continue;
                    }
                    let records: Vec<_> = (next..due)
                        .map(|id| named(&events[id as usize % events.len()], id))
                        .collect();
                    let now = Instant::now();
                    sent.extend((next..due).map(|id| (id, now)));
                    next = due;
                    for published in log.sink().publish(&records).await {
                        published?;
                    }
                }
                // each partition would have to be ended, so this is asked for where there is one
                for published in log.sink().publish(&[named(&events[0], u64::MAX)]).await {
                    published?;
                }
                anyhow::Ok(sent)
            });
            let sent = publishing.await??;
            let mut seen =
                tokio::time::timeout(PATIENCE, following).await.context("no output")???;
            // the last event has a lane of its own and may overtake a few others, which the next one who follows sees
            seen.retain(|(id, _)| sent.contains_key(id));
            ensure!(seen.len() * 10 >= sent.len() * 9, "{} of {} outputs", seen.len(), sent.len());
            Ok(seen.into_iter().map(|(id, at)| (sent[&id], at - sent[&id])).collect())
        })
    }

    /// Stops it as SIGTERM does.
    ///
    /// # Errors
    /// What it ended with.
    pub fn stop(mut self) -> Result<()> {
        if let (Some(stop), Some(running)) = (self.stop.take(), self.running.take()) {
            let _ = stop.send(());
            self.runtime.block_on(running)??;
        }
        Ok(())
    }
}

fn named(event: &Outgoing, id: u64) -> Outgoing {
    let mut event = event.clone();
    event.attributes.push((ID.into(), id.to_string()));
    event
}

/// The value that so many of a hundred are below.
///
/// # Panics
/// Without a value.
pub fn percentile(latencies: impl Iterator<Item = Duration>, percent: f64) -> f64 {
    let mut sorted: Vec<f64> = latencies.map(|l| l.as_secs_f64()).collect();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted[((sorted.len() - 1) as f64 * percent / 100.0) as usize]
}
