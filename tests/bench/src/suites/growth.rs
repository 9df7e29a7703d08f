//! Throughput on the embedded log as payloads, partitions, keys, window and processors change.

use std::cell::RefCell;

use anyhow::Result;

use crate::{
    bench::Bench,
    events::{PLAIN, Shape},
    figures::{Row, Section, Unit},
    interleave::{Contestant, interleave},
    progress::rate,
    sandbar::{Folder, Sandbar},
};

/// What is varied, and the rest as it usually is.
#[derive(Debug, Clone, Copy)]
struct Setup {
    shape: Shape,
    partitions: u32,
    in_flight: usize,
    events: usize,
    plugin: Plugin,
}

/// What is compared with a route, or with itself.
#[derive(Debug, Clone, Copy)]
struct Plugin {
    component: &'static str,
    settings: &'static str,
}

const ECHO: Plugin = Plugin { component: "bench-echo", settings: "" };
/// One that is busy for about 0.1 ms with 1 KiB.
const BUSY: Plugin = Plugin {
    component: "bench-work",
    settings: "grants = [\"clocks\"]\nconfig = { rounds = \"50\" }\n",
};

/// A log with events, worked on again and again under names that have not read it yet.
struct Ground {
    folder: Folder,
    setup: Setup,
    runs: u32,
}

impl Ground {
    fn new(bench: &Bench, setup: Setup) -> Result<Self> {
        let folder = Folder::new(bench.work("growth"), "")?;
        folder.fill("bench", setup.partitions, setup.events, &setup.shape)?;
        Ok(Self { folder, setup, runs: 0 })
    }

    fn sandbar(&mut self, cores: Option<&str>) -> Result<f64> {
        let name = self.next("plugin");
        let Plugin { component, settings } = self.setup.plugin;
        let settings = format!(
            "topics = [\"bench\"]\npublish = [\"bench.out\"]\nmax-in-flight = {}\n{settings}",
            self.setup.in_flight
        );
        self.folder.configure(&self.connection())?;
        self.folder.only(component, &name, &settings)?;
        self.measure(&name, cores)
    }

    /// By a route, which is a handler of the runtime's own on the same pipeline.
    fn native(&mut self) -> Result<f64> {
        let name = self.next("native");
        let route = format!(
            "[[route]]\nname = \"{name}\"\nfrom = {{ topics = [\"bench\"] }}\nto = {{ topic = \"{{topic}}.out\" }}\n\
             max-in-flight = {}\n",
            self.setup.in_flight
        );
        self.folder.configure(&format!("{}{route}", self.connection()))?;
        self.folder.clear()?;
        self.measure(&format!("route.{name}"), None)
    }

    fn next(&mut self, name: &str) -> String {
        self.runs += 1;
        format!("{name}{}", self.runs)
    }

    fn connection(&self) -> String {
        format!("[connections.log]\ntype = \"log\"\npartitions = {}\n", self.setup.partitions)
    }

    fn measure(&self, name: &str, cores: Option<&str>) -> Result<f64> {
        let sandbar = Sandbar::start(&self.folder, cores)?;
        let count = || Ok(sandbar.handled()?.get(name).copied().unwrap_or(0));
        rate(self.setup.events as u64, count)
    }
}

pub fn run(bench: &Bench, section: &mut Section) -> Result<()> {
    let events = bench.pick(30_000, 6_000);
    let usual = Setup { shape: PLAIN, partitions: 1, in_flight: 1024, events, plugin: ECHO };
    let shaped = |payload, keys| Shape { payload, keys };
    let mut setups: Vec<(String, Setup)> = Vec::new();
    for payload in [100, 1024, 16_384, 65_536] {
        // as many bytes are enough
        let events = events.min(events * 4096 / payload).max(events / 40);
        let setup = Setup { shape: shaped(payload, 1000), events, ..usual };
        setups.push((format!("{payload} B payloads"), setup));
    }
    for partitions in [2, 6, 12] {
        setups.push((format!("{partitions} partitions"), Setup { partitions, ..usual }));
    }
    for keys in [1, 10, 100, 100_000] {
        // one key is one event at a time
        let events = if keys == 1 { events / 10 } else { events };
        let setup = Setup { shape: shaped(1024, keys), events, ..usual };
        setups.push((format!("{keys} keys"), setup));
    }
    for in_flight in [16, 128, 8192] {
        let events = if in_flight == 16 { events / 10 } else { events };
        setups.push((format!("max-in-flight {in_flight}"), Setup { in_flight, events, ..usual }));
    }
    for (what, setup) in setups {
        let ground = RefCell::new(Ground::new(bench, setup)?);
        let mut contestants: [Contestant<'_, 1>; 2] = [
            Box::new(|| Ok([ground.borrow_mut().native()?])),
            Box::new(|| Ok([ground.borrow_mut().sandbar(None)?])),
        ];
        let measured = interleave(bench.pick(3, 1), &mut contestants)?;
        let [[native], [sandbar]] = &measured[..] else { unreachable!() };
        let id = format!("growth/{}", what.replace(' ', "-"));
        let row = Row::new(id, what, Unit::EventsPerSecond, sandbar);
        section.rows.push(row.beside("native", sandbar, native));
    }
    let two = Setup { partitions: 2, ..usual };
    cores(bench, section, "growth/cores/log", "the log as the limit", two)?;
    let busy = Setup { events: events / 3, plugin: BUSY, ..two };
    cores(bench, section, "growth/cores", "a plugin of 0.1 ms", busy)?;
    section.note(
        "Where nothing else is said: payloads of 1,024 B, 1,000 keys, 1 partition, max-in-flight 1024, both cores, one plugin \
         that passes events on. A handled event is on the disk with its output. Native is a route, as above.",
    );
    Ok(())
}

/// Two processors against one.
fn cores(bench: &Bench, section: &mut Section, id: &str, what: &str, setup: Setup) -> Result<()> {
    let ground = RefCell::new(Ground::new(bench, setup)?);
    let mut contestants: [Contestant<'_, 1>; 2] = [
        Box::new(|| Ok([ground.borrow_mut().sandbar(Some("0"))?])),
        Box::new(|| Ok([ground.borrow_mut().sandbar(Some("0,1"))?])),
    ];
    let measured = interleave(bench.pick(5, 1), &mut contestants)?;
    let [[one], [two]] = &measured[..] else { unreachable!() };
    let what = format!("two processors, 2 partitions, {what}");
    let row = Row::new(id, what, Unit::EventsPerSecond, two);
    section.rows.push(row.beside("one processor", two, one));
    Ok(())
}
