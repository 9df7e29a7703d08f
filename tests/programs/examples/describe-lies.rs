//! Says something that cannot be true.

wit_bindgen::generate!({ world: "event-plugin", path: "../../wit/0.1.0", generate_all });

use exports::sandbar::events::{
    handler::{self, Event, Failure, Outgoing},
    lifecycle,
    plugin::{self, Metadata, Subscription},
};

struct Program;
export!(Program);

impl plugin::Guest for Program {
    fn describe() -> Metadata {
        Metadata {
            name: "describe-lies".into(),
            version: "1.2.3".into(),
            description: "for tests".into(),
            subscriptions: vec![Subscription {
                connection: Some("log".into()),
                topics: vec!["".into()],
                options: vec![("ordering".into(), "none".into())],
            }],
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
    fn handle(_: Event) -> Result<Vec<Outgoing>, Failure> {
        Ok(Vec::new())
    }
}
