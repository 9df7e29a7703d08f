//! Turns the interesting events of a repository into notifications, through a
//! messenger that is not always there.

use std::borrow::Cow;

use sandbar::{Event, Failure, Json, Outgoing};
use serde::{Deserialize, Serialize};

/// Where notifications go.
const OUTPUT: &str = "github.notifications";

/// What `github-router` publishes, in either version.
#[derive(Debug, Deserialize)]
struct Typed<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    repository: Option<Cow<'a, str>>,
    #[serde(borrow)]
    sender: Option<Cow<'a, str>>,
    number: Option<u64>,
    #[serde(borrow)]
    title: Option<Cow<'a, str>>,
}

#[derive(Debug, Serialize)]
struct Notification<'a> {
    channel: &'a str,
    text: String,
}

#[sandbar::handler(
    topics = ["github.events"],
    publishes = ["github.notifications"],
    ordering = "key",
    retry(max_attempts = 5, initial_delay = "50ms", max_delay = "1s"),
)]
fn notify(event: &Event, Json(typed): Json<Typed<'_>>) -> Result<Outgoing, Failure> {
    let Some(verb) = verb(&typed.kind) else {
        return Err(Failure::skip(format!("nobody waits for {}", typed.kind)));
    };
    let Some(channel) = typed.repository.as_deref() else {
        return Err(Failure::reject(
            "no-repository",
            format!("{} names no repository", typed.kind),
        ));
    };
    messenger_is_there(event)?;
    let sender = typed.sender.as_deref().unwrap_or("someone");
    let mut text = format!("{sender} {verb}");
    if let Some(number) = typed.number {
        text += &format!(" #{number}");
    }
    if let Some(title) = &typed.title {
        text += &format!(": {title}");
    }
    let output = Outgoing::new(OUTPUT).key(channel).json(&Notification { channel, text })?;
    // an id that a redelivery repeats lets the messenger find duplicates
    Ok(output.attribute("id", event.id()).attribute("source", "/github-notifier"))
}

/// What a channel is told about; everything else is skipped.
fn verb(kind: &str) -> Option<&'static str> {
    Some(match kind {
        "issues.opened" => "opened issue",
        "issues.closed" => "closed issue",
        "issue_comment.created" => "commented on issue",
        "pull_request.opened" => "opened pull request",
        "pull_request.closed" => "closed pull request",
        "pull_request_review.submitted" => "reviewed pull request",
        "discussion.created" => "started discussion",
        "release.published" => "published a release",
        "star.created" => "starred the repository",
        "fork" => "forked the repository",
        "push" => "pushed",
        _ => return None,
    })
}

/// Stands for a messenger that is busy now and then. One event in 20, picked by its
/// id, finds it busy twice, so every run fails on the same ones.
fn messenger_is_there(event: &Event) -> Result<(), Failure> {
    if fnv1a(event.id().as_bytes()).is_multiple_of(20) && event.attempt < 3 {
        log::warn!("messenger is busy (attempt {} at {})", event.attempt, event.id());
        return Err(Failure::retry("messenger is busy"));
    }
    Ok(())
}

/// 64-bit FNV-1a: the same in every language, so that a test can tell the same events.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use sandbar::FromEvent;
    use serde_json::{Value, json};

    use super::*;

    fn run(event: &Event) -> Result<Outgoing, Failure> {
        notify(event, Json::from_event(event)?)
    }

    fn event(id: &str, payload: &Value) -> Event {
        Event::new("github.events").with_attribute("id", id).with_json(payload)
    }

    fn opened() -> Value {
        json!({"type": "issues.opened", "repository": "o/r", "sender": "ada", "number": 3,
               "title": "It \"breaks\"", "at": null})
    }

    #[test]
    fn fnv1a_is_the_published_one() {
        assert_eq!(fnv1a(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a(b"foobar"), 0x8594_4171_f739_67e8);
    }

    #[test]
    fn an_interesting_event_becomes_a_notification() {
        let output = run(&event("1", &opened())).unwrap();
        assert_eq!(output.topic, OUTPUT);
        assert_eq!(output.key.as_deref(), Some(&b"o/r"[..]));
        assert_eq!(
            output.payload_text(),
            Some(r#"{"channel":"o/r","text":"ada opened issue #3: It \"breaks\""}"#)
        );
    }

    #[test]
    fn one_in_twenty_finds_the_messenger_busy_twice() {
        let busy: Vec<_> = (0..2000)
            .map(|n| event(&format!("github.webhooks/0/{n}"), &opened()))
            .filter(|e| run(e).is_err())
            .collect();
        assert!((60..140).contains(&busy.len()), "{}", busy.len());
        for event in busy {
            let retry = Failure::retry("messenger is busy");
            assert_eq!(run(&event.clone().on_attempt(2)), Err(retry));
            assert!(run(&event.on_attempt(3)).is_ok());
        }
    }

    #[test]
    fn dull_events_are_skipped_and_malformed_ones_rejected() {
        let dull = json!({"type": "label.created", "repository": "o/r"});
        assert!(matches!(run(&event("1", &dull)), Err(Failure::Skip { .. })));
        let code = |event: &Event| match run(event) {
            Err(Failure::Reject { code, .. }) => code,
            other => panic!("{other:?}"),
        };
        assert_eq!(code(&event("1", &json!({"type": "push"}))), "no-repository");
        assert_eq!(code(&event("1", &json!({"kind": "push"}))), "invalid-json");
        assert_eq!(code(&Event::new("t").with_text("no json")), "invalid-json");
        assert_eq!(code(&Event::new("t")), "no-payload");
    }
}
