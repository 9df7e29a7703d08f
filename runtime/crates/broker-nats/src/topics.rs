//! Topic names: subjects, globs, and names that JetStream takes.

use sandbar_core::{SourceError, reserved};

/// Subjects under which a compacted topic keeps one event for each key.
pub(crate) const KEYED: &str = "sandbar-keyed.";

/// Whether `topic` is a subject of events: not one of NATS's own, and well formed. It may
/// hold NATS's wildcards.
pub(crate) fn is_valid(topic: &str) -> bool {
    let legal = |t: &str| {
        let wild = t.contains(['*', '>']) && t.len() > 1;
        !t.is_empty() && !wild && !t.contains(|c: char| c.is_whitespace() || c.is_control())
    };
    let own = topic.starts_with('$') || topic.starts_with("_INBOX") || topic.starts_with(KEYED);
    let last = topic.split('.').count() - 1;
    !own && topic.split('.').enumerate().all(|(i, t)| legal(t) && (t != ">" || i == last))
}

/// `topic`, where it is a subject.
pub(crate) fn valid(topic: &str) -> Result<&str, SourceError> {
    let bad = || {
        SourceError::Fatal(format!(
            "`{topic}` is no subject for events: use tokens separated by single dots, without \
             white space, that do not begin with `$`"
        ))
    };
    is_valid(topic).then_some(topic).ok_or_else(bad)
}

/// Whether `topic` is a pattern of the runtime rather than one subject.
pub(crate) fn is_glob(topic: &str) -> bool {
    topic.contains(['*', '?'])
}

/// Whether `glob`, where `*` is any characters and `?` is one, matches `topic`. It never
/// matches a reserved one.
pub(crate) fn matches(glob: &str, topic: &str) -> bool {
    if reserved::is_reserved(topic) {
        return false;
    }
    let (glob, topic): (Vec<char>, Vec<char>) = (glob.chars().collect(), topic.chars().collect());
    let (mut g, mut t) = (0, 0);
    // where the last `*` is, and how far it reaches
    let mut star: Option<(usize, usize)> = None;
    while t < topic.len() {
        match glob.get(g) {
            Some('*') => {
                star = Some((g, t));
                g += 1;
            }
            Some(c) if *c == '?' || *c == topic[t] => (g, t) = (g + 1, t + 1),
            _ => {
                let Some((at, reach)) = star else { return false };
                star = Some((at, reach + 1));
                (g, t) = (at + 1, reach + 1);
            }
        }
    }
    glob[g..].iter().all(|c| *c == '*')
}

/// The narrowest NATS subject that covers all that `glob` matches.
pub(crate) fn covering(glob: &str) -> String {
    let whole: Vec<&str> = glob.split('.').take_while(|t| !is_glob(t)).collect();
    if whole.is_empty() { ">".to_owned() } else { format!("{}.>", whole.join(".")) }
}

/// A name for a stream or consumer: `text` with dots as underscores. Where that might be
/// another's name too, or too long, a checksum makes it its own.
pub(crate) fn name(text: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' };
    let name: String = text.chars().map(plain).collect();
    let own = text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.'));
    if own && name.len() <= 120 {
        return name;
    }
    let short: String = name.chars().take(100).collect();
    format!("{short}_{:016x}", checksum(text.as_bytes()))
}

/// FNV-1a: names made of it must outlive this build.
pub(crate) fn checksum(bytes: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_are_told_from_what_is_none() {
        for good in ["a", "github.webhooks", "a.*.c", "a.>", "sandbar-inbox.g", "ü"] {
            assert!(is_valid(good), "{good}");
        }
        let own = ["$JS.API.STREAM.DELETE.x", "_INBOX.x", "sandbar-keyed.t.k"];
        for bad in ["", ".a", "a..b", "a b", "a.>.b", "a*", "a\n"].iter().chain(&own) {
            assert!(!is_valid(bad), "{bad:?}");
        }
    }

    #[test]
    fn globs_match_any_characters_but_no_reserved_topic() {
        for (glob, topic) in [
            ("github.*", "github.a.b"),
            ("*", "a"),
            ("a*c*e", "abcde"),
            ("a?", "ab"),
            ("a.*", "a.>"),
        ] {
            assert!(matches(glob, topic), "{glob} {topic}");
        }
        for (glob, topic) in
            [("github.*", "github"), ("a?", "a"), ("*b", "abc"), ("*", "sandbar-inbox.g")]
        {
            assert!(!matches(glob, topic), "{glob} {topic}");
        }
        assert_eq!(covering("a.b.c*"), "a.b.>");
        assert_eq!(covering("a*"), ">");
    }

    #[test]
    fn names_of_two_topics_differ() {
        assert_eq!(name("github.web-hooks"), "github_web-hooks");
        let alike = ["a.b_c", "a_b.c", "a_b_c", "a b c", "a.b.c"].map(name);
        for (i, one) in alike.iter().enumerate() {
            assert!(!alike[i + 1..].contains(one) && !one.contains('.'), "{one}");
        }
        assert!(name(&"x".repeat(300)).len() < 120);
    }
}
