//! Waits for as many milliseconds as the payload says; returns how many events were in the
//! instance at once, and how many have come to it, itself included.

wit_bindgen::generate!({
    inline: "
        package sandbar:program;
        world program {
            include sandbar:events-async/event-plugin@0.1.0;
            import wasi:clocks/monotonic-clock@0.3.0;
        }
    ",
    world: "sandbar:program/program",
    path: ["../../wit/0.1.1", "../../wit/async-0.1.0", "wit/clocks3.wit"],
    generate_all,
});

use std::cell::Cell;

use exports::sandbar::{
    events::{lifecycle, plugin},
    events_async::handler::{Event, Failure, Guest, Outgoing},
};
use wasi::clocks0_3_0::monotonic_clock::wait_for;

struct Program;
export!(Program);

thread_local! {
    static COME: Cell<u32> = const { Cell::new(0) };
    static INSIDE: Cell<u32> = const { Cell::new(0) };
    static MOST: Cell<u32> = const { Cell::new(0) };
}

impl plugin::Guest for Program {
    fn describe() -> plugin::Metadata {
        plugin::Metadata {
            name: "waits".into(),
            version: "1.0.0".into(),
            description: "waits".into(),
            subscriptions: Vec::new(),
            publishes: Vec::new(),
            config_schema: None,
            annotations: Vec::new(),
        }
    }
}

impl lifecycle::Guest for Program {
    fn init() -> Result<(), String> {
        Ok(())
    }
}

impl Guest for Program {
    async fn handle(event: Event) -> Result<Vec<Outgoing>, Failure> {
        let ms: u64 =
            event.payload.and_then(|p| String::from_utf8(p).ok()?.parse().ok()).unwrap_or(0);
        let come = COME.get() + 1;
        COME.set(come);
        INSIDE.set(INSIDE.get() + 1);
        MOST.set(MOST.get().max(INSIDE.get()));
        wait_for(ms * 1_000_000).await;
        INSIDE.set(INSIDE.get() - 1);
        Ok(vec![Outgoing {
            connection: None,
            topic: "count".into(),
            key: event.key,
            payload: Some(format!("{} at once, the {}.", MOST.get(), come).into_bytes()),
            headers: event.headers,
            attributes: event.attributes,
        }])
    }
}
