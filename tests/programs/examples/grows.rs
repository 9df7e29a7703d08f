//! Leaks a mebibyte per event and counts the events of its instance.

wit_bindgen::generate!({ world: "event-handler", path: "../../wit/0.1.0", generate_all });

use exports::sandbar::events::handler::{Event, Failure, Guest, Outgoing};

struct Program;
export!(Program);
sandbar_programs::packed!(Program);

use std::sync::atomic::{AtomicU64, Ordering};

static EVENTS: AtomicU64 = AtomicU64::new(0);

impl Guest for Program {
    fn handle(_: Event) -> Result<Vec<Outgoing>, Failure> {
        std::hint::black_box(Vec::leak(vec![1u8; 1 << 20]));
        let events = EVENTS.fetch_add(1, Ordering::Relaxed) + 1;
        Ok(vec![Outgoing {
            connection: None,
            topic: "count".into(),
            key: None,
            payload: Some(events.to_string().into_bytes()),
            headers: Vec::new(),
            attributes: Vec::new(),
        }])
    }
}
