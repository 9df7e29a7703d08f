//! The built plugin on the production engine; `scripts/build-guests.sh` builds it.

use std::collections::BTreeMap;

use sandbar_test::{Event, Outgoing, TestHost, guest};
use serde_json::Value;

const WEBHOOKS: &str = include_str!("../../data/github-webhooks.ndjson");

fn webhooks() -> impl Iterator<Item = Outgoing> {
    WEBHOOKS.lines().map(|line| Outgoing::new("github.webhooks", line))
}

fn json(event: &Event) -> Value {
    serde_json::from_slice(event.payload.as_deref().unwrap()).unwrap()
}

/// Positions of the webhooks from which a key's events came, in their order.
fn origins(events: &[Event]) -> BTreeMap<&[u8], Vec<u64>> {
    let mut origins = BTreeMap::<_, Vec<_>>::new();
    for event in events {
        let id = event.attribute("id").unwrap();
        let position = id.rsplit('/').next().unwrap().parse().unwrap();
        origins.entry(event.key.as_deref().unwrap()).or_default().push(position);
    }
    origins
}

#[tokio::test]
async fn every_webhook_gives_one_event() {
    let host = TestHost::load(guest("github-router").unwrap()).await.unwrap();
    assert!(host.inspection().imports.iter().all(|i| !i.starts_with("wasi:")
        || i.starts_with("wasi:logging/")
        || i.starts_with("wasi:config/")));
    host.publish(webhooks()).await.unwrap();
    let outcome = host.drain().await.unwrap();
    assert_eq!((outcome.stats.handled, outcome.retries()), (329, 0));
    assert!(outcome.dead_letters.is_empty());
    let events = outcome.topic("github.events");
    let mut seen: Vec<u64> = origins(events).into_values().flatten().collect();
    seen.sort_unstable();
    assert_eq!(seen, (0..329).collect::<Vec<_>>());
    for event in events {
        assert_eq!(event.attribute("type"), json(event)["type"].as_str());
    }
}

#[tokio::test]
async fn h2_version_2_takes_over_without_a_gap_or_a_double() {
    let host = TestHost::load(guest("github-router").unwrap()).await.unwrap();
    host.publish(webhooks()).await.unwrap();
    host.replace(guest("github-router-v2").unwrap()).await.unwrap();
    host.publish(webhooks()).await.unwrap();
    let outcome = host.drain().await.unwrap();
    let events = outcome.topic("github.events");
    let mut seen: Vec<u64> = origins(events).into_values().flatten().collect();
    seen.sort_unstable();
    assert_eq!(seen, (0..658).collect::<Vec<_>>());
    // what was published after the swap is version 2's
    let late = |e: &&Event| {
        e.attribute("id").unwrap().rsplit('/').next().unwrap().parse::<u64>().unwrap() >= 329
    };
    assert!(events.iter().filter(late).all(|e| json(e)["schema"] == 2));
}

#[tokio::test]
async fn d2_malformed_webhooks_are_given_up_byte_for_byte() {
    let host = TestHost::load(guest("github-router").unwrap()).await.unwrap();
    let bad: [&[u8]; 3] = [b"{\"event\":\"push\"}", b"\xff\xfe", b""];
    host.publish(bad.map(|b| Outgoing::new("github.webhooks", b.to_vec()))).await.unwrap();
    host.publish(webhooks().take(1)).await.unwrap();
    let outcome = host.drain().await.unwrap();
    let mut dead: Vec<_> =
        outcome.dead_letters.iter().map(|d| d.event.payload.as_deref().unwrap()).collect();
    dead.sort_unstable();
    let mut expected = bad;
    expected.sort_unstable();
    assert_eq!(dead, expected);
    for letter in &outcome.dead_letters {
        assert_eq!((letter.info.error_code.as_str(), letter.info.attempts), ("invalid-json", 1));
    }
    assert_eq!(outcome.topic("github.events").len(), 1);
}
