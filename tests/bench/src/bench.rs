//! What all suites are given.

use std::{cell::OnceCell, fs, path::PathBuf};

use anyhow::{Context, Result};
use clap::Parser;
use sandbar_testkit::root;

use crate::broker::Kafka;

/// Measures Sandbar beside native references and peers.
///
/// Needs the components of `make guests` and a `sandbar` beside this program, or SANDBAR_GUESTS
/// and SANDBAR_BIN; `make bench` builds all that.
#[derive(Debug, Parser)]
#[command(name = "sandbar-bench", version)]
pub struct Options {
    /// Fewer events and rounds, for under five minutes: shows that all works, and no figure
    /// to be quoted
    #[arg(long)]
    pub quick: bool,
    /// Suites to run [default: all]
    #[arg(long, value_delimiter = ',')]
    pub only: Vec<String>,
    /// Lists the suites
    #[arg(long)]
    pub list: bool,
    /// Folder of bench.md and bench.json
    #[arg(long, default_value = "target/bench")]
    pub out: PathBuf,
    /// A file that the tables are put into as well, between its marks
    #[arg(long)]
    pub into: Option<PathBuf>,
    /// A Kafka broker to measure on, host:port [default: one of its own]
    #[arg(long, env = "SANDBAR_KAFKA")]
    pub kafka: Option<String>,
    /// Port of the broker of its own; its controller takes the next one
    #[arg(long, default_value_t = 29392)]
    pub port: u16,
    /// Runs a program that was built without optimisation, to try the suites out
    #[arg(long, hide = true)]
    pub unoptimised: bool,
}

/// Options, a folder to work in, and a broker once somebody needs it.
pub struct Bench {
    options: Options,
    work: PathBuf,
    kafka: OnceCell<Kafka>,
}

impl Bench {
    /// # Errors
    /// Where the folder to work in cannot be made.
    pub fn new(options: Options) -> Result<Self> {
        let work = options.out.join("work");
        if work.exists() {
            fs::remove_dir_all(&work)?;
        }
        fs::create_dir_all(&work)?;
        let work = work.canonicalize()?;
        Ok(Self { options, work, kafka: OnceCell::new() })
    }

    pub fn options(&self) -> &Options {
        &self.options
    }

    /// One or the other, by whether it has to be quick.
    pub fn pick<T>(&self, full: T, quick: T) -> T {
        if self.options.quick { quick } else { full }
    }

    /// A path in the folder to work in.
    pub fn work(&self, name: &str) -> PathBuf {
        self.work.join(name)
    }

    /// The broker.
    ///
    /// # Errors
    /// Where it cannot be started.
    pub fn kafka(&self) -> Result<&Kafka> {
        if let Some(kafka) = self.kafka.get() {
            return Ok(kafka);
        }
        let kafka = match &self.options.kafka {
            Some(address) => Kafka::at(address.clone()),
            None => Kafka::start(&self.work("kafka"), self.options.port)
                .context("no Kafka to measure on (Java 17 and Maven start one)")?,
        };
        Ok(self.kafka.get_or_init(|| kafka))
    }

    /// A file of the repository.
    pub fn file(&self, path: &str) -> PathBuf {
        root().join(path)
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        // the broker's data lie in there
        drop(self.kafka.take());
        let _ = fs::remove_dir_all(&self.work);
    }
}
