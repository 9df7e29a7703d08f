//! What a plugin costs in its language, on the production engine without a broker.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use sandbar_core::{Call, Event};
use sandbar_wasm::{Generation, Host, HostConfig, LoadSpec};

use crate::WEBHOOKS;

/// Times that all webhooks are handled before anything is counted.
const WARM_UP: usize = 2;

/// What one plugin costs.
#[derive(Debug, Clone)]
pub struct Cost {
    /// Bytes of the component.
    pub size: usize,
    /// Once per version of a file.
    pub compile: Duration,
    /// From the bytes to a plugin that is described, initialised and warm, once it is compiled.
    pub load: Duration,
    /// The first webhook.
    pub first: Duration,
    /// A webhook on a warm instance, the median.
    pub p50: Duration,
    /// The same, of a hundred the slowest but one.
    pub p99: Duration,
}

/// Measures the plugin `file`, which passes each webhook on as one event; each of them is
/// handled `rounds` times.
///
/// # Errors
/// Where it cannot be loaded, or does something else with a webhook.
pub async fn measure(file: &Path, rounds: usize) -> Result<Cost> {
    let cache = tempfile::tempdir()?;
    let (fresh, _) = load(file, cache.path()).await?;
    ensure!(!fresh.inspection().cached, "the cache is not empty");
    let (compile, size) = (fresh.inspection().compile_time, fresh.inspection().size);
    drop(fresh);

    // another host, as after a restart of the runtime
    let (plugin, load) = load(file, cache.path()).await?;
    ensure!(plugin.inspection().cached, "the compiled plugin was not kept");
    let calls: Vec<_> = WEBHOOKS.lines().enumerate().map(call).collect();
    let first = handle(&plugin, &calls[0]).await?;
    for call in calls.iter().cycle().take(WARM_UP * calls.len()) {
        handle(&plugin, call).await?;
    }
    let mut times = Vec::with_capacity(rounds * calls.len());
    for call in calls.iter().cycle().take(rounds * calls.len()) {
        times.push(handle(&plugin, call).await?);
    }
    times.sort_unstable();
    let at = |percent: usize| times[(times.len() - 1) * percent / 100];
    Ok(Cost { size, compile, load, first, p50: at(50), p99: at(99) })
}

/// The plugin, described, initialised and warm, and the time from its bytes to that.
async fn load(file: &Path, cache: &Path) -> Result<(Arc<Generation>, Duration)> {
    let config = HostConfig {
        cache_dir: Some(cache.to_owned()),
        max_instances: 16,
        ..HostConfig::default()
    };
    let host = Host::new(config)?;
    let wasm = tokio::fs::read(file).await?;
    let began = Instant::now();
    let generation = host.load(wasm.into(), LoadSpec::new("measured")).await?;
    Ok((generation, began.elapsed()))
}

fn call((position, line): (usize, &str)) -> Call {
    let event = Event {
        topic: "github.webhooks".into(),
        partition: 0,
        position: position as u64,
        key: None,
        payload: Some(line.to_owned().into()),
        headers: [].into(),
        timestamp_ms: 0,
        attributes: [].into(),
    };
    Call { event, attempt: 1 }
}

async fn handle(plugin: &Generation, call: &Call) -> Result<Duration> {
    let began = Instant::now();
    let outcomes = plugin.call(std::slice::from_ref(call)).await;
    let time = began.elapsed();
    for outcome in outcomes.results {
        ensure!(outcome?.outputs.len() == 1, "a webhook gives one event");
    }
    Ok(time)
}
