//! Panics, its hook handing the text to the host as the SDK's does; well-behaved after the
//! first attempt.

wit_bindgen::generate!({ world: "event-handler", path: "../../wit/0.1.0", generate_all });

use exports::sandbar::events::handler::{Event, Failure, Guest, Outgoing};

struct Program;
export!(Program);
sandbar_programs::packed!(Program);

use wasi::logging::logging::{Level, log};

impl Guest for Program {
    fn handle(event: Event) -> Result<Vec<Outgoing>, Failure> {
        if event.attempt > 1 {
            return Ok(Vec::new());
        }
        std::panic::set_hook(Box::new(|info| {
            log(Level::Critical, "panic", &info.to_string());
        }));
        fall_over(event.position)
    }
}

#[inline(never)]
fn fall_over(position: u64) -> ! {
    panic!("cannot go on at {position}")
}
