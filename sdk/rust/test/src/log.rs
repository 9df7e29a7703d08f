//! What the plugin logs, kept for the test.

use std::sync::{Mutex, MutexGuard, PoisonError};

use sandbar_wasm::{LogLevel, LogLine as Line, LogSink};

/// One line that the plugin logged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// How grave.
    pub level: LogLevel,
    /// Where from: a Rust plugin's module path, or `panic`.
    pub context: String,
    /// The text.
    pub message: String,
}

#[derive(Debug, Default)]
pub(crate) struct Captured(Mutex<Vec<LogLine>>);

impl Captured {
    pub(crate) fn lines(&self) -> Vec<LogLine> {
        self.since(0)
    }

    pub(crate) fn len(&self) -> usize {
        self.all().len()
    }

    /// Lines after the first `seen`.
    pub(crate) fn since(&self, seen: usize) -> Vec<LogLine> {
        self.all().get(seen..).unwrap_or_default().to_vec()
    }

    fn all(&self) -> MutexGuard<'_, Vec<LogLine>> {
        // a test that panicked elsewhere leaves whole lines behind
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LogSink for Captured {
    fn write(&self, line: Line<'_>) {
        let line = LogLine {
            level: line.level,
            context: line.context.to_owned(),
            message: line.message.to_owned(),
        };
        self.all().push(line);
    }
}
