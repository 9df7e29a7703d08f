//! What must come out, computed from the webhooks alone.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::publish::Webhook;

/// What `github-notifier` tells somebody about.
const INTERESTING: [&str; 11] = [
    "issues.opened",
    "issues.closed",
    "issue_comment.created",
    "pull_request.opened",
    "pull_request.closed",
    "pull_request_review.submitted",
    "discussion.created",
    "release.published",
    "star.created",
    "fork",
    "push",
];

/// Events by the number of their webhook.
#[derive(Default)]
pub struct Expected {
    /// Key of the typed event of each well-formed webhook.
    pub routed: BTreeMap<u64, String>,
    pub malformed: BTreeSet<u64>,
    pub notified: BTreeSet<u64>,
    pub skipped: u64,
    /// Typed events that the notifier rejects.
    pub homeless: BTreeSet<u64>,
    /// Attempts after the first.
    pub retries: u64,
}

impl Expected {
    /// Of the webhooks that are published as `run`.
    pub fn of(webhooks: &[Webhook], run: &str) -> Self {
        let mut expected = Self::default();
        for (number, webhook) in (0..).zip(webhooks) {
            let parsed = webhook.payload.as_str().and_then(|p| serde_json::from_str(p).ok());
            match parsed {
                Some(body) => expected.add(number, run, &body),
                None => {
                    expected.malformed.insert(number);
                }
            }
        }
        expected
    }

    fn add(&mut self, number: u64, run: &str, body: &Value) {
        let (event, payload) = (body["event"].as_str().unwrap_or_default(), &body["payload"]);
        let kind = match payload["action"].as_str() {
            Some(action) => format!("{event}.{action}"),
            None => event.to_owned(),
        };
        let repository = payload["repository"]["full_name"].as_str();
        let organization = payload["organization"]["login"].as_str();
        self.routed.insert(number, repository.or(organization).unwrap_or("none").to_owned());
        if !INTERESTING.contains(&kind.as_str()) {
            self.skipped += 1;
        } else if repository.is_none() {
            self.homeless.insert(number);
        } else {
            self.notified.insert(number);
            let id = format!("/github-router#{run}-{number}");
            if fnv1a(id.as_bytes()).is_multiple_of(20) {
                self.retries += 2;
            }
        }
    }
}

/// The rule by which the notifier picks the events that fail twice.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}
