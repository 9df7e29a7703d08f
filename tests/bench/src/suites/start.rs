//! From the start of the process to the first event handled.

use std::{fs, time::Instant};

use anyhow::Result;
use sandbar_testkit::Runtime;

use crate::{
    bench::Bench,
    events::{PLAIN, Shape},
    figures::{Row, Section, Unit},
    progress::{pause, wait},
    sandbar::Folder,
};

pub fn run(bench: &Bench, section: &mut Section) -> Result<()> {
    let folder = Folder::new(bench.work("start"), "")?;
    folder.fill("bench", 1, 1, &Shape { payload: 100, ..PLAIN })?;
    let settings = "topics = [\"bench\"]\npublish = [\"bench.out\"]\n";
    let rounds = bench.pick(6, 3);
    let mut first = 0;
    let mut start = |cold: bool| -> Result<f64> {
        if cold {
            let _ = fs::remove_dir_all(folder.path().join("data/cache"));
        }
        // another name, so another cursor: the event is new to it
        first += 1;
        let name = format!("echo{first}");
        folder.only("bench-echo", &name, settings)?;
        // one that was just written is watched for a while first
        pause(std::time::Duration::from_millis(2500));
        let began = Instant::now();
        let mut runtime = Runtime::spawn(folder.path(), &[])?;
        wait("the first event is handled", || {
            let handled = runtime.is_ready()?.and_then(|()| runtime.plugin(&name));
            Ok(handled.filter(|plugin| plugin["counts"]["handled"] == 1))
        })?;
        let took = began.elapsed().as_secs_f64();
        runtime.terminate()?;
        Ok(took)
    };
    let (mut cold, mut cached) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        cold.push(start(true)?);
        cached.push(start(false)?);
    }
    section.rows.push(Row::new(
        "start/cold",
        "Rust plugin, nothing compiled yet",
        Unit::Seconds,
        &cold,
    ));
    section.rows.push(Row::new(
        "start/cached",
        "the same, compiled before",
        Unit::Seconds,
        &cached,
    ));
    section.note(
        "`sandbar run` as a process, one plugin, one event in the embedded log; the end is when the admin API says that \
         the event is handled, asked every millisecond.",
    );
    Ok(())
}
