//! What the sandbox costs an event, without a broker: the way from a call to its outcome.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use async_trait::async_trait;
use bytes::Bytes;
use sandbar_core::{Call, Event, HandledBy, Handler, Header, Outcomes, Outgoing};
use sandbar_testkit::guest;
use sandbar_wasm::{HandlerSlot, Host, HostConfig, Isolation, LoadSpec};
use tokio::runtime::Runtime;

use crate::{
    bench::Bench,
    figures::{Row, Section, Unit},
    interleave::{Contestant, interleave},
};

/// Components that do the same: built without an SDK, by the Rust SDK, and by it for batches.
const GUESTS: [&str; 3] = ["program-echo", "bench-echo", "bench-echo-batch"];
const SIZES: [usize; 3] = [100, 1024, 65_536];
const TOGETHER: [usize; 3] = [1, 10, 100];

/// One who handles events, and how they are handed over.
struct Entrant {
    id: String,
    what: String,
    handler: Arc<dyn Handler>,
    together: usize,
}

pub fn run(bench: &Bench, section: &mut Section) -> Result<()> {
    // one thread: what is measured is the cost of an event, not how many fit side by side
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let host = Host::new(HostConfig::default())?;
    for size in SIZES {
        let mut entrants = vec![native(size, 1), native(size, 1)];
        for name in GUESTS {
            // without an SDK it stands for what any toolchain makes
            let typed = name == "program-echo";
            let how = |spec: &mut LoadSpec| spec.packed_frames = !typed;
            let (handler, kind) = runtime.block_on(load(&host, name, how))?;
            for together in TOGETHER {
                let how = if typed { "typed, no SDK" } else { &*kind };
                let what = format!("warm, {how} (`{name}`), {together} together");
                let id = format!("call/{kind}/{size}/{together}");
                entrants.push(Entrant { id, what, handler: handler.clone(), together });
            }
        }
        for (isolation, together) in [(Isolation::PerEvent, 1), (Isolation::PerBatch, 100)] {
            let how = |spec: &mut LoadSpec| spec.isolation = isolation;
            let (handler, kind) = runtime.block_on(load(&host, "bench-echo", how))?;
            let life = if isolation == Isolation::PerEvent { "per-event" } else { "per-batch" };
            let what = format!("fresh instance {life}, {kind}, {together} together");
            entrants.push(Entrant {
                id: format!("call/{life}/{size}/{together}"),
                what,
                handler,
                together,
            });
        }
        measure(bench, &runtime, section, size, entrants)?;
    }
    section.note(
        "The native handler copies the same strings and bytes in and out. `each` is the typed call that any \
         toolchain makes, one event a call; limits, deadline and epochs are on.",
    );
    Ok(())
}

fn native(size: usize, together: usize) -> Entrant {
    Entrant {
        id: format!("call/native/{size}"),
        what: "control: the native handler against itself".into(),
        handler: Arc::new(Native::new()),
        together,
    }
}

fn measure(
    bench: &Bench,
    runtime: &Runtime,
    section: &mut Section,
    size: usize,
    entrants: Vec<Entrant>,
) -> Result<()> {
    let time = Duration::from_millis(bench.pick(100, 20));
    let mut contestants: Vec<Contestant<'_, 1>> = Vec::new();
    for Entrant { handler, together, .. } in &entrants {
        let calls: Vec<Call> = (0..*together).map(|_| call(size)).collect();
        let run = move |time| {
            let calls: Vec<&Call> = calls.iter().collect();
            runtime.block_on(spin(&**handler, &calls, time))
        };
        run(time / 4)?;
        contestants.push(Box::new(move || Ok([run(time)?])));
    }
    let measured = interleave(bench.pick(7, 3), &mut contestants)?;
    let [reference] = &measured[0];
    for (entrant, [values]) in entrants.iter().zip(&measured).skip(1) {
        let what = format!("{} B: {}", size, entrant.what);
        let row = Row::new(&entrant.id, what, Unit::Seconds, values);
        section.rows.push(row.beside("native", values, reference));
    }
    Ok(())
}

/// Seconds an event.
async fn spin(handler: &dyn Handler, calls: &[&Call], time: Duration) -> Result<f64> {
    let (began, mut events) = (Instant::now(), 0);
    while began.elapsed() < time {
        // enough of them that the clock itself costs nothing
        for _ in 0..16_usize.div_ceil(calls.len()) {
            let outcomes = handler.handle(calls).await;
            events += calls.len();
            ensure!(outcomes.results.iter().all(Result::is_ok), "{:?}", outcomes.results);
        }
    }
    Ok(began.elapsed().as_secs_f64() / events as f64)
}

/// A slot served by `name`, loaded as `how` says; and how it takes events.
async fn load(
    host: &Arc<Host>,
    name: &str,
    how: impl FnOnce(&mut LoadSpec),
) -> Result<(Arc<dyn Handler>, String)> {
    let mut spec = LoadSpec::new(name);
    how(&mut spec);
    let generation = host.load(std::fs::read(guest(name))?.into(), spec).await?;
    let kind = serde_json::to_value(generation.inspection().handler)?;
    let kind = kind.as_str().unwrap_or_default().to_owned();
    Ok((Arc::new(HandlerSlot::new(generation)), kind))
}

/// An event with a key, two headers and an id, as most have.
pub fn call(size: usize) -> Call {
    let event = Event {
        topic: "github.webhooks".into(),
        partition: 3,
        position: 123_456,
        key: Some(Bytes::from_static(b"sandbar-rs/sandbar")),
        payload: Some(Bytes::from(vec![b'x'; size])),
        headers: [Header::new("content-type", "application/json"), Header::new("trace", "abc")]
            .into(),
        timestamp_ms: 1_700_000_000_000,
        attributes: [("id".to_owned(), "0b7e".to_owned())].into(),
    };
    Call { event, attempt: 1 }
}

/// The same work in this program: everything is copied in and copied out.
struct Native {
    by: Arc<HandledBy>,
}

impl Native {
    fn new() -> Self {
        let (plugin, version, digest) = ("native".into(), "0".into(), String::new());
        Self { by: Arc::new(HandledBy { plugin, version, digest }) }
    }
}

/// An event of one's own.
struct Owned {
    topic: String,
    key: Option<Vec<u8>>,
    payload: Option<Vec<u8>>,
    headers: Vec<(String, Option<Vec<u8>>)>,
    attributes: Vec<(String, String)>,
}

fn taken(event: &Event) -> Owned {
    let bytes = |b: &Option<Bytes>| b.as_ref().map(|b| b.to_vec());
    Owned {
        topic: event.topic.to_string(),
        key: bytes(&event.key),
        payload: bytes(&event.payload),
        headers: event.headers.iter().map(|h| (h.name.to_string(), bytes(&h.value))).collect(),
        attributes: event.attributes.to_vec(),
    }
}

fn given(event: &Owned) -> Outgoing {
    let bytes = |b: &Option<Vec<u8>>| b.as_deref().map(Bytes::copy_from_slice);
    let header = |(name, value): &(String, Option<Vec<u8>>)| Header {
        name: name.as_str().into(),
        value: bytes(value),
    };
    Outgoing {
        connection: None,
        topic: format!("{}.out", event.topic).into(),
        key: bytes(&event.key),
        payload: bytes(&event.payload),
        headers: event.headers.iter().map(header).collect(),
        attributes: event.attributes.clone(),
    }
}

#[async_trait]
impl Handler for Native {
    async fn handle(&self, calls: &[&Call]) -> Outcomes {
        let one = |call: &&Call| Ok(vec![given(std::hint::black_box(&taken(&call.event)))].into());
        Outcomes { by: Arc::clone(&self.by), results: calls.iter().map(one).collect() }
    }
}
