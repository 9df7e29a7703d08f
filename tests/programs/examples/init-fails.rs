//! Fails to start in the way its configuration says (`how`).

wit_bindgen::generate!({ world: "event-plugin", path: "../../wit/0.1.0", generate_all });

use exports::sandbar::events::{
    handler::{self, Event, Failure, Outgoing},
    lifecycle,
    plugin::{self, Metadata},
};
use wasi::config::store;

struct Program;
export!(Program);

impl plugin::Guest for Program {
    fn describe() -> Metadata {
        Metadata {
            name: "init-fails".into(),
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
        match store::get("how").ok().flatten().as_deref() {
            Some("error") => Err("no key to work with".into()),
            Some("trap") => std::process::abort(),
            Some("loop") => loop {
                std::hint::black_box(());
            },
            _ => Ok(()),
        }
    }
}

impl handler::Guest for Program {
    fn handle(_: Event) -> Result<Vec<Outgoing>, Failure> {
        Ok(Vec::new())
    }
}
