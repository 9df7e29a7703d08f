//! What runtimes and broker write about themselves, followed line by line.

use std::{
    fs::File,
    io::{BufRead, BufReader, Seek, SeekFrom},
    path::PathBuf,
};

use serde::Serialize;

use crate::verifier::Verifier;

/// What the logs told.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Told {
    /// Members that were thrown out because they did not poll.
    pub missed_polls: u64,
    /// Members whose session ended without a word, by the broker's log.
    pub sessions_expired: u64,
    /// Partitions that were lost instead of being handed over.
    pub partitions_lost: u64,
    /// Panics of a runtime.
    pub panics: u64,
}

/// Log files, each read up to a place.
pub struct Logs {
    files: Vec<(PathBuf, u64)>,
    /// Names of the plugins, in the order of their subscriptions.
    plugins: Vec<String>,
    told: Told,
}

impl Logs {
    pub fn new(files: Vec<PathBuf>, plugins: Vec<String>) -> Self {
        Self { files: files.into_iter().map(|f| (f, 0)).collect(), plugins, told: Told::default() }
    }

    /// Reads what is new. Attempts that failed go to `verifier`.
    pub fn follow(&mut self, verifier: &Verifier) -> std::io::Result<Told> {
        let Self { files, plugins, told } = self;
        for (path, read) in files {
            // it is there from the first start on
            let Ok(mut file) = File::open(path) else { continue };
            file.seek(SeekFrom::Start(*read))?;
            let mut lines = BufReader::new(file);
            let mut line = Vec::new();
            while lines.read_until(b'\n', &mut line)? > 0 && line.ends_with(b"\n") {
                *read += line.len() as u64;
                let text = String::from_utf8_lossy(&line);
                told.hear(&text);
                if let Some((subscription, key, span)) = failed_attempt(&text, plugins) {
                    verifier.failed_attempt(subscription, key, span);
                }
                line.clear();
            }
        }
        Ok(*told)
    }
}

impl Told {
    fn hear(&mut self, line: &str) {
        let has = |what: &str| u64::from(line.contains(what));
        // librdkafka's words, and the group coordinator's
        self.missed_polls += has("maximum poll interval") + has("leaving due to poll timeout");
        self.sessions_expired += has("has failed, removing it from the group");
        self.partitions_lost += has("partition lost");
        self.panics += has("panicked at");
    }
}

/// An attempt that the plugin told of: subscription, key, beginning and end.
fn failed_attempt(line: &str, plugins: &[String]) -> Option<(usize, usize, (u64, u64))> {
    let (_, told) = line.split_once(": failed ")?;
    let mut words = told.split(' ');
    let key = words.next()?.parse().ok()?;
    let _number = words.next()?;
    let span = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    let subscription =
        plugins.iter().position(|name| told.contains(&format!("plugin=\"{name}\"")))?;
    Some((subscription, key, span))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attempt_is_read_from_a_line_of_the_log() {
        let plugins = ["chaos-a".to_owned(), "chaos-b".to_owned()];
        let line = "2026-11-21T15:00:00Z  INFO plugin: failed 12 34 1000 2000 plugin=\"chaos-b\" \
                    context=\"attempt\"\n";
        assert_eq!(failed_attempt(line, &plugins), Some((1, 12, (1000, 2000))));
        assert_eq!(failed_attempt("a commit: failed once", &plugins), None);
    }

    #[test]
    fn evictions_are_heard() {
        let mut told = Told::default();
        told.hear("MAXPOLL: Application maximum poll interval (10000ms) exceeded by 3ms");
        told.hear(
            "[GroupCoordinator 1]: Member x in group y has failed, removing it from the group",
        );
        assert_eq!((told.missed_polls, told.sessions_expired), (1, 1));
    }
}
