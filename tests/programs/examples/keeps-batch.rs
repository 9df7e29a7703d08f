//! Takes batches and counts their events in its state; traps at the payload `trap`.

wit_bindgen::generate!({ world: "batch-plugin", path: "../../wit/0.1.1", generate_all });

use exports::sandbar::events::{
    batch_handler::{self, Event, Failure, Outgoing},
    lifecycle,
    plugin::{self, Metadata},
};
use sandbar::events::state;

struct Program;
export!(Program);

impl plugin::Guest for Program {
    fn describe() -> Metadata {
        Metadata {
            name: "keeps-batch".into(),
            version: "1".into(),
            description: "for tests".into(),
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

impl batch_handler::Guest for Program {
    fn handle_batch(events: Vec<Event>) -> Vec<Result<Vec<Outgoing>, Failure>> {
        let one = |event: Event| {
            state::increment("events", 1).unwrap();
            match event.payload.as_deref() {
                Some(b"trap") => std::process::abort(),
                Some(b"skip") => Err(Failure::Skip("not mine".into())),
                _ => Ok(Vec::new()),
            }
        };
        events.into_iter().map(one).collect()
    }
}
