//! Traps after a millisecond, while others are in the instance; well-behaved after the first
//! attempt, and where the payload says so.

wit_bindgen::generate!({
    inline: "
        package sandbar:program;
        world program {
            include sandbar:events-async/event-handler@0.1.0;
            import wasi:clocks/monotonic-clock@0.3.0;
        }
    ",
    world: "sandbar:program/program",
    path: ["../../wit/0.1.1", "../../wit/async-0.1.0", "wit/clocks3.wit"],
    generate_all,
});

use exports::sandbar::events_async::handler::{Event, Failure, Guest, Outgoing};
use wasi::clocks0_3_0::monotonic_clock::wait_for;

struct Program;
export!(Program);

impl Guest for Program {
    async fn handle(event: Event) -> Result<Vec<Outgoing>, Failure> {
        if event.attempt > 1 || event.payload.is_some_and(|payload| payload == b"well") {
            wait_for(2_000_000).await;
            return Ok(Vec::new());
        }
        wait_for(1_000_000).await;
        std::process::abort()
    }
}
