//! Errors of the configuration, and the broker's, sorted by what the caller can do.

use std::path::PathBuf;

use lapin::{Error, ErrorKind, protocol::AMQPErrorKind, protocol::AMQPSoftError};
use sandbar_core::SourceError;

/// Why a connection cannot be made of its configuration.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ConnectError {
    /// `uri` cannot be read. It may hold a password, so it is not shown.
    #[error(
        "`uri` is no AMQP URI: write `amqp://user:password@host:port/vhost`, all percent-encoded \
         (or give `username` and `password` apart)"
    )]
    Uri,
    /// TLS was asked for, and is not part of this build.
    #[error("`uri` begins with `amqps`, but this build has no TLS: use the cargo feature `tls`")]
    NeedsTls,
    /// The certificates cannot be read.
    #[error("`ca-file` {path}: {reason}", path = path.display())]
    CaFile {
        /// The file.
        path: PathBuf,
        /// The system's words.
        reason: String,
    },
    /// A queue argument that Sandbar itself decides.
    #[error("queue argument `{argument}` cannot be set: {reason}")]
    Controlled {
        /// The argument.
        argument: String,
        /// What decides it instead.
        reason: &'static str,
    },
    /// A name or a routing key of more bytes than AMQP can carry.
    #[error("`{text}` is longer than 255 bytes, which is the most that AMQP allows")]
    TooLong {
        /// The name.
        text: String,
    },
}

/// What the broker refused by closing the channel, if it did so for this one request.
pub(crate) fn refusal(error: &Error) -> Option<AMQPSoftError> {
    match error.kind() {
        ErrorKind::ProtocolError(error) => match error.kind() {
            AMQPErrorKind::Soft(soft) => Some(soft.clone()),
            AMQPErrorKind::Hard(_) => None,
        },
        _ => None,
    }
}

/// Whether the broker says that there is no such thing.
pub(crate) fn is_missing(error: &Error) -> bool {
    refusal(error) == Some(AMQPSoftError::NOTFOUND)
}

/// The words of an error without lapin's wrapping.
pub(crate) fn words(error: &Error) -> String {
    match error.kind() {
        ErrorKind::ProtocolError(error) => error.get_message().to_string(),
        ErrorKind::IOError(error) => error.to_string(),
        _ => error.to_string(),
    }
}

/// The error of a request made once, for `what`: fatal only where we may not do it.
pub(crate) fn request(what: &str, error: &Error) -> SourceError {
    let message = format!("could not {what}: {}", words(error));
    match refusal(error) {
        Some(AMQPSoftError::ACCESSREFUSED) => SourceError::Fatal(message),
        _ => SourceError::Unavailable(message),
    }
}
