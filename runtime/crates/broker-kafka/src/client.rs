//! What librdkafka's clients have in common: their log goes to `tracing`.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use parking_lot::Mutex;
use rdkafka::{
    ClientContext, config::RDKafkaLogLevel, consumer::ConsumerContext, error::KafkaError,
};

/// Passes one line of librdkafka's log on.
pub(crate) fn log(connection: &str, level: RDKafkaLogLevel, facility: &str, line: &str) {
    use RDKafkaLogLevel as L;
    // one set of properties serves consumers and producers: each would warn of the other's
    if facility == "CONFWARN" {
        tracing::debug!(connection, facility, "{line}");
        return;
    }
    match level {
        L::Emerg | L::Alert | L::Critical | L::Error => {
            tracing::error!(connection, facility, "{line}");
        }
        L::Warning => tracing::warn!(connection, facility, "{line}"),
        L::Notice | L::Info => tracing::info!(connection, facility, "{line}"),
        L::Debug => tracing::debug!(connection, facility, "{line}"),
    }
}

/// The context of a client that lives for one request or one reader: remembers
/// the last thing that went wrong, which says more than "timed out".
pub(crate) struct Listener {
    connection: Arc<str>,
    heard: Mutex<Option<String>>,
    failed: AtomicBool,
}

impl Listener {
    pub fn new(connection: Arc<str>) -> Self {
        Self { connection, heard: Mutex::new(None), failed: AtomicBool::new(false) }
    }

    /// The last error since the last call.
    pub fn take(&self) -> Option<String> {
        self.heard.lock().take()
    }

    /// A request of the client failed.
    pub fn failed(&self) {
        self.failed.store(true, Ordering::Relaxed);
    }

    /// Whether one did.
    pub fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }
}

impl ClientContext for Listener {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        log(&self.connection, level, facility, line);
    }

    fn stats_raw(&self, _: &[u8]) {}

    fn error(&self, _: KafkaError, reason: &str) {
        *self.heard.lock() = Some(reason.to_owned());
    }
}

impl ConsumerContext for Listener {}
