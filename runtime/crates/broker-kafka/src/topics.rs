//! Topic names and patterns.

use sandbar_core::SourceError;

/// Whether Kafka accepts `name` as a topic. librdkafka must never see any other:
/// names that it refuses outright end in a panic of its binding.
pub(crate) fn is_valid(name: &str) -> bool {
    let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    (1..=249).contains(&name.len()) && name.bytes().all(legal) && name != "." && name != ".."
}

/// `topic`, where Kafka accepts it as a name.
pub(crate) fn valid(topic: &str) -> Result<&str, SourceError> {
    let bad = || SourceError::Fatal(format!("`{topic}` is no valid topic name"));
    is_valid(topic).then_some(topic).ok_or_else(bad)
}

/// Whether `topic` is a pattern rather than a name.
pub(crate) fn is_glob(topic: &str) -> bool {
    topic.contains(['*', '?'])
}

/// What librdkafka subscribes to: a name, or an anchored regular expression for a
/// glob. `None` where `topic` is neither.
pub(crate) fn subscription(topic: &str) -> Option<String> {
    if !is_glob(topic) {
        return is_valid(topic).then(|| topic.to_owned());
    }
    // apart from the wildcards only these may appear in a name, and of these only the dot is special
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '*' | '?');
    if !topic.chars().all(legal) {
        return None;
    }
    let mut regex = String::from("^");
    for c in topic.chars() {
        match c {
            '*' => regex.push_str(".*"),
            '?' => regex.push('.'),
            '.' => regex.push_str("\\."),
            c => regex.push(c),
        }
    }
    regex.push('$');
    Some(regex)
}

/// Whether the brokers keep `topic` for themselves.
pub(crate) fn is_internal(topic: &str) -> bool {
    topic.starts_with("__")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_kafkas_rule() {
        assert!(is_valid("github.webhooks_v1-x"));
        for bad in ["", ".", "..", "a/b", "a b", "ü", "nul\0", &"x".repeat(250)] {
            assert!(!is_valid(bad), "{bad:?}");
        }
    }

    #[test]
    fn globs_become_anchored_expressions() {
        assert_eq!(subscription("plain.name").unwrap(), "plain.name");
        assert_eq!(subscription("github.*").unwrap(), "^github\\..*$");
        assert_eq!(subscription("a?").unwrap(), "^a.$");
        assert_eq!(subscription("a[b]*"), None);
        assert_eq!(subscription("a b"), None);
    }
}
