//! Cases: what a plugin is to make of events, written down beside it.
//!
//! `cases.toml`, or every `*.toml` in `cases/`, holds [`text`] that [`read`] turns into
//! [`Case`]s with the place of every mistake. A [`Runner`] gives their events to the plugin on
//! the production engine, without a broker, and takes down what it [`Answer`]s; [`compare`]
//! tells that from what was expected, and [`update`] writes it into the file instead.

mod answer;
mod compare;
mod http;
mod payload;
mod read;
mod run;
mod structure;
pub mod text;
mod update;
mod write;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    time::Duration,
};

use bytes::Bytes;
use sandbar_core::{Event, Outgoing};
use sandbar_wasm::{Grant, Limits};

pub use answer::{Answer, Kind, LogJson, OutputJson};
pub use compare::{Difference, compare, expected_of};
pub use http::{Fake, FakeRequest, RequestJson, unanswered};
pub use read::{find, read};
pub use run::{Ran, Runner, Session};
pub use update::update;
pub use write::write;

/// One case: a plugin with its settings, and the events that it gets one after the other.
#[derive(Debug, Clone)]
pub struct Case {
    /// What it shows.
    pub name: String,
    /// The file that it is written in.
    pub file: PathBuf,
    /// Its place among the cases of the file, from 0.
    pub index: usize,
    /// Line of the file, from 1.
    pub line: usize,
    /// How the plugin is loaded.
    pub settings: Settings,
    /// The error with which the plugin is expected not to start, or a part of it.
    pub start_error: Option<String>,
    /// The events; none where the plugin is not to start.
    pub steps: Vec<Step>,
    /// Whether the file has the steps under `step`, or one at the case itself.
    pub in_steps: bool,
}

/// What an operator would set.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What the plugin reads as its configuration.
    pub config: BTreeMap<String, String>,
    /// Secrets that it may read.
    pub secrets: BTreeMap<String, String>,
    /// What it remembers to begin with.
    pub state: BTreeMap<String, Bytes>,
    /// How its HTTP requests are answered.
    pub http: Vec<Fake>,
    /// What it may reach; `None`: whatever it imports.
    pub grants: Option<BTreeSet<Grant>>,
    /// Where it may publish to; `None`: where it says it does.
    pub publish: Option<Vec<String>>,
    /// What it may use.
    pub limits: Limits,
    /// Time since 1970 began (UTC) that it reads from its clock.
    pub time: Duration,
}

impl Case {
    /// A case of one event that nothing is expected of yet, at the time of the event.
    pub fn of_event(event: Event, config: BTreeMap<String, String>) -> Self {
        let time = Duration::from_millis(event.timestamp_ms);
        let expected = Expected {
            verdict: Kind::Ok,
            code: None,
            message: None,
            after: None,
            outputs: Vec::new(),
            published: None,
            state: None,
            metrics: None,
            log: None,
        };
        Self {
            name: event.id(),
            file: PathBuf::new(),
            index: 0,
            line: 0,
            settings: Settings { time, ..Settings::new(config) },
            start_error: None,
            steps: vec![Step { event, attempt: 1, time: None, expected }],
            in_steps: false,
        }
    }
}

impl Settings {
    /// The defaults, with a configuration.
    pub fn new(config: BTreeMap<String, String>) -> Self {
        let limits = Limits::default();
        Self {
            config,
            secrets: BTreeMap::new(),
            state: BTreeMap::new(),
            http: Vec::new(),
            grants: None,
            publish: None,
            limits,
            time: read::TIME,
        }
    }
}

/// One event, and what is to come of it.
#[derive(Debug, Clone)]
pub struct Step {
    /// The event.
    pub event: Event,
    /// Which attempt at it this is, from 1.
    pub attempt: u32,
    /// What the clock shows from now on, where it moves on before this event.
    pub time: Option<Duration>,
    /// What is to come of it.
    pub expected: Expected,
}

/// What is to come of an event. What is `None` may be anything.
#[derive(Debug, Clone, PartialEq)]
pub struct Expected {
    /// How the attempt ends.
    pub verdict: Kind,
    /// Code of the failure.
    pub code: Option<String>,
    /// Message of the failure, or a part of it.
    pub message: Option<String>,
    /// When the handler wants to have the event again.
    pub after: Option<Duration>,
    /// What it publishes, all of it, in order.
    pub outputs: Vec<ExpectedOutput>,
    /// What it publishes at once, all of it, in order.
    pub published: Option<Vec<ExpectedOutput>>,
    /// All that it remembers afterwards.
    pub state: Option<BTreeMap<String, Content>>,
    /// All that it counts; what is left out is 0.
    pub metrics: Option<BTreeMap<String, f64>>,
    /// What it logs, all of it, in order: `LEVEL: MESSAGE`.
    pub log: Option<Vec<String>>,
}

/// An event that is to be published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpectedOutput {
    /// The event.
    pub event: Outgoing,
    /// Whether the payload is compared as JSON, where it is: by what it says, not byte for byte.
    pub as_json: bool,
}

/// Bytes that are to be found somewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// The bytes.
    pub bytes: Bytes,
    /// As at an output.
    pub as_json: bool,
}

impl Content {
    /// Whether `found` says the same.
    fn says(&self, found: &[u8]) -> bool {
        let mut differences = Vec::new();
        compare::content("", Some(&self.bytes), Some(found), self.as_json, &mut differences);
        differences.is_empty()
    }
}
