//! Secrets that the operator granted to this plugin: the table `secrets` of `NAME.toml`.
//!
//! ```
//! use sandbar_sdk::{secrets, testing};
//!
//! testing::set_secrets([("signing-key", "opensesame")]);
//! let key = secrets::require("signing-key")?;
//! assert_eq!(key, "opensesame");
//! # Ok::<(), secrets::SecretError>(())
//! ```
//!
//! A plugin that only sends a secret along with its HTTP requests needs none of this:
//! `http.inject` adds it where the plugin cannot see it. In a unit test on the host the
//! values are those of [`testing`](crate::testing).

use std::fmt;

use crate::{Failure, platform};

/// Why a secret could not be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretError {
    /// The operator granted none of this name.
    Missing {
        /// The name.
        name: String,
    },
    /// It is no text.
    NotText {
        /// The name.
        name: String,
    },
}

impl fmt::Display for SecretError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { name } => {
                write!(f, "secret `{name}` is not granted: add it under `secrets` of this plugin")
            }
            Self::NotText { name } => write!(f, "secret `{name}` is no text"),
        }
    }
}

impl std::error::Error for SecretError {}

/// Worth a retry: the operator may mend the configuration meanwhile.
impl From<SecretError> for Failure {
    fn from(error: SecretError) -> Self {
        Self::retry(error.to_string())
    }
}

/// For an `init` function that returns `Result<(), String>`.
impl From<SecretError> for String {
    fn from(error: SecretError) -> Self {
        error.to_string()
    }
}

/// The secret of that name, where it was granted.
pub fn get(name: &str) -> Option<Vec<u8>> {
    platform::secret(name)
}

/// The secret of that name, as text.
///
/// # Errors
/// [`SecretError`] where it was not granted or is no text.
pub fn require(name: &str) -> Result<String, SecretError> {
    let secret = get(name).ok_or_else(|| SecretError::Missing { name: name.to_owned() })?;
    String::from_utf8(secret).map_err(|_| SecretError::NotText { name: name.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn an_error_names_the_secret_and_not_what_it_is() {
        testing::set_secrets([("bytes", vec![0xff, 0x41])]);
        assert_eq!(get("bytes"), Some(vec![0xff, 0x41]));
        assert_eq!(require("bytes").unwrap_err().to_string(), "secret `bytes` is no text");
        assert_eq!(
            require("other").unwrap_err().to_string(),
            "secret `other` is not granted: add it under `secrets` of this plugin"
        );
    }
}
