//! Overflows its stack; well-behaved after the first attempt.

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
        std::hint::black_box(down(0));
        Ok(Vec::new())
    }
}

#[inline(never)]
fn down(depth: u64) -> u64 {
    // through a pointer, so that it cannot be turned into a loop
    let next = std::hint::black_box(down as fn(u64) -> u64);
    next(depth + 1) + 1
}
