//! Takes batches: returns for each event how many came with it, traps at the payload
//! `trap`, skips at `skip`.

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
            name: "batch".into(),
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
        let together = events.len().to_string().into_bytes();
        let one = |event: Event| match event.payload.as_deref() {
            Some(b"trap") => std::process::abort(),
            Some(b"skip") => Err(Failure::Skip("not mine".into())),
            _ => Ok(vec![Outgoing {
                connection: None,
                topic: "together".into(),
                key: None,
                payload: Some(together.clone()),
                headers: Vec::new(),
                attributes: Vec::new(),
            }]),
        };
        events.into_iter().map(one).collect()
    }
}
