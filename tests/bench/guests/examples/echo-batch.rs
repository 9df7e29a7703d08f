//! As `echo`, by a handler that takes events as they come together.

use sandbar_sdk::{Event, Failure, Outgoing};

#[sandbar_sdk::handler(topics = ["bench"], publishes = ["*"], batch, crate = sandbar_sdk)]
fn echo(events: Vec<Event>) -> Vec<Result<Outgoing, Failure>> {
    let one = |event: Event| {
        let mut output = Outgoing::new(format!("{}.out", event.topic));
        output.key = event.key;
        output.payload = event.payload;
        output.headers = event.headers;
        Ok(output)
    };
    events.into_iter().map(one).collect()
}
