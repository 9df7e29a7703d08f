//! `sandbar run` in a folder of its own, as it is measured.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use sandbar_core::{Connection, Outgoing};
use sandbar_store::{Log, LogConfig, Retention};
use sandbar_testkit::{Runtime, guest};

use crate::{
    events::{Shape, events},
    progress::wait,
};

/// Events published to a log in one call.
const CALL: usize = 4000;

/// A folder with a configuration, plugins, and what a runtime keeps.
pub struct Folder {
    path: PathBuf,
}

impl Folder {
    /// Makes it new, with `config` as `sandbar.toml`.
    ///
    /// # Errors
    /// Where it cannot be made.
    pub fn new(path: PathBuf, config: &str) -> Result<Self> {
        if path.exists() {
            fs::remove_dir_all(&path)?;
        }
        fs::create_dir_all(path.join("plugins"))?;
        let folder = Self { path };
        folder.configure(config)?;
        Ok(folder)
    }

    /// Writes `sandbar.toml` anew.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn configure(&self, config: &str) -> Result<()> {
        let listen = "[admin]\nlisten = \"127.0.0.1:0\"\n[logging]\nlevel = \"warn\"\n";
        Ok(fs::write(self.path.join("sandbar.toml"), format!("{listen}{config}"))?)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Takes all plugins out.
    ///
    /// # Errors
    /// Where they cannot be deleted.
    pub fn clear(&self) -> Result<()> {
        let plugins = self.path.join("plugins");
        fs::remove_dir_all(&plugins)?;
        Ok(fs::create_dir(&plugins)?)
    }

    /// Puts the component `guest` there as the only plugin, called `name`.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn only(&self, component: &str, name: &str, settings: &str) -> Result<()> {
        self.clear()?;
        self.install(component, name, settings)
    }

    /// Puts the component `guest` there as the plugin `name`.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn install(&self, component: &str, name: &str, settings: &str) -> Result<()> {
        // settings first: the plugin is looked at when its file is there
        fs::write(self.path.join(format!("plugins/{name}.toml")), settings)?;
        Runtime::install(&self.path, &guest(component), name)
    }

    /// Writes `count` events to the embedded log before a runtime opens it.
    ///
    /// # Errors
    /// Where the log cannot be written.
    pub fn fill(&self, topic: &str, partitions: u32, count: usize, shape: &Shape) -> Result<()> {
        fs::create_dir_all(self.path.join("data"))?;
        let config =
            LogConfig { partitions, retention: Retention::UNLIMITED, ..LogConfig::default() };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let _inside = runtime.enter();
        let log = Log::open(self.path.join("data/log.redb"), config)?;
        runtime.block_on(async {
            log.ensure_topics(&[topic.to_owned()]).await?;
            let sink = log.sink();
            let mut events = events(count, shape).peekable();
            while events.peek().is_some() {
                let record =
                    |e: crate::events::Generated| Outgoing::new(topic, e.payload).with_key(e.key);
                let records: Vec<_> = events.by_ref().take(CALL).map(record).collect();
                for published in sink.publish(&records).await {
                    published?;
                }
            }
            log.close().await;
            Ok(())
        })
    }
}

/// A running runtime.
pub struct Sandbar {
    runtime: Runtime,
}

impl Sandbar {
    /// Starts it on `cores` processors, or all, and waits until its admin listener answers.
    ///
    /// # Errors
    /// When it ends instead.
    pub fn start(folder: &Folder, cores: Option<&str>) -> Result<Self> {
        let pinned = cores.map(|cores| ["taskset", "-c", cores]);
        let wrapper = pinned.as_ref().map_or(&[][..], |words| &words[..]);
        let mut runtime = Runtime::spawn(folder.path(), wrapper)?;
        wait("sandbar is ready", || runtime.is_ready())?;
        Ok(Self { runtime })
    }

    /// Events that each plugin and route has handled.
    ///
    /// # Errors
    /// When an event failed: what is measured would be something else.
    pub fn handled(&self) -> Result<BTreeMap<String, u64>> {
        let text = self.runtime.text("/metrics")?;
        for failure in ["sandbar_events_dead_lettered_total", "sandbar_events_dropped_total"] {
            if let Some(series) = series(&text, failure).find(|(_, count)| *count > 0) {
                bail!("{failure}: {series:?}\n{}", self.runtime.log());
            }
        }
        Ok(series(&text, "sandbar_events_handled_total").collect())
    }

    pub fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// Resident memory, most of it so far, and threads, of the process.
    ///
    /// # Errors
    /// When it has ended.
    pub fn usage(&self) -> Result<Usage> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.runtime.pid()))?;
        let number = |key: &str| -> Result<u64> {
            let line = status.lines().find(|l| l.starts_with(key)).context("no such line")?;
            Ok(line.split_whitespace().nth(1).context("no value")?.parse()?)
        };
        Ok(Usage {
            resident: number("VmRSS:")? << 10,
            private: number("RssAnon:")? << 10,
            peak: number("VmHWM:")? << 10,
            threads: number("Threads:")?,
        })
    }
}

/// Plugin and value of each series of the counter `name`.
fn series<'t>(text: &'t str, name: &'t str) -> impl Iterator<Item = (String, u64)> + 't {
    text.lines().filter_map(move |line| {
        let (labels, value) = line.strip_prefix(name)?.strip_prefix('{')?.split_once("} ")?;
        let plugin = labels.split(',').find_map(|label| label.strip_prefix("plugin="))?;
        Some((plugin.trim_matches('"').to_owned(), value.parse().ok()?))
    })
}

/// What a process uses now; bytes.
#[derive(Debug, Clone, Copy)]
pub struct Usage {
    pub resident: u64,
    /// Without what is mapped from files, such as compiled code.
    pub private: u64,
    /// Most that was ever resident.
    pub peak: u64,
    pub threads: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_is_read_by_its_plugin() {
        let text = "# TYPE handled counter\nhandled_total{plugin=\"a\"} 7\n\
                    handled_total{class=\"trap\",plugin=\"b\"} 2\nhandled_total_more{plugin=\"c\"} 1\n";
        let all: Vec<_> = series(text, "handled_total").collect();
        assert_eq!(all, [("a".to_owned(), 7), ("b".to_owned(), 2)]);
    }
}
