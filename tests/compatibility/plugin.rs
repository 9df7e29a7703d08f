//! Uses all that every plugin may use, and returns what it was told. `README.md` says how it becomes a
//! component when a version is released.

wit_bindgen::generate!({ world: "event-plugin", path: "wit", generate_all });

use exports::sandbar::events::{
    handler::{self, Event, Failure, Outgoing},
    lifecycle,
    plugin::{self, Metadata, Subscription},
};
use sandbar::events::{context, types::RejectReason};
use wasi::{
    config::store,
    logging::logging::{self, Level},
};

struct Plugin;
export!(Plugin);

impl plugin::Guest for Plugin {
    fn describe() -> Metadata {
        Metadata {
            name: "kept".into(),
            version: "1.2.3".into(),
            description: "kept as it was built".into(),
            subscriptions: vec![Subscription {
                connection: None,
                topics: vec!["in.*".into()],
                options: vec![("ordering".into(), "none".into())],
            }],
            publishes: vec!["out".into()],
            config_schema: Some("{}".into()),
            annotations: vec![("license".into(), "Apache-2.0".into())],
        }
    }
}

impl lifecycle::Guest for Plugin {
    fn init() -> Result<(), String> {
        store::get("color").map_err(|_| "no configuration")?.map(drop).ok_or("no color".into())
    }
}

impl handler::Guest for Plugin {
    fn handle(event: Event) -> Result<Vec<Outgoing>, Failure> {
        if event.payload.as_deref() == Some(b"reject") {
            let (code, message) = ("kept".into(), "as it says".into());
            return Err(Failure::Reject(RejectReason { code, message }));
        }
        let at = format!("{}/{}/{}", event.topic, event.partition, event.position);
        logging::log(Level::Info, "kept", &at);
        let mut attributes = event.attributes;
        attributes.push(("name".into(), context::plugin_name()));
        attributes.push(("version".into(), context::plugin_version()));
        attributes.push(("connection".into(), context::connection()));
        attributes.push(("in time".into(), (context::remaining_ms() > 0).to_string()));
        attributes.extend(store::get_all().unwrap_or_default());
        attributes.push(("attempt".into(), event.attempt.to_string()));
        Ok(vec![Outgoing {
            connection: None,
            topic: "out".into(),
            key: event.key,
            payload: event.payload,
            headers: event.headers,
            attributes,
        }])
    }
}
