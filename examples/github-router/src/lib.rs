//! Turns GitHub webhooks into small typed events, in order per repository.

use std::borrow::Cow;

use sandbar::{Event, Failure, Json, Outgoing};
use serde::{Deserialize, Serialize};

/// Where the typed events go.
const OUTPUT: &str = "github.events";
const VERSION: &str = if cfg!(feature = "v2") { "2.0.0" } else { "1.0.0" };

/// A webhook as a relay writes it: GitHub's event name and the body it posted.
#[derive(Debug, Deserialize)]
struct Webhook<'a> {
    #[serde(borrow)]
    event: Cow<'a, str>,
    #[serde(borrow)]
    payload: Body<'a>,
}

/// The few fields of a body that are looked at; everything else is passed over.
#[derive(Debug, Deserialize)]
struct Body<'a> {
    #[serde(borrow)]
    action: Option<Cow<'a, str>>,
    #[serde(borrow)]
    repository: Option<Repository<'a>>,
    #[serde(borrow)]
    organization: Option<Account<'a>>,
    #[serde(borrow)]
    sender: Option<Account<'a>>,
    #[serde(borrow)]
    issue: Option<Subject<'a>>,
    #[serde(borrow)]
    pull_request: Option<Subject<'a>>,
    #[serde(borrow)]
    discussion: Option<Subject<'a>>,
}

#[derive(Debug, Deserialize)]
struct Repository<'a> {
    #[serde(borrow)]
    full_name: Option<Cow<'a, str>>,
    #[cfg(feature = "v2")]
    #[serde(borrow)]
    html_url: Option<Cow<'a, str>>,
}

#[derive(Debug, Deserialize)]
struct Account<'a> {
    #[serde(borrow)]
    login: Option<Cow<'a, str>>,
}

/// What an event is about.
#[derive(Debug, Deserialize)]
struct Subject<'a> {
    number: Option<u64>,
    #[serde(borrow)]
    title: Option<Cow<'a, str>>,
    #[serde(borrow)]
    updated_at: Option<Cow<'a, str>>,
    #[cfg(feature = "v2")]
    #[serde(borrow)]
    html_url: Option<Cow<'a, str>>,
}

/// The event that is published; the same webhook always gives the same bytes.
#[derive(Debug, Serialize)]
struct Typed<'a> {
    #[cfg(feature = "v2")]
    schema: u32,
    #[serde(rename = "type")]
    kind: &'a str,
    repository: Option<&'a str>,
    organization: Option<&'a str>,
    sender: Option<&'a str>,
    action: Option<&'a str>,
    number: Option<u64>,
    title: Option<&'a str>,
    at: Option<&'a str>,
    #[cfg(feature = "v2")]
    url: Option<&'a str>,
}

#[sandbar::handler(
    version = VERSION,
    topics = ["github.webhooks"],
    publishes = ["github.events"],
    ordering = "key",
    retry(max_attempts = 5, initial_delay = "200ms"),
)]
fn route(event: &Event, Json(webhook): Json<Webhook<'_>>) -> Result<Outgoing, Failure> {
    if webhook.event.is_empty() {
        return Err(Failure::reject("no-event-name", "`event` is empty"));
    }
    let body = &webhook.payload;
    let action = body.action.as_deref();
    let kind = match action {
        Some(action) => Cow::Owned(format!("{}.{action}", webhook.event)),
        None => Cow::Borrowed(&*webhook.event),
    };
    let repository = body.repository.as_ref().and_then(|r| r.full_name.as_deref());
    let organization = body.organization.as_ref().and_then(|o| o.login.as_deref());
    let subject = [&body.pull_request, &body.issue, &body.discussion].into_iter().flatten().next();
    let typed = Typed {
        #[cfg(feature = "v2")]
        schema: 2,
        kind: &kind,
        repository,
        organization,
        sender: body.sender.as_ref().and_then(|s| s.login.as_deref()),
        action,
        number: subject.and_then(|s| s.number),
        title: subject.and_then(|s| s.title.as_deref()),
        at: subject.and_then(|s| s.updated_at.as_deref()),
        #[cfg(feature = "v2")]
        url: url(body, subject),
    };
    // events of one repository, or else of one organisation, stay in order
    let key = repository.or(organization).unwrap_or("none");
    Ok(Outgoing::new(OUTPUT)
        .key(key)
        .json(&typed)?
        // an id that a redelivery repeats lets consumers find duplicates
        .attribute("id", event.id())
        .attribute("source", "/github-router")
        .attribute("type", kind.as_ref()))
}

#[cfg(feature = "v2")]
fn url<'a>(body: &'a Body<'_>, subject: Option<&'a Subject<'_>>) -> Option<&'a str> {
    let of_repository = || body.repository.as_ref()?.html_url.as_deref();
    subject.and_then(|s| s.html_url.as_deref()).or_else(of_repository)
}

#[cfg(test)]
mod tests {
    use sandbar::FromEvent;
    use serde_json::{Value, json};

    use super::*;

    fn run(payload: &str) -> Result<Outgoing, Failure> {
        let event = Event::new("github.webhooks").at(0, 7).with_text(payload);
        route(&event, Json::from_event(&event)?)
    }

    fn typed(output: &Outgoing) -> Value {
        serde_json::from_slice(output.payload.as_deref().unwrap()).unwrap()
    }

    #[test]
    fn a_webhook_becomes_a_typed_event_of_its_repository() {
        let webhook = json!({"event": "pull_request", "payload": {
            "action": "opened",
            "pull_request": {"number": 2, "title": "Say \"hi\"", "updated_at": "2019-05-15T15:20:33Z",
                             "html_url": "https://github.com/o/r/pull/2"},
            "repository": {"full_name": "o/r", "html_url": "https://github.com/o/r"},
            "sender": {"login": "ada"},
        }});
        let output = run(&webhook.to_string()).unwrap();
        assert_eq!(output.topic, OUTPUT);
        assert_eq!(output.key.as_deref(), Some(&b"o/r"[..]));
        let mut expected = json!({
            "type": "pull_request.opened", "repository": "o/r", "organization": null, "sender": "ada",
            "action": "opened", "number": 2, "title": "Say \"hi\"", "at": "2019-05-15T15:20:33Z",
        });
        if cfg!(feature = "v2") {
            expected["schema"] = json!(2);
            expected["url"] = json!("https://github.com/o/r/pull/2");
        }
        assert_eq!(typed(&output), expected);
        let id = ("id".into(), "github.webhooks/0/7".into());
        assert!(output.attributes.contains(&id), "{:?}", output.attributes);
    }

    #[test]
    fn an_event_without_a_repository_is_keyed_by_organisation_or_none() {
        let key = |payload: Value| {
            let output = run(&json!({"event": "ping", "payload": payload}).to_string()).unwrap();
            assert_eq!(typed(&output)["type"], "ping");
            String::from_utf8(output.key.unwrap().to_vec()).unwrap()
        };
        assert_eq!(key(json!({"organization": {"login": "o"}})), "o");
        assert_eq!(key(json!({})), "none");
    }

    #[test]
    fn malformed_lines_are_rejected_and_say_why() {
        for (line, what) in [
            ("", "EOF"),
            ("{\"event\":\"push\"", "EOF"),
            ("{\"event\":\"push\"}", "missing field `payload`"),
            ("{\"event\":\"push\",\"payload\":{\"action\":1}}", "at payload.action"),
            ("{\"event\":\"\",\"payload\":{}}", "`event` is empty"),
        ] {
            let Err(Failure::Reject { message, .. }) = run(line) else { panic!("accepted {line}") };
            assert!(message.contains(what), "{line}: {message}");
        }
    }

    #[test]
    fn all_real_webhooks_are_routed() {
        let lines = include_str!("../../data/github-webhooks.ndjson").lines();
        let mut keys = std::collections::BTreeMap::<Vec<u8>, usize>::new();
        let mut types = std::collections::BTreeSet::new();
        for line in lines {
            let output = run(line).unwrap_or_else(|f| panic!("{f}: {line}"));
            types.insert(
                typed(&output)["type"].as_str().unwrap().split('.').next().unwrap().to_owned(),
            );
            *keys.entry(output.key.unwrap().to_vec()).or_default() += 1;
        }
        assert_eq!(keys.values().sum::<usize>(), 329);
        assert_eq!(types.len(), 58);
        assert_eq!(keys[&b"Codertocat/Hello-World"[..]], 230);
    }
}
