//! From what wasmtime raises to what the pipeline is told (contract R4).

use sandbar_core::{ErrorClass, HandlerError, Verdict};
use sandbar_frame::Malformed;
use wasmtime::{PoolConcurrencyLimitError, Trap, WasmBacktrace};
use wasmtime_wasi::I32Exit;

use crate::{
    convert::{LONGEST_MESSAGE, truncated},
    limits::{Budget, LimitHit},
};

/// Longest backtrace handed on, in bytes.
const LONGEST_BACKTRACE: usize = 8 << 10;
/// How wasmtime words that the guest returned more than the host is ready to copy;
/// the type of that error is private (`s2_amplifies` fails if the words change).
const COPY_REFUSED: &str = "fuel allocated for hostcalls has been exhausted";

/// What ended a call.
pub(crate) struct Raised {
    /// `None`: nothing that the host knows.
    class: Option<ErrorClass>,
    message: String,
    backtrace: Option<String>,
}

impl Raised {
    /// By a failing call; `panic` is what the guest said before.
    pub(crate) fn by(error: wasmtime::Error, panic: Option<String>) -> Self {
        let backtrace = error
            .downcast_ref::<WasmBacktrace>()
            .map(|trace| truncated(&trace.to_string(), LONGEST_BACKTRACE).to_owned());
        let (class, message) = if let Some(hit) = error.downcast_ref::<LimitHit>() {
            (Some(hit.class()), hit.to_string())
        } else if let Some(exit) = error.downcast_ref::<I32Exit>() {
            (Some(ErrorClass::Trap), format!("the plugin called exit({})", exit.0))
        } else if let Some(trap) = error.downcast_ref::<Trap>() {
            (Some(ErrorClass::Trap), panic.unwrap_or_else(|| trap.to_string()))
        } else if error.is::<PoolConcurrencyLimitError>() {
            (Some(ErrorClass::Host), format!("{error:#}: raise `max-instances` in `[engine]`"))
        } else if format!("{error:#}").contains(COPY_REFUSED) {
            (Some(ErrorClass::Output), LimitHit::OutputFlood.to_string())
        } else {
            (None, format!("{:#}", error.root_cause()))
        };
        Self { class, message, backtrace }
    }

    /// By the deadline.
    pub(crate) fn late(budget: Budget) -> Self {
        let hit = LimitHit::Deadline(budget);
        Self { class: Some(hit.class()), message: hit.to_string(), backtrace: None }
    }

    fn into_error(self, unknown: ErrorClass) -> HandlerError {
        HandlerError {
            backtrace: self.backtrace,
            ..again(self.class.unwrap_or(unknown), &self.message)
        }
    }
}

/// Raised by a call into the guest: what the host does not know the guest has done,
/// such as returning a pointer to nowhere.
pub(crate) fn of_guest(raised: Raised) -> HandlerError {
    raised.into_error(ErrorClass::Trap)
}

/// Raised while an instance was made: what is no trap is the host's failure.
pub(crate) fn of_host(raised: Raised) -> HandlerError {
    raised.into_error(ErrorClass::Host)
}

/// The plugin returned more than it may.
pub(crate) fn output(hit: &LimitHit) -> HandlerError {
    again(hit.class(), &hit.to_string())
}

/// The plugin's `init` returned an error.
pub(crate) fn init(message: &str) -> HandlerError {
    HandlerError { code: "init".into(), ..again(ErrorClass::Handler, message) }
}

/// The host failed by itself.
pub(crate) fn host(message: &str) -> HandlerError {
    again(ErrorClass::Host, message)
}

/// The plugin broke the rule of `handle-batch`.
pub(crate) fn batch_length(returned: usize, events: usize) -> HandlerError {
    let message = format!("handle-batch returned {returned} outcomes for {events} events");
    HandlerError { code: "batch-length".into(), ..again(ErrorClass::Handler, &message) }
}

/// The plugin returned bytes that are no frame of outcomes.
pub(crate) fn packed_frame(malformed: &Malformed) -> HandlerError {
    let message = format!("the plugin's frame of outcomes cannot be read: {malformed}");
    HandlerError { code: "packed-frame".into(), ..again(ErrorClass::Output, &message) }
}

/// Traps and limits count as `retry` with the policy's delay.
fn again(class: ErrorClass, message: &str) -> HandlerError {
    HandlerError::new(class, Verdict::Retry { after: None }, truncated(message, LONGEST_MESSAGE))
}
