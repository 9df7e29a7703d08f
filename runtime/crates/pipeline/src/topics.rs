//! Topic patterns: exact names, or globs in which only `*` is special.

use sandbar_core::reserved;

/// Whether `topic` matches `pattern`, where `*` stands for any run of characters. Only its
/// exact name matches a [reserved](sandbar_core::reserved) topic.
pub fn matches(pattern: &str, topic: &str) -> bool {
    let Some((head, mut pattern)) = pattern.split_once('*') else { return pattern == topic };
    if reserved::is_reserved(topic) {
        return false;
    }
    let Some(mut rest) = topic.strip_prefix(head) else { return false };
    // each piece between two stars is taken at its first place: if any place
    // lets the remainder match, the first one does
    while let Some((piece, next)) = pattern.split_once('*') {
        let Some(at) = rest.find(piece) else { return false };
        rest = &rest[at + piece.len()..];
        pattern = next;
    }
    rest.ends_with(pattern)
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn only_the_star_is_special() {
        for (pattern, topic, expected) in [
            ("a.b", "a.b", true),
            ("a.b", "a.bc", false),
            ("a.?", "a.b", false),
            ("*", "", true),
            ("a.*", "a.", true),
            ("a.*", "a", false),
            ("*.dlq", "x.y.dlq", true),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c-b", false),
            ("a*a", "a", false),
            ("**", "anything", true),
            ("*", "sandbar-inbox.g", false),
            ("sandbar-inbox.*", "sandbar-inbox.g", false),
            ("sandbar-inbox.g", "sandbar-inbox.g", true),
        ] {
            assert_eq!(matches(pattern, topic), expected, "{pattern} on {topic}");
        }
    }
}
