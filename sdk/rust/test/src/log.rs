//! What the plugin logs, kept for the test.

use std::sync::{Mutex, PoisonError};

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
        // a test that panicked elsewhere leaves whole lines behind
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl LogSink for Captured {
    fn write(&self, line: Line<'_>) {
        let line = LogLine {
            level: line.level,
            context: line.context.to_owned(),
            message: line.message.to_owned(),
        };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(line);
    }
}
