//! The suites: each measures one thing.

mod call;
mod growth;
pub mod kafka;
mod languages;
mod log;
mod memory;
mod parallel;
mod plugins;
mod reload;
mod start;
mod trap;

use anyhow::{Result, bail};

use crate::{bench::Bench, figures::Section, peers};

/// One suite.
pub struct Suite {
    pub name: &'static str,
    pub title: &'static str,
    /// Adds what it measures to a section, row by row.
    pub run: fn(&Bench, &mut Section) -> Result<()>,
}

/// All, in the order in which they run.
pub const SUITES: &[Suite] = &[
    Suite { name: "call", title: "The sandbox: time of an event in the handler", run: call::run },
    Suite { name: "trap", title: "After a trap", run: trap::run },
    Suite {
        name: "languages",
        title: "A real plugin in each language, a webhook of 10 KB",
        run: languages::run,
    },
    Suite { name: "kafka", title: "Kafka to Kafka, 1 KiB", run: kafka::run },
    Suite { name: "peers", title: "Beside other programs, Kafka to Kafka, 1 KiB", run: peers::run },
    Suite { name: "log", title: "The embedded log, publish to handled, 1 KiB", run: log::run },
    Suite {
        name: "parallel",
        title: "Parallel Consumer's workload: 10,000 events, 0 to 5 ms of work, one partition",
        run: parallel::run,
    },
    Suite { name: "start", title: "From start to the first event handled", run: start::run },
    Suite { name: "reload", title: "A reload under load", run: reload::run },
    Suite { name: "plugins", title: "Many plugins on one topic", run: plugins::run },
    Suite { name: "growth", title: "As work grows, on the embedded log", run: growth::run },
    Suite { name: "memory", title: "Memory over a backlog", run: memory::run },
];

/// Those that were asked for; all where none was.
///
/// # Errors
/// For a name that is none.
pub fn chosen(names: &[String]) -> Result<Vec<&'static Suite>> {
    for name in names {
        if !SUITES.iter().any(|suite| suite.name == name) {
            let all: Vec<_> = SUITES.iter().map(|suite| suite.name).collect();
            bail!("there is no suite `{name}`: choose of {}", all.join(", "));
        }
    }
    Ok(SUITES.iter().filter(|s| names.is_empty() || names.iter().any(|n| n == s.name)).collect())
}
