//! Never returns; well-behaved after the first attempt.

wit_bindgen::generate!({ world: "event-handler", path: "../../wit/0.1.0", generate_all });

use exports::sandbar::events::handler::{Event, Failure, Guest, Outgoing};

struct Program;
export!(Program);
sandbar_programs::packed!(Program);

impl Guest for Program {
    fn handle(event: Event) -> Result<Vec<Outgoing>, Failure> {
        if event.attempt > 1 {
            return Ok(Vec::new());
        }
        loop {
            std::hint::black_box(());
        }
    }
}
