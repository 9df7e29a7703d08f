//! What one event costs in the host, in nanoseconds. Run it after `make guests`:
//!
//! ```sh
//! cargo run --release -p sandbar-wasm --example call_cost
//! ```
//!
//! Measured on 2 virtual cores that other builds kept busy (load average 3.4), so upper
//! bounds; two runs, best of five each, limits and deadline on:
//!
//! | program, events at once | ns/event |
//! |---|---|
//! | `echo`, 1 / 4 / 16 / 64, warm | 3,980 / 2,997 / 2,842 / 2,817 and 3,666 / 3,881 / 3,388 / 4,249 |
//! | `batch`, 1 / 16 / 64, warm | 2,697 / 1,605 / 1,561 and 3,397 / 2,164 / 1,578 |
//! | `echo`, 1, fresh instance each | 31,462 and 32,640 |
//!
//! `echo` returns all that it got, `batch` one small event. A profile shows the time in
//! wasmtime's lowering and lifting and in the allocator, none of it above 7 % in one place.
//! In the first run passing 16 at once saved about 1 us of hand-off an event and 64 saved
//! no more; the second is too noisy to say.

use std::{
    env, fs,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use sandbar_core::{Call, Event, Handler, Header};
use sandbar_wasm::{HandlerSlot, Host, HostConfig, LoadSpec};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let host = Host::new(HostConfig::default())?;
    println!("{:<34}{:>10}", "1 KiB event, key, 2 headers, id", "ns/event");
    for (program, together, instance_events) in [
        ("echo", 1, 100_000),
        ("echo", 4, 100_000),
        ("echo", 16, 100_000),
        ("echo", 64, 100_000),
        ("batch", 1, 100_000),
        ("batch", 16, 100_000),
        ("batch", 64, 100_000),
        ("echo", 1, 1),
    ] {
        let slot = load(&host, program, instance_events).await?;
        let calls: Vec<_> = (0..together).map(|_| call()).collect();
        let calls: Vec<&Call> = calls.iter().collect();
        // warm up, then the best of five: the machine is shared
        measure(&slot, &calls, Duration::from_millis(100)).await;
        let mut best = f64::MAX;
        for _ in 0..5 {
            best = best.min(measure(&slot, &calls, Duration::from_millis(400)).await);
        }
        let life = if instance_events == 1 { "fresh instance each" } else { "warm" };
        println!("{:<34}{best:>10.0}", format!("{program}, {together} at once, {life}"));
    }
    Ok(())
}

async fn load(
    host: &Arc<Host>,
    program: &str,
    instance_events: u64,
) -> Result<HandlerSlot, Box<dyn std::error::Error>> {
    let guests = env::var("SANDBAR_GUESTS").unwrap_or_else(|_| "guests".into());
    let path = Path::new(&guests).join(format!("program-{program}.wasm"));
    let wasm =
        fs::read(&path).map_err(|e| format!("{}: {e}: run `make guests`", path.display()))?;
    let mut spec = LoadSpec::new(program);
    spec.limits.instance_events = instance_events;
    Ok(HandlerSlot::new(host.load(wasm.into(), spec).await?))
}

async fn measure(slot: &HandlerSlot, calls: &[&Call], time: Duration) -> f64 {
    let began = Instant::now();
    let mut events = 0;
    while began.elapsed() < time {
        for _ in 0..16 {
            let outcomes = slot.handle(calls).await;
            assert!(outcomes.results.iter().all(Result::is_ok), "{:?}", outcomes.results);
            events += calls.len();
        }
    }
    began.elapsed().as_nanos() as f64 / events as f64
}

fn call() -> Call {
    let event = Event {
        topic: "github.webhooks".into(),
        partition: 3,
        position: 123_456,
        key: Some(Bytes::from_static(b"sandbar-rs/sandbar")),
        payload: Some(Bytes::from(vec![b'x'; 1024])),
        headers: [Header::new("content-type", "application/json"), Header::new("trace", "abc")]
            .into(),
        timestamp_ms: 1_700_000_000_000,
        attributes: [("id".to_owned(), "0b7e".to_owned())].into(),
    };
    Call { event, attempt: 1 }
}
