//! A large backlog before a slow handler: what the process holds meanwhile.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::{
    bench::Bench,
    events::Shape,
    figures::{Row, Section, Unit},
    progress::pause,
    sandbar::{Folder, Sandbar},
};

const SMALL: Shape = Shape { payload: 100, keys: 10_000 };

pub fn run(bench: &Bench, section: &mut Section) -> Result<()> {
    let backlogs: [(&str, usize); 2] = bench.pick(
        [("100,000", 100_000), ("10,000,000", 10_000_000)],
        [("10,000", 10_000), ("200,000", 200_000)],
    );
    for (name, events) in backlogs {
        let (backlog, peak, resident, handled) = hold(bench, events)?;
        ensure!(handled < events as u64, "the handler was not slow: {handled} of {events} handled");
        let id = format!("memory/{events}");
        let mut row = |what: &str, unit, value: f64| {
            let id = format!("{id}/{}", what.split(' ').next().unwrap_or_default());
            section.rows.push(Row::new(id, format!("{name} events: {what}"), unit, &[value]));
        };
        row("backlog on disk", Unit::Bytes, backlog);
        row("resident at the end", Unit::Bytes, resident);
        row("peak of resident memory", Unit::Bytes, peak);
        row("handled meanwhile", Unit::Count, handled as f64);
    }
    section.note(
        "Each event takes 20 ms of waiting; 8 at once. What is held is bounded by configuration: `max-in-flight` (1024) events a \
         partition, `concurrency` (8) instances, and the log's page cache (64 MiB) and head cache (32 MiB).",
    );
    Ok(())
}

/// Bytes on disk, peak and last of resident memory, and events handled.
fn hold(bench: &Bench, events: usize) -> Result<(f64, f64, f64, u64)> {
    let folder = Folder::new(bench.work("memory"), "")?;
    folder.fill("bench", 1, events, &SMALL)?;
    let backlog = std::fs::metadata(folder.path().join("data/log.redb"))?.len();
    let settings = "topics = [\"bench\"]\npublish = [\"bench.out\"]\ngrants = [\"clocks\"]\n\
                    config = { us = \"20000\" }\n";
    folder.install("bench-work", "work", settings)?;
    let sandbar = Sandbar::start(&folder, None)?;
    let (began, time) = (Instant::now(), Duration::from_secs(bench.pick(10, 5)));
    while began.elapsed() < time {
        pause(Duration::from_millis(500));
        // somebody looks at it, as a scraper does
        sandbar.handled()?;
    }
    let handled = sandbar.handled()?.get("work").copied().unwrap_or(0);
    let usage = sandbar.usage()?;
    Ok((backlog as f64, usage.peak as f64, usage.resident as f64, handled))
}
