//! Kafka to Kafka: Sandbar beside a loop written by hand, with the same guarantees.

use std::cell::Cell;

use anyhow::Result;

use crate::{
    bench::Bench,
    events::PLAIN,
    figures::{Row, Section, Unit},
    interleave::{Contestant, interleave},
    native::{Job, Native},
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
    pub fn new(bench: &'a Bench, name: &str, partitions: u32, events: usize) -> Result<Self> {
        let kafka = bench.kafka()?;
        let input = format!("bench-{name}-{partitions}");
        let output = format!("{input}.out");
        kafka.fill(&input, partitions, events, &PLAIN)?;
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

    fn measure(
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
    pub fn native(&self, delivery: Delivery) -> Result<f64> {
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
        let rate = self.measure(delivery, &group, outputs);
        // why it ended says more than that nothing came
        native.stop()?;
        rate
    }

    /// A runtime with one plugin, with the settings that it comes with.
    ///
    /// # Errors
    /// When it does not come to an end, or an event fails.
    pub fn sandbar(&self, folder: &Folder, delivery: Delivery) -> Result<f64> {
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
        let rate = self.measure(delivery, &group, outputs);
        // that events failed says more than that nothing came
        sandbar.handled()?;
        rate
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
    for partitions in [1, 6] {
        let track = Track::new(bench, "kafka", partitions, bench.pick(200_000, 30_000))?;
        let folder = track.folder("kafka")?;
        for delivery in [Delivery::AtLeastOnce, Delivery::ExactlyOnce] {
            let (track, folder) = (&track, &folder);
            let mut contestants: [Contestant<'_, 1>; 3] = [
                Box::new(move || Ok([track.native(delivery)?])),
                Box::new(move || Ok([track.sandbar(folder, delivery)?])),
                Box::new(move || Ok([track.native(delivery)?])),
            ];
            let measured = interleave(bench.pick(5, 1), &mut contestants)?;
            let [[native], [sandbar], [again]] = &measured[..] else { unreachable!() };
            let name = delivery.name();
            let what = |who: &str| format!("{partitions} partitions, {name}: {who}");
            let row = |id: String, who: &str, values: &[f64]| {
                Row::new(id, what(who), Unit::EventsPerSecond, values)
                    .beside("native", values, native)
            };
            let id = format!("kafka/{partitions}/{name}");
            section.rows.push(row(
                format!("{id}/control"),
                "control, native against itself",
                again,
            ));
            section.rows.push(row(id, "Sandbar, settings as they come", sandbar));
        }
        track.delete()?;
    }
    Ok(())
}
