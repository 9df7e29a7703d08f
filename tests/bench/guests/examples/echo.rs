//! Passes each event on to another topic: key, payload and headers are copied, nothing is computed.

use sandbar_sdk::{Event, Outgoing};

#[sandbar_sdk::handler(topics = ["bench"], publishes = ["*"], crate = sandbar_sdk)]
fn echo(event: Event) -> Outgoing {
    let mut output = Outgoing::new(format!("{}.out", event.topic));
    output.key = event.key;
    output.payload = event.payload;
    output.headers = event.headers;
    output
}
