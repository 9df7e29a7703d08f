//! Describes itself and returns the facts it can ask for.

wit_bindgen::generate!({ world: "event-plugin", path: "../../wit/0.1.0", generate_all });

use exports::sandbar::events::{
    handler::{self, Event, Failure, Outgoing},
    lifecycle,
    plugin::{self, Metadata, Subscription},
};
use sandbar::events::context;
use wasi::config::store;

struct Program;
export!(Program);
sandbar_programs::packed!(Program);

impl plugin::Guest for Program {
    fn describe() -> Metadata {
        Metadata {
            name: "facts".into(),
            version: "1.2.3".into(),
            description: "for tests".into(),
            subscriptions: vec![Subscription {
                connection: Some("log".into()),
                topics: vec!["in.*".into()],
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
        let mut facts = vec![
            ("name".to_owned(), context::plugin_name()),
            ("version".to_owned(), context::plugin_version()),
            ("connection".to_owned(), context::connection()),
            ("remaining-ms".to_owned(), context::remaining_ms().to_string()),
        ];
        facts.extend(store::get_all().unwrap_or_default());
        Ok(vec![Outgoing {
            connection: None,
            topic: "facts".into(),
            key: None,
            payload: None,
            headers: Vec::new(),
            attributes: facts,
        }])
    }
}
