//! Waits in the host for as long as its configuration says (`ms`), then returns `tag`.

wit_bindgen::generate!({
    inline: "
        package sandbar:program;
        world sleeps {
            include sandbar:events/event-handler@0.1.0;
            import wasi:clocks/monotonic-clock@0.2.0;
        }
    ",
    world: "sandbar:program/sleeps",
    path: ["../../wit/0.1.0", "wit/io.wit", "wit/clocks.wit"],
    generate_all,
});

use exports::sandbar::events::handler::{Event, Failure, Guest, Outgoing};
use wasi::{clocks::monotonic_clock::subscribe_duration, config::store};

struct Program;
export!(Program);
sandbar_programs::packed!(Program);

impl Guest for Program {
    fn handle(_: Event) -> Result<Vec<Outgoing>, Failure> {
        let setting = |key: &str| store::get(key).ok().flatten().unwrap_or_default();
        let ms: u64 = setting("ms").parse().unwrap_or(0);
        subscribe_duration(ms * 1_000_000).block();
        Ok(vec![Outgoing {
            connection: None,
            topic: "count".into(),
            key: None,
            payload: Some(setting("tag").into_bytes()),
            headers: Vec::new(),
            attributes: Vec::new(),
        }])
    }
}
