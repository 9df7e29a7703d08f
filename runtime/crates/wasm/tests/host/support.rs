//! Hosts, programs and events for the tests.

use std::{
    env, fs,
    path::PathBuf,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use sandbar_core::{Call, Event, HandlerError, Outcome, Outgoing};
use sandbar_wasm::{
    Generation, HandlerKind, Host, HostConfig, LoadError, LoadSpec, LogLine, LogSink, PluginStats,
};

use crate::{PACKED, modules};

/// A guest program: a module written by hand, or one built by `make guests`.
pub fn program(name: &str) -> Bytes {
    let module = modules::path(name);
    if module.exists() {
        let encoded = modules::component(&module);
        return encoded.unwrap_or_else(|e| panic!("{}: {e:#}", module.display())).into();
    }
    program_of(&format!("program-{name}"))
}

/// A guest by the name of its file.
pub fn program_of(name: &str) -> Bytes {
    let guests = env::var_os("SANDBAR_GUESTS").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../guests")),
        PathBuf::from,
    );
    let path = guests.join(format!("{name}.wasm"));
    match fs::read(&path) {
        Ok(wasm) => wasm.into(),
        Err(e) => panic!("{}: {e}: run `make guests`", path.display()),
    }
}

/// A component written in the text format.
pub fn component(text: &str) -> Bytes {
    wat::parse_str(text).expect("the test's component parses").into()
}

/// Remembers what plugins log.
#[derive(Default, Clone)]
pub struct Log(Arc<Mutex<Vec<String>>>);

impl LogSink for Log {
    fn write(&self, line: LogLine<'_>) {
        let LogLine { plugin, level, context, message } = line;
        self.0.lock().unwrap().push(format!("{plugin} {level:?} {context}: {message}"));
    }
}

impl Log {
    pub fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

/// A small host and its plugins' log.
pub struct Bench {
    pub host: Arc<Host>,
    pub log: Log,
}

/// Room for a few instances: tests run many hosts at once.
pub fn config() -> HostConfig {
    HostConfig { max_instances: 16, ..HostConfig::default() }
}

impl Bench {
    pub fn new() -> Self {
        let log = Log::default();
        let config = HostConfig { log: Arc::new(log.clone()), ..config() };
        Self { host: Host::new(config).unwrap(), log }
    }

    /// Loads a program under its own name with default settings.
    pub async fn load(&self, name: &str) -> Arc<Generation> {
        self.load_with(name, |_| {}).await
    }

    pub async fn load_with(
        &self,
        name: &str,
        change: impl FnOnce(&mut LoadSpec),
    ) -> Arc<Generation> {
        let mut spec = LoadSpec { packed_frames: PACKED, ..LoadSpec::new(name) };
        change(&mut spec);
        match self.host.load(program(name), spec).await {
            Ok(generation) => {
                let packed = generation.inspection().handler == HandlerKind::Packed;
                assert_eq!(packed, PACKED, "{name} is called in the way that is to be tested");
                generation
            }
            Err(e) => panic!("{name} does not load: {e}"),
        }
    }

    pub async fn refused(&self, wasm: Bytes) -> LoadError {
        self.host.load(wasm, LoadSpec::new("p")).await.expect_err("it must not load")
    }

    pub fn stats(&self, name: &str) -> Arc<PluginStats> {
        self.host.stats().plugin(name)
    }
}

/// The first attempt at an event with this payload.
pub fn call(payload: &str) -> Call {
    Call { event: event(payload), attempt: 1 }
}

/// The second attempt: most hostile programs behave well then.
pub fn again(payload: &str) -> Call {
    Call { attempt: 2, ..call(payload) }
}

fn event(payload: &str) -> Event {
    Event {
        topic: "in".into(),
        partition: 3,
        position: 7,
        key: None,
        payload: Some(Bytes::copy_from_slice(payload.as_bytes())),
        headers: [].into(),
        timestamp_ms: 1,
        attributes: [].into(),
    }
}

/// Runs one call.
pub async fn run(generation: &Generation, call: Call) -> Outcome {
    let mut outcomes = generation.call(&[call]).await.results;
    assert_eq!(outcomes.len(), 1, "one call has one outcome");
    outcomes.remove(0)
}

/// Runs one event that must fail.
pub async fn fails(generation: &Generation, payload: &str) -> HandlerError {
    run(generation, call(payload)).await.expect_err("the event must fail")
}

/// The payload of the one event that a call returned.
pub fn only(outcome: &Outcome) -> String {
    match outcome.as_ref().map(|handled| &*handled.outputs) {
        Ok([Outgoing { payload: Some(payload), .. }]) => {
            String::from_utf8(payload.to_vec()).unwrap()
        }
        other => panic!("one event with a payload was expected, not {other:?}"),
    }
}

/// The attributes of the one event that a call returned.
pub fn attributes(outcome: &Outcome) -> Vec<(String, String)> {
    match outcome.as_ref().map(|handled| &*handled.outputs) {
        Ok([Outgoing { attributes, .. }]) => attributes.clone(),
        other => panic!("one event was expected, not {other:?}"),
    }
}
