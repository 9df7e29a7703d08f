//! Returns one outcome too many.

wit_bindgen::generate!({ world: "batch-plugin", path: "../../wit/0.1.0", generate_all });

use exports::sandbar::events::{
    batch_handler::{self, Event, Failure, Outgoing},
    lifecycle,
    plugin::{self, Metadata},
};

struct Program;
export!(Program);
sandbar_programs::packed!(batch Program);

impl plugin::Guest for Program {
    fn describe() -> Metadata {
        Metadata {
            name: "batch-length".into(),
            version: "1.2.3".into(),
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
        (0..=events.len()).map(|_| Ok(Vec::new())).collect()
    }
}
