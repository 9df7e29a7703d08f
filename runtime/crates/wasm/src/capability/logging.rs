//! `wasi:logging/logging`: lines of a plugin, limited in rate. Always linked.

use std::{
    borrow::Cow,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{runtime::Handle, time::Instant};
use wasmtime::component::{HasData, Linker};

use super::secrets::Redactor;
use crate::{
    PluginStats,
    bindings::wasi::logging::logging::{self, Host, Level},
    convert::truncated,
    state::State,
};

/// Longest line handed on, in bytes; the rest is cut off.
const LONGEST_LINE: usize = 16 << 10;
/// The context in which the SDK's panic hook logs the text of a panic.
const PANIC: &str = "panic";
/// How often dropped lines are reported while there are any.
const REPORT_EVERY: Duration = Duration::from_secs(1);

/// How grave a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// Step by step.
    Trace,
    /// For whoever debugs the plugin.
    Debug,
    /// For the operator.
    Info,
    /// Something is odd.
    Warn,
    /// Something failed.
    Error,
    /// The plugin cannot go on.
    Critical,
}

impl LogLevel {
    /// The name used in cases and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Trace => "trace",
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
            Self::Critical => "critical",
        }
    }
}

/// One line of a plugin.
#[derive(Debug, Clone, Copy)]
pub struct LogLine<'a> {
    /// Plugin name.
    pub plugin: &'a str,
    /// Level as given by the plugin; `Info` for its standard output, `Warn` for its
    /// standard error.
    pub level: LogLevel,
    /// Context as given by the plugin, or `stdout`, `stderr`, `host`.
    pub context: &'a str,
    /// The line, without its end.
    pub message: &'a str,
}

/// Where plugins' lines go. Called on the workers: must not block.
pub trait LogSink: Send + Sync + 'static {
    /// Takes one line.
    fn write(&self, line: LogLine<'_>);
}

/// Hands lines to `tracing`, under the target `plugin`.
#[derive(Debug, Clone, Copy, Default)]
pub struct TracingLog;

impl LogSink for TracingLog {
    fn write(&self, line: LogLine<'_>) {
        let LogLine { plugin, level, context, message } = line;
        match level {
            LogLevel::Trace => tracing::trace!(target: "plugin", plugin, context, "{message}"),
            LogLevel::Debug => tracing::debug!(target: "plugin", plugin, context, "{message}"),
            LogLevel::Info => tracing::info!(target: "plugin", plugin, context, "{message}"),
            LogLevel::Warn => tracing::warn!(target: "plugin", plugin, context, "{message}"),
            LogLevel::Error | LogLevel::Critical => {
                tracing::error!(target: "plugin", plugin, context, "{message}");
            }
        }
    }
}

/// The log of one plugin, shared by its instances.
pub(crate) struct PluginLog {
    plugin: String,
    sink: Arc<dyn LogSink>,
    stats: Arc<PluginStats>,
    redactor: Arc<Redactor>,
    bucket: Mutex<Bucket>,
    /// Lines dropped since the last report.
    dropped: AtomicU64,
}

impl fmt::Debug for PluginLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PluginLog").field("plugin", &self.plugin).finish_non_exhaustive()
    }
}

impl PluginLog {
    pub(crate) fn new(
        plugin: &str,
        lines_per_second: u32,
        sink: Arc<dyn LogSink>,
        stats: Arc<PluginStats>,
        redactor: Arc<Redactor>,
    ) -> Arc<Self> {
        Arc::new(Self {
            plugin: plugin.to_owned(),
            sink,
            stats,
            redactor,
            bucket: Mutex::new(Bucket::full(lines_per_second, Instant::now())),
            dropped: AtomicU64::new(0),
        })
    }

    pub(crate) fn line(self: &Arc<Self>, level: LogLevel, context: &str, message: &str) {
        if self.bucket.lock().take(Instant::now()) {
            self.stats.log_lines.inc();
            let [context, message] = [context, message].map(|text| self.redactor.clean(text));
            self.write(level, truncated(&context, LONGEST_LINE), truncated(&message, LONGEST_LINE));
            return;
        }
        self.stats.dropped_log_line();
        let first = self.dropped.fetch_add(1, Ordering::Relaxed) == 0;
        // the first one since the last report sees to the next; a line written while
        // an instance is dropped may come when there is no runtime any more
        if first && let Ok(runtime) = Handle::try_current() {
            runtime.spawn(Arc::clone(self).report());
        }
    }

    /// What is counted of the plugin.
    pub(crate) fn stats(&self) -> &PluginStats {
        &self.stats
    }

    async fn report(self: Arc<Self>) {
        tokio::time::sleep(REPORT_EVERY).await;
        let dropped = self.dropped.swap(0, Ordering::Relaxed);
        let message = format!("{dropped} log lines dropped (limits.log-lines-per-second)");
        self.write(LogLevel::Warn, "host", &message);
    }

    fn write(&self, level: LogLevel, context: &str, message: &str) {
        let (context, message) = (printable(context), printable(message));
        self.sink.write(LogLine {
            plugin: &self.plugin,
            level,
            context: &context,
            message: &message,
        });
    }
}

/// Text that does nothing to a terminal; lines and tabs stay as they are.
fn printable(text: &str) -> Cow<'_, str> {
    let harmful = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
    if !text.contains(harmful) {
        return text.into();
    }
    let escape = |c: char| match harmful(c) {
        true => c.escape_default().collect(),
        false => String::from(c),
    };
    text.chars().map(escape).collect()
}

/// A token bucket that holds one second's worth.
#[derive(Debug)]
struct Bucket {
    per_second: f64,
    tokens: f64,
    filled: Instant,
}

impl Bucket {
    fn full(per_second: u32, now: Instant) -> Self {
        let per_second = f64::from(per_second);
        Self { per_second, tokens: per_second, filled: now }
    }

    fn take(&mut self, now: Instant) -> bool {
        let gained = now.saturating_duration_since(self.filled).as_secs_f64() * self.per_second;
        self.tokens = (self.tokens + gained).min(self.per_second);
        self.filled = now;
        let enough = self.tokens >= 1.0;
        if enough {
            self.tokens -= 1.0;
        }
        enough
    }
}

/// The log of one store, borrowed for one host call.
pub(crate) struct LoggingView<'a> {
    log: &'a Arc<PluginLog>,
    panic: &'a mut Option<String>,
}

struct Logging;

impl HasData for Logging {
    type Data<'a> = LoggingView<'a>;
}

pub(crate) fn add_to_linker(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    logging::add_to_linker::<State, Logging>(linker, |state| LoggingView {
        log: &state.log,
        panic: &mut state.panic,
    })
}

impl Host for LoggingView<'_> {
    fn log(&mut self, level: Level, context: String, message: String) -> wasmtime::Result<()> {
        let level = match level {
            Level::Trace => LogLevel::Trace,
            Level::Debug => LogLevel::Debug,
            Level::Info => LogLevel::Info,
            Level::Warn => LogLevel::Warn,
            Level::Error => LogLevel::Error,
            Level::Critical => LogLevel::Critical,
        };
        self.log.line(level, &context, &message);
        if level == LogLevel::Critical && context == PANIC {
            // kept whatever the rate limit says: it becomes the error of the trap that follows
            *self.panic = Some(message);
        }
        Ok(())
    }
}

/// For `describe`, which has no capability: its panics are heard, all else traps.
pub(crate) fn add_panic_to_linker(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    logging::add_to_linker::<State, Panic>(linker, |state| PanicView(&mut state.panic))
}

struct Panic;

impl HasData for Panic {
    type Data<'a> = PanicView<'a>;
}

pub(crate) struct PanicView<'a>(&'a mut Option<String>);

impl Host for PanicView<'_> {
    fn log(&mut self, level: Level, context: String, message: String) -> wasmtime::Result<()> {
        if level != Level::Critical || context != PANIC {
            return Err(wasmtime::Error::msg("it called wasi:logging/logging#log"));
        }
        *self.0 = Some(message);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn s2_bucket_refills_at_its_rate_and_holds_one_second() {
        let mut bucket = Bucket::full(10, Instant::now());
        let taken = |bucket: &mut Bucket| (0..100).filter(|_| bucket.take(Instant::now())).count();
        assert_eq!(taken(&mut bucket), 10);
        tokio::time::advance(Duration::from_millis(500)).await;
        assert_eq!(taken(&mut bucket), 5);
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(taken(&mut bucket), 10);
    }

    #[test]
    fn s2_a_rate_of_zero_lets_nothing_through() {
        assert!(!Bucket::full(0, Instant::now()).take(Instant::now()));
    }
}
