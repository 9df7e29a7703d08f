//! The embedded log: how much goes through, and how long an event is under way.

use std::time::Duration;

use anyhow::Result;
use sandbar_core::Outgoing;

use crate::{
    bench::Bench,
    embedded::{Embedded, percentile},
    events::{PLAIN, events},
    figures::{Row, Section, Unit},
    interleave::{Contestant, interleave},
    sandbar::Folder,
};

const ROUTE: &str = "[[route]]\nname = \"native\"\nfrom = { topics = [\"bench\"] }\nto = { topic = \"{topic}.out\" }\n";

pub fn run(bench: &Bench, section: &mut Section) -> Result<()> {
    let mut contestants: [Contestant<'_, 3>; 3] = [
        Box::new(|| native(bench)),
        Box::new(|| {
            let folder = Folder::new(bench.work("log"), "")?;
            folder.install(
                "bench-echo",
                "echo",
                "topics = [\"bench\"]\npublish = [\"bench.out\"]\n",
            )?;
            measure(bench, &folder, "echo")
        }),
        Box::new(|| native(bench)),
    ];
    let measured = interleave(bench.pick(3, 1), &mut contestants)?;
    let [native, sandbar, again] = &measured[..] else { unreachable!() };
    for (who, id, figures) in [
        ("control: the native handler against itself", "control", again),
        ("Sandbar", "sandbar", sandbar),
    ] {
        for (index, (what, unit)) in [
            ("publish to handled", Unit::EventsPerSecond),
            ("p50 at half load", Unit::Seconds),
            ("p99 at half load", Unit::Seconds),
        ]
        .into_iter()
        .enumerate()
        {
            let id = format!("log/{id}/{}", what.replace(' ', "-"));
            let row = Row::new(id, format!("{who}: {what}"), unit, &figures[index]);
            section.rows.push(row.beside("native", &figures[index], &native[index]));
        }
    }
    section.note(
        "Native is a route: a handler in the runtime's own code, on the same pipeline and log, which adds one header. \
         Publishers, runtime and the reader of the outputs share the cores. An event is published when it \
         is on the disk, handled when its output and its position are, in one transaction; latency is from the call that \
         publishes it until its output can be read. Half load is half of what that contestant had just handled.",
    );
    Ok(())
}

fn native(bench: &Bench) -> Result<[f64; 3]> {
    let folder = Folder::new(bench.work("log"), ROUTE)?;
    measure(bench, &folder, "route.native")
}

fn measure(bench: &Bench, folder: &Folder, name: &str) -> Result<[f64; 3]> {
    let embedded = Embedded::start(folder, 1)?;
    let plugin = embedded.plugin(name)?;
    let payload = events(1, &PLAIN).next().map(|e| e.payload).unwrap_or_default();
    let event = Outgoing::new("bench", payload);
    let throughput = embedded.flood(&plugin, &event, bench.pick(150_000, 20_000))?;
    let keyed = (0..1000).map(|n| event.clone().with_key(format!("key-{n}"))).collect();
    let time = Duration::from_secs(bench.pick(3, 1));
    let seen = embedded.drizzle(keyed, "bench.out", throughput / 2.0, time)?;
    let at = |percent| percentile(seen.iter().map(|(_, latency)| *latency), percent);
    let figures = [throughput, at(50.0), at(99.0)];
    embedded.stop()?;
    Ok(figures)
}
