//! Takes each event and publishes nothing.

use sandbar_sdk::Event;

#[sandbar_sdk::handler(topics = ["bench"], crate = sandbar_sdk)]
fn sink(event: &Event) {
    std::hint::black_box(event.payload.as_deref());
}
