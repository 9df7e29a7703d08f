use std::fmt;

use crate::Failure;

/// Longest part of a body in a message, in bytes.
const SHOWN: usize = 300;

/// Why there is no response, or none that can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum HttpError {
    /// The operator does not allow the host. Carries the URL's part that `http.allow` would
    /// need, such as `api.example.com`.
    Denied(String),
    /// The host is allowed, but is at an address that is not public. Carries the host.
    Prohibited(String),
    /// No response in time.
    Timeout,
    /// The response has more bytes than `http.max-response` of the plugin allows.
    TooLarge,
    /// The host cannot be reached, or broke off. Carries why.
    Unreachable(String),
    /// The request is none that can be sent. Carries why.
    Invalid(String),
    /// A response that says failure: see [`Response::success`](super::Response::success).
    Status {
        /// Such as 503.
        status: u16,
        /// What it says.
        body: String,
    },
    /// The body is not what was expected. Carries why.
    Body(String),
}

impl fmt::Display for HttpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Denied(host) => {
                write!(f, "{host} is not allowed: add \"{host}\" to `http.allow` of this plugin")
            }
            Self::Prohibited(host) => write!(
                f,
                "{host} is at an address that is not public: `http.allow` of this plugin must \
                 name the address, {{ host = \"{host}\", addresses = [\"...\"] }}"
            ),
            Self::Timeout => f.write_str("no response in time"),
            Self::TooLarge => {
                f.write_str("the response is larger than `http.max-response` of this plugin")
            }
            Self::Unreachable(why) => write!(f, "no response: {why}"),
            Self::Invalid(why) => write!(f, "the request cannot be sent: {why}"),
            Self::Status { status, body } => {
                let body = &body[..body.floor_char_boundary(SHOWN)];
                write!(f, "the response has status {status}: {body}")
            }
            Self::Body(why) => write!(f, "the response's body: {why}"),
        }
    }
}

impl std::error::Error for HttpError {}

/// What may pass is worth a retry, and so is what the operator can mend; a request that
/// cannot be sent, and a response that says it is the request's fault, are rejected.
impl From<HttpError> for Failure {
    fn from(error: HttpError) -> Self {
        let code = match &error {
            HttpError::Invalid(_) => "http-request",
            HttpError::Status { status: 400..=407 | 409..=424 | 426..=428 | 430..=499, .. } => {
                "http-status"
            }
            _ => return Self::retry(error.to_string()),
        };
        Self::reject(code, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_pass_is_tried_again_and_what_cannot_is_not() {
        let of = |status| HttpError::Status { status, body: String::new() };
        for error in [of(503), of(429), of(408), HttpError::Timeout, HttpError::Denied("h".into())]
        {
            assert!(matches!(Failure::from(error), Failure::Retry { .. }));
        }
        for error in [of(404), of(422), HttpError::Invalid("no host".into())] {
            assert!(matches!(Failure::from(error), Failure::Reject { .. }));
        }
    }
}
