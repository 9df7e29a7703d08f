//! One real plugin, written in each language.

use anyhow::{Context, Result};
use sandbar_languages::{OTHERS, built, cost};
use sandbar_testkit::guest;

use crate::{
    bench::Bench,
    figures::{Row, Section, Unit},
};

pub fn run(bench: &Bench, section: &mut Section) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let mut plugins = vec![("rust", guest("github-router"))];
    for language in OTHERS {
        match built("github-router", language) {
            // the compiler of either is the same, and takes half a minute
            Some(_) if bench.options().quick && ["js", "ts"].contains(&language) => {}
            Some(file) => plugins.push((language, file)),
            None => section.note(format!("{language} is missing: its toolchain is not here.")),
        }
    }
    for (language, file) in plugins {
        let cost = runtime
            .block_on(cost::measure(&file, bench.pick(10, 2)))
            .with_context(|| language.to_owned())?;
        let mut row = |what: &str, unit, value: f64| {
            let id = format!("languages/{language}/{}", what.replace(' ', "-"));
            section.rows.push(Row::new(id, format!("{language}: {what}"), unit, &[value]));
        };
        row("component", Unit::Bytes, cost.size as f64);
        row("compile once", Unit::Seconds, cost.compile.as_secs_f64());
        row("load from cache", Unit::Seconds, cost.load.as_secs_f64());
        row("first event", Unit::Seconds, cost.first.as_secs_f64());
        row("warm event p50", Unit::Seconds, cost.p50.as_secs_f64());
        row("warm event p99", Unit::Seconds, cost.p99.as_secs_f64());
    }
    Ok(())
}
