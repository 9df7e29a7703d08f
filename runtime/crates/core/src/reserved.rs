//! Names of the topics that Sandbar makes for itself, beside the dead letters.

use std::time::Duration;

const INBOX: &str = "sandbar-inbox.";
const HALTED: &str = "sandbar-halted.";
const RETRY: &str = "sandbar-retry.";

/// Whether `topic` is one of Sandbar's own. A glob never matches these: they are
/// read by who names them exactly.
pub fn is_reserved(topic: &str) -> bool {
    [INBOX, HALTED, RETRY].iter().any(|prefix| topic.starts_with(prefix))
}

/// Where events go that only `group` is to handle: redriven dead letters (contract
/// D3) and events whose delayed retry is due (contract R5).
pub fn inbox(group: &str) -> String {
    format!("{INBOX}{group}")
}

/// Where `group` notes the keys that wait behind a dead letter (contract O4).
pub fn halted(group: &str) -> String {
    format!("{HALTED}{group}")
}

/// Where events wait for `delay` before they go to their inbox (contract R5), `prefix`
/// being what keeps several installations on one broker apart.
pub fn retry_tier(prefix: &str, delay: Duration) -> String {
    format!("{RETRY}{prefix}{}ms", delay.as_millis())
}

/// The delay of `topic`, if that is what [`retry_tier`] calls it for `prefix`.
pub fn tier_delay(prefix: &str, topic: &str) -> Option<Duration> {
    let delay = topic.strip_prefix(RETRY)?.strip_prefix(prefix)?.strip_suffix("ms")?;
    let delay = Duration::from_millis(delay.parse().ok()?);
    (retry_tier(prefix, delay) == topic).then_some(delay)
}

/// The group that takes events out of the tiers of `prefix` when they are due.
pub fn courier(prefix: &str) -> String {
    format!("{RETRY}{prefix}courier")
}

/// Where that group puts what it can deliver to nobody.
pub fn undeliverable(prefix: &str) -> String {
    format!("{RETRY}{prefix}undeliverable")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_names_are_known_as_such() {
        let names = [inbox("g"), halted("g"), retry_tier("sandbar.", Duration::from_secs(5))];
        assert_eq!(names, ["sandbar-inbox.g", "sandbar-halted.g", "sandbar-retry.sandbar.5000ms"]);
        assert!(names.iter().all(|name| is_reserved(name)));
        assert!(!is_reserved("sandbar.orders"));
    }

    #[test]
    fn r5_a_tier_is_known_by_its_name_among_those_of_other_installations() {
        let delay = Duration::from_secs(5);
        assert_eq!(tier_delay("a.", &retry_tier("a.", delay)), Some(delay));
        let others = [retry_tier("b.", delay), retry_tier("a.b.", delay), undeliverable("a.")];
        assert!(others.iter().all(|topic| tier_delay("a.", topic).is_none()));
        for odd in ["sandbar-retry.a.+5ms", "sandbar-retry.a.05ms", "sandbar-retry.a.ms"] {
            assert_eq!(tier_delay("a.", odd), None, "{odd}");
        }
    }
}
