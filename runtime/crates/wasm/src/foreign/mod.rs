//! Components that were built for other hosts, run unchanged. Which interface one exports
//! is found out once, at load; calls only match. Those that take many messages at a time are
//! called as all plugins that do (`concurrent`).

mod outbox;
mod wasi_messaging;
mod wasmcloud;
pub(crate) mod wasmcloud_async;

use std::collections::BTreeMap;

use sandbar_core::{Call, ErrorClass, HandlerError, Outcome, Verdict};
use serde::Serialize;
use wasmtime::{
    Store,
    component::{Instance, InstancePre, Linker},
};

pub(crate) use outbox::Outbox;

use crate::{
    convert::{LONGEST_MESSAGE, truncated},
    state::State,
};

/// An interface of others by which a component takes messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Foreign {
    /// `wasi:messaging/incoming-handler@0.2.0-draft`.
    WasiMessaging,
    /// `wasmcloud:messaging/handler@0.2.0`.
    WasmcloudMessaging,
}

impl Foreign {
    const ALL: [Self; 2] = [Self::WasiMessaging, Self::WasmcloudMessaging];

    /// The one that `exports` show.
    pub(crate) fn among(exports: &[String]) -> Option<Self> {
        Self::ALL.into_iter().find(|foreign| exports.iter().any(|e| e == foreign.handler()))
    }

    /// The interface that is called.
    pub(crate) fn handler(self) -> &'static str {
        match self {
            Self::WasiMessaging => "wasi:messaging/incoming-handler@0.2.0-draft",
            Self::WasmcloudMessaging => "wasmcloud:messaging/handler@0.2.0",
        }
    }

    /// Package and version, as `inspect` shows them.
    pub(crate) fn api(self) -> &'static str {
        match self {
            Self::WasiMessaging => "wasi:messaging 0.2.0-draft",
            Self::WasmcloudMessaging => "wasmcloud:messaging 0.2.0",
        }
    }
}

/// What such a component can fail with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ForeignError {
    /// Something took too long.
    Timeout,
    /// A connection failed.
    Connection,
    /// Something is not allowed.
    PermissionDenied,
    /// Anything else; all that `wasmcloud:messaging@0.2.0` knows.
    Other,
}

impl ForeignError {
    /// The name used in configuration, and the code of the dead letter.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Connection => "connection",
            Self::PermissionDenied => "permission-denied",
            Self::Other => "other",
        }
    }

    /// What follows where the operator says nothing else.
    fn usual(self) -> OnError {
        match self {
            Self::PermissionDenied => OnError::Reject,
            Self::Timeout | Self::Connection | Self::Other => OnError::Retry,
        }
    }
}

/// What follows such an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnError {
    /// Another attempt, by the retry policy.
    Retry,
    /// A dead letter at once.
    Reject,
}

/// What follows each error, where it is not the usual.
pub type OnErrors = BTreeMap<ForeignError, OnError>;

/// What a component said of a message that it did not handle.
struct Said {
    case: ForeignError,
    message: String,
}

impl Said {
    fn into_error(self, answers: &OnErrors) -> HandlerError {
        let usual = self.case.usual();
        self.answered(answers, usual)
    }

    /// With what is `usual` in its interface.
    fn answered(self, answers: &OnErrors, usual: OnError) -> HandlerError {
        let answer = answers.get(&self.case).copied().unwrap_or(usual);
        let verdict = match answer {
            OnError::Retry => Verdict::Retry { after: None },
            OnError::Reject => Verdict::Reject,
        };
        let message = truncated(&self.message, LONGEST_MESSAGE);
        HandlerError {
            code: self.case.as_str().into(),
            ..HandlerError::new(ErrorClass::Handler, verdict, message)
        }
    }
}

/// Where the export is in a component.
#[derive(Clone)]
pub(crate) enum Indices {
    WasiMessaging(wasi_messaging::Indices),
    Wasmcloud(wasmcloud::Indices),
}

/// The export of one instance.
#[derive(Clone)]
pub(crate) enum Guest {
    WasiMessaging(wasi_messaging::Guest),
    Wasmcloud(wasmcloud::Guest),
}

impl Indices {
    pub(crate) fn new(foreign: Foreign, pre: &InstancePre<State>) -> wasmtime::Result<Self> {
        Ok(match foreign {
            Foreign::WasiMessaging => Self::WasiMessaging(wasi_messaging::Indices::new(pre)?),
            Foreign::WasmcloudMessaging => Self::Wasmcloud(wasmcloud::Indices::new(pre)?),
        })
    }

    pub(crate) fn load(
        &self,
        store: &mut Store<State>,
        instance: &Instance,
    ) -> wasmtime::Result<Guest> {
        Ok(match self {
            Self::WasiMessaging(it) => Guest::WasiMessaging(it.load(store, instance)?),
            Self::Wasmcloud(it) => Guest::Wasmcloud(it.load(store, instance)?),
        })
    }
}

impl Guest {
    /// Runs one attempt: what the component published in it, or why it failed.
    pub(crate) async fn call(
        &self,
        store: &mut Store<State>,
        call: &Call,
        answers: &OnErrors,
    ) -> wasmtime::Result<Outcome> {
        store.data_mut().outbox.begin();
        let said = match self {
            Self::WasiMessaging(guest) => wasi_messaging::call(guest, store, call).await?,
            Self::Wasmcloud(guest) => wasmcloud::call(guest, store, call).await?,
        };
        let outputs = store.data_mut().outbox.end();
        Ok(said.map(|()| outputs.into()).map_err(|said| said.into_error(answers)))
    }
}

pub(crate) fn add_to_linker(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    wasi_messaging::add_to_linker(linker)?;
    wasmcloud::add_to_linker(linker)
}

/// Why there is no request/reply: an event has no one who waits for an answer.
const NO_REPLIES: &str =
    "request/reply is not offered: events of a topic are not answered; publish to a topic instead";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r3_the_operator_decides_what_follows_an_error() {
        let verdict = |case, answers: &OnErrors| {
            let error = Said { case, message: "m".into() }.into_error(answers);
            assert_eq!((error.code.as_str(), error.class), (case.as_str(), ErrorClass::Handler));
            error.verdict
        };
        let (retry, usual) = (Verdict::Retry { after: None }, OnErrors::new());
        assert_eq!(verdict(ForeignError::Timeout, &usual), retry);
        assert_eq!(verdict(ForeignError::PermissionDenied, &usual), Verdict::Reject);
        assert_eq!(verdict(ForeignError::Other, &usual), retry);
        let answers = [(ForeignError::Other, OnError::Reject)].into();
        assert_eq!(verdict(ForeignError::Other, &answers), Verdict::Reject);
        assert_eq!(verdict(ForeignError::Timeout, &answers), retry);
    }
}
