//! Other programs on the same topic, in the same run, with their configuration in `peers/`.

use std::{
    fs::File,
    path::PathBuf,
    process::{Child, Command},
};

use anyhow::{Context, Result};

use crate::{
    bench::Bench,
    events::PLAIN,
    figures::{Row, Section, Unit},
    interleave::{Contestant, interleave},
    progress::rate,
    suites::kafka::{Delivery, Track},
};

/// Built by `make bench` from `peers/`, beside this program.
const BENTHOS: &str = "bench-benthos";

pub fn run(bench: &Bench, section: &mut Section) -> Result<()> {
    if program()?.is_file() {
        for partitions in [1, 6] {
            let track =
                Track::new(bench, "peers", partitions, bench.pick(200_000, 30_000), &PLAIN)?;
            measure(bench, &track, partitions, section)?;
            track.delete()?;
        }
    } else {
        section.note(
            "Benthos is not measured: it could not be built, which takes Go 1.26 and its modules.",
        );
    }
    section.note(
        "Benthos 4.60 is the engine of Redpanda Connect, with its Bloblang mapping; configuration: \
         `tests/bench/peers/mapping.yaml`. Its Kafka input and output are ours, upon the client that Redpanda \
         Connect uses (`tests/bench/peers/main.go`): Redpanda Connect itself is not all under an open-source \
         licence, and the module `redpanda-data/connect/v4` is refused by the module proxy that this was built \
         with. Its wasm processor is part of that module, so there is no figure for it.",
    );
    section.note(
        "Conduit is not measured: of the versions asked for the proxy has `conduitio/conduit` v0.14.0 only, and the \
         Go checksum database does not know that one; we run no program whose source cannot be verified.",
    );
    Ok(())
}

fn measure(bench: &Bench, track: &Track<'_>, partitions: u32, section: &mut Section) -> Result<()> {
    let folder = track.folder("peers")?;
    let folder = &folder;
    let mut contestants: [Contestant<'_, 1>; 3] = [
        Box::new(move || Ok([benthos(bench, track)?])),
        Box::new(move || Ok([track.sandbar(folder, Delivery::AtLeastOnce)?.rate])),
        Box::new(move || Ok([track.native(Delivery::AtLeastOnce)?.rate])),
    ];
    let measured = interleave(bench.pick(3, 1), &mut contestants)?;
    let [[benthos], [sandbar], [native]] = &measured[..] else { unreachable!() };
    let mut row = |id: String, who: &str, values: &[f64]| {
        let what = format!("{partitions} partitions, at-least-once: {who}");
        let row = Row::new(id, what, Unit::EventsPerSecond, values);
        section.rows.push(row.beside("Benthos mapping", values, benthos));
    };
    row(format!("peers/{partitions}/benthos"), "Sandbar", sandbar);
    row(format!("peers/{partitions}/native"), "native", native);
    Ok(())
}

fn program() -> Result<PathBuf> {
    Ok(std::env::current_exe()?.with_file_name(BENTHOS))
}

/// A child that ends with this.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn benthos(bench: &Bench, track: &Track<'_>) -> Result<f64> {
    let outputs = track.outputs()?;
    let log = File::create(bench.work("benthos.log"))?;
    let running = Command::new(program()?)
        .args(["run"])
        .arg(bench.file("tests/bench/peers/mapping.yaml"))
        .env("BROKER", &track.brokers)
        .env("INPUT", &track.input)
        .env("OUTPUT", &track.output)
        .env("GROUP", track.group("benthos"))
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn();
    let _running = Running(running.context("cannot start Benthos")?);
    rate(track.events, outputs)
}
