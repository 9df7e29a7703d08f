//! Shows events as they flow: what comes in, what goes out, and what is given up.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use futures::StreamExt as _;
use sandbar::{
    event_json::EventJson,
    reading::read_events,
    supervisor::{Status, Supervisor},
};
use sandbar_core::{Connection, Event, ReadFrom, reserved};
use sandbar_pipeline::{DeadLetter, topic_matches};
use serde_json::json;
use tokio::task::JoinSet;

use super::{super::super::output::bytes_text, screen::Screen};

/// Time between two looks for new topics.
const LOOK: Duration = Duration::from_millis(50);

/// Follows all topics of `log`, those that appear later too; ends when dropped.
pub async fn follow(log: Arc<dyn Connection>, supervisor: Arc<Supervisor>, screen: Screen) {
    let (mut known, mut readers) = (BTreeSet::new(), JoinSet::new());
    loop {
        // a log that does not answer now is asked again
        for topic in log.topics().await.unwrap_or_default() {
            if !reserved::is_reserved(&topic.name) && known.insert(topic.name.clone()) {
                readers.spawn(tap(log.clone(), topic.name, supervisor.clone(), screen));
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn tap(log: Arc<dyn Connection>, topic: String, supervisor: Arc<Supervisor>, screen: Screen) {
    match read_events(log.as_ref(), &topic, ReadFrom::Start, true).await {
        Ok(events) => {
            let mut events = std::pin::pin!(events);
            while let Some(Ok(event)) = events.next().await {
                let plugin = supervisor.plugins().first().map(|plugin| plugin.status());
                show(&event, plugin.as_ref(), screen);
            }
        }
        Err(error) => screen.say("warn", json!({ "topic": topic }), error),
    }
}

fn show(event: &Event, plugin: Option<&Status>, screen: Screen) {
    let bytes = |bytes: &Option<bytes::Bytes>, none: &str| {
        bytes.as_deref().map_or_else(|| none.to_owned(), bytes_text)
    };
    let (key, payload) = (bytes(&event.key, "-"), bytes(&event.payload, "(tombstone)"));
    let place = format!("{}/{}/{}", event.topic, event.partition, event.position);
    if let Some(letter) = DeadLetter::parse(event) {
        let DeadLetter { error_code, message, attempts, .. } = &letter;
        let text = format!(
            "{place}  {error_code}: {message}\nafter {attempts} attempts at {}/{}/{}  {key}  {payload}",
            letter.topic, letter.partition, letter.offset
        );
        screen.say("dead", json!({ "event": EventJson::from(event), "why": letter }), text);
        return;
    }
    let topics = plugin.and_then(|plugin| plugin.config.as_ref()).map(|config| &config.topics);
    let is_input = topics.into_iter().flatten().any(|glob| topic_matches(glob, &event.topic));
    let kind = if is_input { "event" } else { "output" };
    screen.say(
        kind,
        json!({ "event": EventJson::from(event) }),
        format_args!("{place}  {key}  {payload}"),
    );
}
