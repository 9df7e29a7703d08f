//! Hands log records and panics to the host.

use std::{fmt::Write, panic};

use log::{Level, LevelFilter, Log, Metadata, Record, kv};

use super::base::wasi::logging::logging::{self, Level as HostLevel};
use crate::config;

/// The configuration key that sets the least severe level to be logged.
const LEVEL_KEY: &str = "log-level";

struct HostLog;

/// Called by the host's `init` on each new instance. Not by `describe`, during which
/// every import is denied.
pub(super) fn start() {
    panic::set_hook(Box::new(|info| {
        let message = info.payload_as_str().unwrap_or("a value that is no text");
        let text = match info.location() {
            Some(at) => format!("{message} ({}:{}:{})", at.file(), at.line(), at.column()),
            None => message.to_owned(),
        };
        logging::log(HostLevel::Critical, "panic", &text);
    }));
    // an error means that the plugin's own `init` of an earlier call has set one
    if log::set_logger(&HostLog).is_ok() {
        log::set_max_level(LevelFilter::Info);
        match config::parse(LEVEL_KEY) {
            Ok(Some(level)) => log::set_max_level(level),
            Ok(None) => {}
            Err(error) => log::warn!("{error}; one of off, error, warn, info, debug, trace"),
        }
    }
}

impl Log for HostLog {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let level = match record.level() {
            Level::Error => HostLevel::Error,
            Level::Warn => HostLevel::Warn,
            Level::Info => HostLevel::Info,
            Level::Debug => HostLevel::Debug,
            Level::Trace => HostLevel::Trace,
        };
        let mut message = record.args().to_string();
        // writing to a string fails only where a value's own formatting does
        let _ = record.key_values().visit(&mut Pairs(&mut message));
        logging::log(level, record.target(), &message);
    }

    fn flush(&self) {}
}

/// Appends ` key=value`.
struct Pairs<'a>(&'a mut String);

impl<'kvs> kv::VisitSource<'kvs> for Pairs<'_> {
    fn visit_pair(&mut self, key: kv::Key<'kvs>, value: kv::Value<'kvs>) -> Result<(), kv::Error> {
        Ok(write!(self.0, " {key}={value}")?)
    }
}
