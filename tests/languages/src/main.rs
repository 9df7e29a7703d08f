//! Measures what a plugin costs in each language, on the production engine without a broker:
//! `make languages`.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use sandbar_core::{Call, Event};
use sandbar_languages::{OTHERS, WEBHOOKS, built};
use sandbar_test::guest;
use sandbar_wasm::{Generation, Host, HostConfig, LoadSpec};

/// Times that all webhooks are handled before anything is counted, and while it is.
const WARM_UP: usize = 2;
const ROUNDS: usize = 20;

struct Row {
    language: String,
    size: usize,
    compile: Duration,
    load: Duration,
    first: Duration,
    p50: Duration,
    p99: Duration,
}

#[tokio::main]
async fn main() -> Result<()> {
    ensure!(!cfg!(debug_assertions), "measure the optimised program: `make languages`");
    let mut rows = vec![measure("rust", &guest("github-router")?).await?];
    for language in OTHERS {
        if let Some(file) = built("github-router", language) {
            rows.push(measure(language, &file).await.with_context(|| language.to_owned())?);
        }
    }
    println!(
        "| language | component | compile | load from cache | first call | warm call p50 | p99 |"
    );
    println!("|---|--:|--:|--:|--:|--:|--:|");
    for row in rows {
        println!(
            "| {} | {} KB | {} | {} | {} | {} | {} |",
            row.language,
            row.size / 1000,
            shown(row.compile),
            shown(row.load),
            shown(row.first),
            shown(row.p50),
            shown(row.p99),
        );
    }
    Ok(())
}

async fn measure(language: &str, file: &Path) -> Result<Row> {
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
    let mut times = Vec::with_capacity(ROUNDS * calls.len());
    for call in calls.iter().cycle().take(ROUNDS * calls.len()) {
        times.push(handle(&plugin, call).await?);
    }
    times.sort_unstable();
    let at = |percent: usize| times[(times.len() - 1) * percent / 100];
    Ok(Row { language: language.to_owned(), size, compile, load, first, p50: at(50), p99: at(99) })
}

/// The plugin, described, initialised and warm, and the time from its bytes to that.
async fn load(file: &Path, cache: &Path) -> Result<(Arc<Generation>, Duration)> {
    let config =
        HostConfig { cache_dir: Some(cache.to_owned()), max_instances: 4, ..HostConfig::default() };
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

/// Three digits, in the unit that fits.
fn shown(time: Duration) -> String {
    let us = time.as_secs_f64() * 1e6;
    let (value, unit) = match us {
        us if us >= 1e6 => (us / 1e6, "s"),
        us if us >= 1e3 => (us / 1e3, "ms"),
        us => (us, "us"),
    };
    let digits = if value >= 100.0 {
        0
    } else if value >= 10.0 {
        1
    } else {
        2
    };
    format!("{value:.digits$} {unit}")
}
