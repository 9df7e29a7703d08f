//! A route: passes events on to another connection as they are.
//!
//! It is a subscription like any other, whose handler is written here instead of in
//! Wasm: so order, what happens while the target is away, dead letters of what it refuses,
//! drain and rebalance are what they are everywhere.

use std::sync::Arc;

use async_trait::async_trait;
use sandbar_core::{Call, Event, HandledBy, Handler, Header, Outcomes, Outgoing, cloudevents};

use crate::config::RouteConfig;

/// Events passed on together, no two of them with one key.
const BATCH: usize = 256;

/// Header with the time at which the event reached the first broker that a route took it
/// from, in milliseconds since the Unix epoch: the next broker gives it a time of its own.
pub const TIMESTAMP: &str = "sandbar-timestamp-ms";

/// Hands each event to the output of the route.
pub struct Forward {
    route: RouteConfig,
    by: Arc<HandledBy>,
}

impl Forward {
    /// The handler of `route`.
    pub fn new(route: RouteConfig) -> Self {
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let plugin = route.subscription.name.clone();
        Self { route, by: Arc::new(HandledBy { plugin, version, digest: String::new() }) }
    }

    fn forward(&self, event: &Event) -> Outgoing {
        // attributes are spelled anew, as the target's binding has it
        let others = event.headers.iter().filter(|h| !cloudevents::is_attribute(h));
        let mut headers: Vec<Header> = others.cloned().collect();
        if event.header(TIMESTAMP).is_none() {
            headers.push(Header::new(TIMESTAMP, event.timestamp_ms.to_string()));
        }
        Outgoing {
            connection: None,
            topic: self.route.rename.of(&event.topic),
            key: event.key.clone(),
            payload: event.payload.clone(),
            headers,
            attributes: event.attributes.to_vec(),
        }
    }
}

#[async_trait]
impl Handler for Forward {
    async fn handle(&self, calls: &[&Call]) -> Outcomes {
        let results = calls.iter().map(|call| Ok(vec![self.forward(&call.event)].into())).collect();
        Outcomes { by: self.by.clone(), results }
    }

    fn max_batch(&self) -> usize {
        BATCH
    }

    fn min_batch(&self) -> usize {
        BATCH
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::{Config, Overrides, Text};

    fn forward(to: &str) -> Forward {
        let text = format!(
            "[[route]]\nname = \"r\"\nfrom = {{ topics = [\"orders\"] }}\nto = {{ connection = \"local\", {to} }}"
        );
        let text = Text::new("sandbar.toml", text);
        let config = Config::parse(&text, Path::new("/srv"), &Overrides::default(), &|_| None);
        Forward::new(config.unwrap().routes.remove(0))
    }

    fn event(headers: Vec<Header>) -> Event {
        Event {
            topic: "orders".into(),
            partition: 1,
            position: 2,
            key: Some("k".into()),
            payload: None,
            attributes: cloudevents::attributes(&headers),
            headers: headers.into(),
            timestamp_ms: 7,
        }
    }

    #[test]
    fn an_event_is_passed_on_whole() {
        let empty = Header { name: "x".into(), value: None };
        let event = event(vec![Header::new("ce-id", "a%20b"), empty.clone()]);
        let passed = forward("topic = \"eu.{topic}\"").forward(&event);
        assert_eq!((&*passed.topic, passed.key, passed.payload), ("eu.orders", event.key, None));
        assert_eq!(passed.headers, [empty, Header::new(TIMESTAMP, "7")]);
        assert_eq!(passed.attributes, [("id".to_owned(), "a b".to_owned())]);
    }

    #[test]
    fn the_first_time_stays_over_several_routes() {
        let first = Header::new(TIMESTAMP, "1");
        let passed = forward("topic = \"{topic}\"").forward(&event(vec![first.clone()]));
        assert_eq!(passed.headers, [first]);
        assert_eq!(&*passed.topic, "orders");
    }
}
