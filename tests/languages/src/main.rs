//! Measures what a plugin costs in each language, on the production engine without a broker:
//! `make languages`.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use sandbar_languages::{OTHERS, built, cost};
use sandbar_test::guest;

/// Times that each webhook is counted.
const ROUNDS: usize = 20;

#[tokio::main]
async fn main() -> Result<()> {
    ensure!(!cfg!(debug_assertions), "measure the optimised program: `make languages`");
    let mut plugins = vec![("rust", guest("github-router")?)];
    for language in OTHERS {
        plugins.extend(built("github-router", language).map(|file| (language, file)));
    }
    println!(
        "| language | component | compile | load from cache | first call | warm call p50 | p99 |"
    );
    println!("|---|--:|--:|--:|--:|--:|--:|");
    for (language, file) in plugins {
        let cost = cost::measure(&file, ROUNDS).await.with_context(|| language.to_owned())?;
        println!(
            "| {language} | {} KB | {} | {} | {} | {} | {} |",
            cost.size / 1000,
            shown(cost.compile),
            shown(cost.load),
            shown(cost.first),
            shown(cost.p50),
            shown(cost.p99),
        );
    }
    Ok(())
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
