// Payloads are `NUMBER SLEEP_MS WHAT...`, where WHAT is one of
//   ok                      handled
//   retry TIMES DELAY_MS    fails TIMES times, asking for that delay, then handled
//   reject, exhaust, trap   never handled
// An output is `NUMBER PARTITION TIMESTAMP_MS ATTEMPT VERSION BEGAN_US ENDED_US`.

wit_bindgen::generate!({
    inline: "
        package sandbar:program;
        world chaos {
            include sandbar:events/event-plugin@0.1.0;
            import wasi:clocks/monotonic-clock@0.2.0;
            import wasi:clocks/wall-clock@0.2.0;
        }
    ",
    world: "sandbar:program/chaos",
    path: ["../../wit/0.1.0", "wit/io.wit", "wit/clocks.wit"],
    generate_all,
});

use exports::sandbar::events::{
    handler::{self, Event, Failure, Outgoing},
    lifecycle,
    plugin::{self, Metadata},
};
use sandbar::events::types::{RejectReason, RetryHint};
use wasi::{
    clocks::{monotonic_clock::subscribe_duration, wall_clock},
    config::store,
    logging::logging::{Level, log},
};

struct Program;
export!(Program);
sandbar_programs::packed!(Program);

impl plugin::Guest for Program {
    fn describe() -> Metadata {
        Metadata {
            name: "chaos".into(),
            version: VERSION.into(),
            description: "does what the payload asks for".into(),
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

impl handler::Guest for Program {
    fn handle(event: Event) -> Result<Vec<Outgoing>, Failure> {
        let began = now_us();
        let payload = String::from_utf8(event.payload.unwrap_or_default()).unwrap_or_default();
        let words: Vec<&str> = payload.split(' ').collect();
        let [number, sleep, what, how @ ..] = words.as_slice() else {
            return Err(rejected("not a payload of the harness"));
        };
        match sleep.parse() {
            Ok(0) | Err(_) => {}
            Ok(ms) => subscribe_duration(ms * 1_000_000u64).block(),
        }
        let failure = match (*what, how) {
            ("ok", []) => None,
            ("retry", [times, delay]) => {
                let fails = event.attempt <= times.parse().unwrap_or(0);
                fails.then(|| retry(delay.parse().ok()))
            }
            ("exhaust", []) => Some(retry(None)),
            ("trap", []) => {
                tell(event.key.as_deref(), number, began);
                std::process::abort()
            }
            _ => Some(rejected("poison")),
        };
        if let Some(failure) = failure {
            tell(event.key.as_deref(), number, began);
            return Err(failure);
        }
        let (partition, sent, attempt) = (event.partition, event.timestamp_ms, event.attempt);
        let ended = now_us();
        Ok(vec![Outgoing {
            connection: None,
            topic: store::get("topic").ok().flatten().unwrap_or_default(),
            key: event.key,
            payload: Some(
                format!("{number} {partition} {sent} {attempt} {VERSION} {began} {ended}").into(),
            ),
            headers: Vec::new(),
            attributes: Vec::new(),
        }])
    }
}

fn retry(delay_ms: Option<u64>) -> Failure {
    Failure::Retry(RetryHint { reason: "as asked".into(), delay_ms })
}

fn rejected(message: &str) -> Failure {
    Failure::Reject(RejectReason { code: "poison".into(), message: message.into() })
}

/// An attempt without an output is told to the log, where that is asked for.
fn tell(key: Option<&[u8]>, number: &str, began: u64) {
    if store::get("tell").ok().flatten().is_some() {
        let key = String::from_utf8_lossy(key.unwrap_or_default());
        log(Level::Info, "attempt", &format!("failed {key} {number} {began} {}", now_us()));
    }
}

fn now_us() -> u64 {
    let now = wall_clock::now();
    now.seconds * 1_000_000 + u64::from(now.nanoseconds / 1000)
}
