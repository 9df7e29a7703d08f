//! Never says what it is.

wit_bindgen::generate!({ world: "event-plugin", path: "../../wit/0.1.0", generate_all });

use exports::sandbar::events::{
    handler::{self, Event, Failure, Outgoing},
    lifecycle,
    plugin::{self, Metadata},
};

struct Program;
export!(Program);

impl plugin::Guest for Program {
    fn describe() -> Metadata {
        loop {
            std::hint::black_box(());
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
