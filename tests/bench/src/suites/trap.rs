//! How soon a plugin goes on after a trap.

use std::time::Instant;

use anyhow::{Result, ensure};
use sandbar_core::{Call, Handler};
use sandbar_testkit::guest;
use sandbar_wasm::{HandlerSlot, Host, HostConfig, LoadSpec};

use super::call::call;
use crate::{
    bench::Bench,
    figures::{Row, Section, Unit},
};

pub fn run(bench: &Bench, section: &mut Section) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(measure(bench, section))
}

async fn measure(bench: &Bench, section: &mut Section) -> Result<()> {
    let host = Host::new(HostConfig::default())?;
    let wasm = std::fs::read(guest("program-counts"))?;
    let slot = HandlerSlot::new(host.load(wasm.into(), LoadSpec::new("counts")).await?);
    let mut trap = call(1024);
    trap.event.payload = Some("trap".into());
    let good = call(1024);
    let (trap, good) = ([&trap], [&good]);
    let (mut traps, mut next, mut warm) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..bench.pick(1000, 100) {
        traps.push(timed(&slot, &trap, false).await?);
        next.push(timed(&slot, &good, true).await?);
        warm.push(timed(&slot, &good, true).await?);
    }
    let row = |id: &str, what: &str, values: &[f64]| {
        Row::new(id, what, Unit::Seconds, values).beside("warm", values, &warm)
    };
    section.rows.push(row("trap/itself", "the event that traps, its backtrace taken", &traps));
    section.rows.push(row("trap/next", "from the trap to the next event handled", &next));
    Ok(())
}

async fn timed(slot: &HandlerSlot, calls: &[&Call], well: bool) -> Result<f64> {
    let began = Instant::now();
    let outcomes = slot.handle(calls).await;
    let took = began.elapsed().as_secs_f64();
    ensure!(outcomes.results.iter().all(|r| r.is_ok() == well), "{:?}", outcomes.results);
    Ok(took)
}
