//! Takes events in batches: doubles each number, rejects what is none.

use sandbar_sdk::{Event, Failure, Outgoing, ResultExt};

#[sandbar_sdk::handler(
    topics = ["numbers"],
    publishes = ["doubled"],
    ordering = "none",
    batch,
    crate = sandbar_sdk,
)]
fn double(events: Vec<Event>) -> Vec<Result<Outgoing, Failure>> {
    let one = |event: &Event| {
        let number: i64 = event.text()?.parse().or_reject("no-number")?;
        Ok(Outgoing::new("doubled").text((number * 2).to_string()))
    };
    events.iter().map(one).collect()
}
