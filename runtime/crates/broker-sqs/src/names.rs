//! Topics and the queues that hold them.

use globset::{Glob, GlobSet, GlobSetBuilder};
use sandbar_core::reserved;

const FIFO: &str = ".fifo";
/// Longest name of a queue, its suffix included.
const LENGTH_MAX: usize = 80;

/// Whether a queue's name may hold this.
pub(crate) fn is_legal(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')
}

/// How the topics of a connection are called as queues.
#[derive(Debug, Clone)]
pub(crate) struct Names {
    pub prefix: String,
    pub fifo: bool,
}

impl Names {
    /// The queue of `topic`: its dots, which SQS does not allow, become `__`.
    pub fn queue(&self, topic: &str) -> Result<String, String> {
        let name = topic.replace('.', "__");
        let suffix = if self.fifo { FIFO } else { "" };
        let queue = format!("{}{name}{suffix}", self.prefix);
        if topic.ends_with(FIFO) {
            return Err(format!(
                "topic `{topic}` cannot be a queue: name it without `{FIFO}`, on a connection \
                 with `fifo = true`"
            ));
        }
        if topic.is_empty() || !name.bytes().all(is_legal) || topic_of(&name) != topic {
            return Err(format!(
                "topic `{topic}` cannot be a queue: a topic's name may hold letters, digits, \
                 `-`, `_` and `.`, where `.` stands for `__` in the queue's name"
            ));
        }
        if queue.len() > LENGTH_MAX {
            return Err(format!(
                "topic `{topic}` cannot be a queue: `{queue}` is longer than {LENGTH_MAX} \
                 characters"
            ));
        }
        Ok(queue)
    }

    /// The topic that `queue` holds, if it is one of this connection's.
    pub fn topic(&self, queue: &str) -> Option<String> {
        let name = match (queue.strip_suffix(FIFO), self.fifo) {
            (Some(name), true) => name,
            (None, false) => queue,
            _ => return None,
        };
        let name = name.strip_prefix(self.prefix.as_str()).filter(|name| !name.is_empty())?;
        let topic = topic_of(name);
        (self.queue(&topic).as_deref() == Ok(queue)).then_some(topic)
    }
}

fn topic_of(name: &str) -> String {
    name.replace("__", ".")
}

/// Whether `topic` is a pattern rather than a name.
pub(crate) fn is_glob(topic: &str) -> bool {
    topic.contains('*')
}

/// Globs in which only `*` is special. None of them matches a topic of Sandbar's own.
pub(crate) struct Globs(GlobSet);

impl Globs {
    pub fn new<'a>(patterns: impl Iterator<Item = &'a str>) -> Result<Self, globset::Error> {
        let mut set = GlobSetBuilder::new();
        for pattern in patterns {
            let pieces: Vec<_> = pattern.split('*').map(globset::escape).collect();
            set.add(Glob::new(&pieces.join("*"))?);
        }
        Ok(Self(set.build()?))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn matches(&self, topic: &str) -> bool {
        !reserved::is_reserved(topic) && self.0.is_match(topic)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_and_its_queue_name_each_other() {
        let plain = Names { prefix: "x-".into(), fifo: false };
        assert_eq!(plain.queue("orders.new_v1").unwrap(), "x-orders__new_v1");
        assert_eq!(plain.topic("x-orders__new_v1").unwrap(), "orders.new_v1");
        assert_eq!(plain.topic("x-orders.fifo"), None);
        assert_eq!(plain.topic("orders"), None);
        let fifo = Names { prefix: String::new(), fifo: true };
        assert_eq!(fifo.queue("orders").unwrap(), "orders.fifo");
        assert_eq!(fifo.topic("orders.fifo").unwrap(), "orders");
        assert_eq!(fifo.topic("orders"), None);
    }

    #[test]
    fn topics_that_cannot_be_queues_are_refused() {
        let names = Names { prefix: String::new(), fifo: false };
        for topic in ["", "a/b", "a b", "ü", "a__b", "a_.b", "a.fifo", &"x".repeat(81)] {
            assert!(names.queue(topic).unwrap_err().contains("cannot be a queue"), "{topic}");
        }
        assert!(names.queue(&"x".repeat(80)).is_ok());
    }

    #[test]
    fn globs_match_whole_names_and_nothing_reserved() {
        let globs = |patterns: &[&'static str]| Globs::new(patterns.iter().copied()).unwrap();
        let some = globs(&["a.*", "*b?"]);
        assert!(some.matches("a.b.c") && some.matches("ab?"));
        assert!(!some.matches("b.a.c") && !some.matches("abc"));
        assert!(!globs(&["*"]).matches("sandbar-inbox.g"));
        assert!(globs(&[]).is_empty());
    }
}
