//! Returns the event as it came, under another topic.

wit_bindgen::generate!({ world: "event-handler", path: "../../wit/0.1.0", generate_all });

use exports::sandbar::events::handler::{Event, Failure, Guest, Outgoing};

struct Program;
export!(Program);
sandbar_programs::packed!(Program);

impl Guest for Program {
    fn handle(event: Event) -> Result<Vec<Outgoing>, Failure> {
        Ok(vec![Outgoing {
            connection: None,
            topic: format!("{}.out", event.topic),
            key: event.key,
            payload: event.payload,
            headers: event.headers,
            attributes: event.attributes,
        }])
    }
}
