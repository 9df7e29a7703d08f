//! Fails as the payload asks it to.

wit_bindgen::generate!({ world: "event-handler", path: "../../wit/0.1.0", generate_all });

use exports::sandbar::events::handler::{Event, Failure, Guest, Outgoing};

struct Program;
export!(Program);
sandbar_programs::packed!(Program);

use sandbar::events::types::{RejectReason, RetryHint};

impl Guest for Program {
    fn handle(event: Event) -> Result<Vec<Outgoing>, Failure> {
        let failure = match event.payload.as_deref() {
            Some(b"retry") => {
                Failure::Retry(RetryHint { reason: "not yet".into(), delay_ms: Some(1500) })
            }
            Some(b"reject") => Failure::Reject(RejectReason {
                code: "bad-input".into(),
                message: "cannot be read".into(),
            }),
            Some(b"skip") => Failure::Skip("not mine".into()),
            Some(b"defer") => Failure::Defer(2000),
            _ => return Ok(Vec::new()),
        };
        Err(failure)
    }
}
