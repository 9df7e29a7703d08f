//! Waits for as long as the event says, as a call of another system would, and passes it on. A payload
//! is a number of microseconds; with `!` behind it the first attempt fails when the work is done. Of
//! payloads that are none, the setting `us` says it; with the setting `quiet` nothing is passed on. With
//! the setting `rounds` it computes, too: so many checksums of the payload.

wit_bindgen::generate!({
    inline: "
        package sandbar:bench;
        world work {
            include sandbar:events/event-handler@0.1.0;
            import wasi:clocks/monotonic-clock@0.2.0;
        }
    ",
    world: "sandbar:bench/work",
    path: ["../../../wit/0.1.0", "../../programs/wit/io.wit", "../../programs/wit/clocks.wit"],
    generate_all,
});

use exports::sandbar::events::handler::{Event, Failure, Guest, Outgoing};
use sandbar::events::types::RetryHint;
use wasi::{clocks::monotonic_clock::subscribe_duration, config::store};

struct Program;
export!(Program);

impl Guest for Program {
    fn handle(event: Event) -> Result<Vec<Outgoing>, Failure> {
        let text =
            String::from_utf8_lossy(event.payload.as_deref().unwrap_or_default()).into_owned();
        let (number, fails) = match text.strip_suffix('!') {
            Some(number) => (number, event.attempt == 1),
            None => (text.as_str(), false),
        };
        let setting = |name| store::get(name).ok().flatten()?.parse().ok();
        let us: u64 = number.parse().ok().or_else(|| setting("us")).unwrap_or(0);
        for round in 0..setting("rounds").unwrap_or(0) {
            std::hint::black_box(checksum(round, text.as_bytes()));
        }
        if us > 0 {
            subscribe_duration(us * 1000).block();
        }
        if fails {
            return Err(Failure::Retry(RetryHint { reason: "as asked".into(), delay_ms: None }));
        }
        if store::get("quiet").is_ok_and(|quiet| quiet.is_some()) {
            return Ok(Vec::new());
        }
        Ok(vec![Outgoing {
            connection: None,
            topic: format!("{}.out", event.topic),
            key: event.key,
            payload: event.payload,
            headers: Vec::new(),
            attributes: Vec::new(),
        }])
    }
}

/// FNV-1a: each byte waits for the one before.
fn checksum(seed: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(seed, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}
