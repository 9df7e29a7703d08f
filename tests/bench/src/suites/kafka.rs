//! Kafka to Kafka: Sandbar beside a loop written by hand, with the same guarantees.

use std::cell::Cell;

use anyhow::Result;

use crate::{
    bench::Bench,
    events::{MANY_KEYS, PLAIN, Shape},
    figures::{Row, Section, Unit},
    interleave::{Contestant, interleave},
    native::{Job, Native},
    processor,
    progress::rate,
    sandbar::{Folder, Sandbar},
};

/// What outputs and positions have to do with each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    AtLeastOnce,
    ExactlyOnce,
}

impl Delivery {
    fn name(self) -> &'static str {
        match self {
            Self::AtLeastOnce => "at-least-once",
            Self::ExactlyOnce => "exactly-once",
        }
    }
}

/// What one pass over all events came to.
#[derive(Debug, Clone, Copy)]
pub struct Pass {
    /// Events a second.
    pub rate: f64,
    /// Processor time of who passed them on, seconds an event.
    pub own: f64,
    /// That of the broker meanwhile; not a number where it is not ours.
    pub broker: f64,
}

impl Pass {
    fn figures(self) -> [f64; 3] {
        [self.rate, self.own, self.broker]
    }
}

/// A topic with events, and one for what becomes of them.
pub struct Track<'a> {
    bench: &'a Bench,
    pub brokers: String,
    pub input: String,
    pub output: String,
    pub events: u64,
    runs: Cell<u32>,
}

impl<'a> Track<'a> {
    /// Fills a topic of `partitions` partitions.
    ///
    /// # Errors
    /// Where the broker does not take it.
    pub fn new(
        bench: &'a Bench,
        name: &str,
        partitions: u32,
        events: usize,
        shape: &Shape,
    ) -> Result<Self> {
        let kafka = bench.kafka()?;
        let input = format!("bench-{name}-{partitions}");
        let output = format!("{input}.out");
        kafka.fill(&input, partitions, events, shape)?;
        kafka.create(&output, partitions)?;
        let (brokers, events) = (kafka.address.clone(), events as u64);
        Ok(Self { bench, brokers, input, output, events, runs: Cell::new(0) })
    }

    /// A folder for a runtime on the broker.
    ///
    /// # Errors
    /// Where it cannot be made.
    pub fn folder(&self, name: &str) -> Result<Folder> {
        let config = format!(
            "[connections.kafka]\ntype = \"kafka\"\nbrokers = \"{}\"\ncreate-topics = true\n",
            self.brokers
        );
        Folder::new(self.bench.work(&format!("{name}-{}", self.input)), &config)
    }

    /// A group that has read nothing yet.
    pub fn group(&self, who: &str) -> String {
        self.runs.set(self.runs.get() + 1);
        format!("bench-{who}-{}-{}", self.input, self.runs.get())
    }

    /// Events a second that come out, until all have.
    ///
    /// # Errors
    /// When none come any more.
    pub fn outputs(&self) -> Result<impl FnMut() -> Result<u64> + use<>> {
        let observer = self.bench.kafka()?.observe(&self.output, "bench-observer")?;
        let before = observer.written()?;
        Ok(move || Ok(observer.written()? - before))
    }

    /// Watches what process `pid` does until it is done.
    fn measure(
        &self,
        delivery: Delivery,
        group: &str,
        pid: u32,
        outputs: impl FnMut() -> Result<u64>,
    ) -> Result<Pass> {
        let broker = self.bench.kafka()?.pid();
        let taken = || -> Result<[f64; 2]> {
            Ok([processor::time(pid)?, broker.map_or(Ok(f64::NAN), processor::time)?])
        };
        let before = taken()?;
        let rate = self.rate(delivery, group, outputs)?;
        let after = taken()?;
        let [own, broker] = [0, 1].map(|of| (after[of] - before[of]) / self.events as f64);
        Ok(Pass { rate, own, broker })
    }

    fn rate(
        &self,
        delivery: Delivery,
        group: &str,
        mut outputs: impl FnMut() -> Result<u64>,
    ) -> Result<f64> {
        if delivery == Delivery::AtLeastOnce {
            return rate(self.events, outputs);
        }
        // a transaction's outputs and positions become visible together
        let observer = self.bench.kafka()?.observe(&self.input, group)?;
        let rate = rate(self.events, || observer.committed())?;
        anyhow::ensure!(outputs()? >= self.events, "committed without its outputs");
        Ok(rate)
    }

    /// A loop written by hand.
    ///
    /// # Errors
    /// When it does not come to an end.
    pub fn native(&self, delivery: Delivery) -> Result<Pass> {
        let group = self.group("native");
        let outputs = self.outputs()?;
        let job = Job {
            brokers: self.brokers.clone(),
            input: self.input.clone(),
            output: self.output.clone(),
            group: group.clone(),
        };
        let native = match delivery {
            Delivery::AtLeastOnce => Native::at_least_once(job),
            Delivery::ExactlyOnce => Native::exactly_once(job),
        };
        let pass = self.measure(delivery, &group, std::process::id(), outputs);
        // why it ended says more than that nothing came
        native.stop()?;
        pass
    }

    /// A runtime with one plugin, with the settings that it comes with.
    ///
    /// # Errors
    /// When it does not come to an end, or an event fails.
    pub fn sandbar(&self, folder: &Folder, delivery: Delivery) -> Result<Pass> {
        let group = self.group("sandbar");
        let settings = format!(
            "topics = [\"{}\"]\npublish = [\"{}\"]\ngroup = \"{group}\"\ndelivery = \"{}\"\n",
            self.input,
            self.output,
            delivery.name()
        );
        folder.only("bench-echo", "echo", &settings)?;
        let outputs = self.outputs()?;
        let sandbar = Sandbar::start(folder, None)?;
        let pass = self.measure(delivery, &group, sandbar.runtime().pid(), outputs);
        // that events failed says more than that nothing came
        sandbar.handled()?;
        pass
    }

    /// Gives the disk back.
    ///
    /// # Errors
    /// While the broker is away.
    pub fn delete(self) -> Result<()> {
        self.bench.kafka()?.delete(&[&self.input, &self.output])
    }
}

pub fn run(bench: &Bench, section: &mut Section) -> Result<()> {
    let both = [Delivery::AtLeastOnce, Delivery::ExactlyOnce];
    let one = Load { id: "1", what: "1 partition", partitions: 1, shape: &PLAIN };
    let six = Load { id: "6", what: "6 partitions", partitions: 6, shape: &PLAIN };
    let (id, what) = ("6-many-keys", "6 partitions, 100,000 keys");
    rows(bench, section, one, &both)?;
    rows(bench, section, six, &both)?;
    rows(bench, section, Load { id, what, shape: &MANY_KEYS, ..six }, &both[..1])?;
    section.note(
        "1,000 keys where nothing else is said: at least once, the next event of a key is begun when the output of the one \
         before is durable. Processor time is that of all threads of a process, from when it is ready until all is written, by \
         event; the native loop's holds that of the observer, who asks twenty times a second.",
    );
    Ok(())
}

/// A topic to be passed on.
#[derive(Clone, Copy)]
struct Load {
    id: &'static str,
    what: &'static str,
    partitions: u32,
    shape: &'static Shape,
}

fn rows(bench: &Bench, section: &mut Section, load: Load, deliveries: &[Delivery]) -> Result<()> {
    let Load { id: load, what: topic, partitions, shape } = load;
    let track = Track::new(
        bench,
        &format!("kafka-{load}"),
        partitions,
        bench.pick(200_000, 30_000),
        shape,
    )?;
    let folder = track.folder("kafka")?;
    for &delivery in deliveries {
        let (track, folder) = (&track, &folder);
        let mut contestants: [Contestant<'_, 3>; 3] = [
            Box::new(move || Ok(track.native(delivery)?.figures())),
            Box::new(move || Ok(track.sandbar(folder, delivery)?.figures())),
            Box::new(move || Ok(track.native(delivery)?.figures())),
        ];
        let measured = interleave(bench.pick(3, 1), &mut contestants)?;
        let [native, sandbar, again] = &measured[..] else { unreachable!() };
        let how = delivery.name();
        let mut row = |id: &str, who: &str, unit, values: &[f64], reference: &[f64]| {
            let what = format!("{topic}, {how}: {who}");
            let row = Row::new(format!("kafka/{load}/{how}{id}"), what, unit, values);
            section.rows.push(row.beside("native", values, reference));
        };
        let per_second = Unit::EventsPerSecond;
        row("/control", "control, native against itself", per_second, &again[0], &native[0]);
        row("", "Sandbar, settings as they come", per_second, &sandbar[0], &native[0]);
        let own = "Sandbar's processor time an event";
        row("/processor", own, Unit::Seconds, &sandbar[1], &native[1]);
        if native[2].iter().all(|time| time.is_finite()) {
            row("/broker", "the broker's meanwhile", Unit::Seconds, &sandbar[2], &native[2]);
        }
    }
    track.delete()
}
