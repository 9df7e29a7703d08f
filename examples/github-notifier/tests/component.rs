//! The built plugin on the production engine; `scripts/build-guests.sh` builds it.

use sandbar_test::{Outgoing, TestHost, guest};

/// Known to the test on its own: 64-bit FNV-1a.
fn is_busy(id: &str) -> bool {
    let hash = id.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    hash.is_multiple_of(20)
}

fn event(id: &str, payload: String) -> Outgoing {
    let mut event = Outgoing::new("github.events", payload).with_key("o/r");
    event.attributes = vec![("id".into(), id.into())];
    event
}

#[tokio::test]
async fn o2_a_busy_messenger_delays_but_loses_and_reorders_nothing() {
    let host = TestHost::load(guest("github-notifier").unwrap()).await.unwrap();
    let ids: Vec<_> = (0..200).map(|n| format!("e/{n}")).collect();
    let opened = |n| format!(r#"{{"type":"issues.opened","repository":"o/r","number":{n}}}"#);
    host.publish(ids.iter().enumerate().map(|(n, id)| event(id, opened(n)))).await.unwrap();
    let outcome = host.drain().await.unwrap();
    let expected: Vec<_> = (0..200)
        .map(|n| format!(r#"{{"channel":"o/r","text":"someone opened issue #{n}"}}"#))
        .collect();
    assert_eq!(outcome.texts("github.notifications"), expected);
    let busy = ids.iter().filter(|id| is_busy(id)).count();
    assert!(busy > 0, "the test has no busy event");
    assert_eq!(outcome.retries(), 2 * busy as u64);
    assert_eq!(outcome.log.len(), 2 * busy);
    assert!(outcome.dead_letters.is_empty());
}

#[tokio::test]
async fn dull_events_are_skipped_and_malformed_ones_given_up() {
    let host = TestHost::load(guest("github-notifier").unwrap()).await.unwrap();
    host.publish([
        event("1", r#"{"type":"label.created","repository":"o/r"}"#.into()),
        event("2", r#"{"type":"push"}"#.into()),
        event("3", "no json".into()),
    ])
    .await
    .unwrap();
    let outcome = host.drain().await.unwrap();
    assert_eq!((outcome.stats.handled, outcome.stats.skipped), (0, 1));
    let codes: Vec<_> = outcome.dead_letters.iter().map(|d| d.info.error_code.as_str()).collect();
    assert_eq!(codes, ["no-repository", "invalid-json"]);
}
