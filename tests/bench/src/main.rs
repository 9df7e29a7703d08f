//! `sandbar-bench`: what Sandbar costs, each figure beside the same work without it.
//!
//! Suites run one after the other; within one, those who are compared take turns
//! ([`interleave`]), and one of them appears twice where that shows how noisy the machine is.

mod bench;
mod broker;
mod embedded;
mod events;
mod figures;
mod goals;
mod interleave;
mod machine;
mod native;
mod peers;
mod processor;
mod progress;
mod report;
mod sandbar;
mod suites;

use std::{fs, path::Path, process::ExitCode, time::Instant};

use anyhow::{Context, Result, ensure};
use clap::Parser;

use crate::{
    bench::{Bench, Options},
    machine::Machine,
    report::{Measured, Report},
    suites::SUITES,
};

/// That of `sandbar`.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> Result<ExitCode> {
    let options = Options::parse();
    ensure!(
        !cfg!(debug_assertions) || options.unoptimised,
        "measure the optimised program: `make bench`"
    );
    let chosen = suites::chosen(&options.only)?;
    if options.list {
        for suite in SUITES {
            println!("{:<10} {}", suite.name, suite.title);
        }
        return Ok(ExitCode::SUCCESS);
    }
    let (began, machine) = (Instant::now(), Machine::here());
    let bench = Bench::new(options)?;
    let mut measured = Vec::new();
    for suite in chosen {
        eprintln!("== {} ({:.0} s so far)", suite.title, began.elapsed().as_secs_f64());
        let (mut section, start) = (figures::Section::default(), Instant::now());
        // what was measured before it broke off is worth keeping, and so are the other suites
        let error = (suite.run)(&bench, &mut section).err().map(|error| format!("{error:#}"));
        if let Some(error) = &error {
            eprintln!("   broke off: {error}");
        }
        let seconds = start.elapsed().as_secs();
        measured.push(Measured { name: suite.name, title: suite.title, seconds, section, error });
    }
    let options = bench.options();
    let report = Report::new(machine, options.quick, began.elapsed(), measured);
    let text = report.markdown();
    println!("{text}");
    fs::create_dir_all(&options.out)?;
    write(&options.out.join("bench.md"), &text)?;
    write(&options.out.join("bench.json"), &serde_json::to_string_pretty(&report)?)?;
    if let Some(file) = &options.into {
        let page =
            fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        write(file, &report::put_into(&page, &text)?)?;
    }
    let broke_off = report.suites.iter().any(|suite| suite.error.is_some());
    Ok(if broke_off { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn write(file: &Path, text: &str) -> Result<()> {
    fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))?;
    eprintln!("written: {}", file.display());
    Ok(())
}
