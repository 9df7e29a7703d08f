//! The plugin's configuration: the `config` table of `NAME.toml` or `[plugin.NAME]`.
//!
//! ```
//! use sandbar_sdk::{config, testing};
//!
//! testing::set_config([("threshold", "15")]);
//! let threshold: u32 = config::parse("threshold")?.unwrap_or(60);
//! assert_eq!(threshold, 15);
//! # Ok::<(), config::ConfigError>(())
//! ```
//!
//! In a unit test on the host the values are those of [`testing`](crate::testing).

use std::{fmt, str::FromStr};

use crate::{Failure, platform};

/// Why a configuration value could not be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigError {
    /// The host could not give it.
    Unavailable {
        /// Which key; `None`: all of them were asked for.
        key: Option<String>,
        /// What the host says.
        reason: String,
    },
    /// It is needed and not set.
    Missing {
        /// Which key.
        key: String,
    },
    /// It is set to something else than is needed.
    Invalid {
        /// Which key.
        key: String,
        /// What it is set to.
        value: String,
        /// Why that does not do.
        reason: String,
    },
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unavailable { key: Some(key), reason } => write!(f, "config `{key}`: {reason}"),
            Self::Unavailable { key: None, reason } => write!(f, "config: {reason}"),
            Self::Missing { key } => {
                write!(f, "config `{key}` is not set: add it under `config` of this plugin")
            }
            Self::Invalid { key, value, reason } => {
                write!(f, "config `{key}` is {value:?}: {reason}")
            }
        }
    }
}

impl std::error::Error for ConfigError {}

/// Worth a retry: the operator may mend the configuration meanwhile.
impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::retry(error.to_string())
    }
}

/// For an `init` function that returns `Result<(), String>`.
impl From<ConfigError> for String {
    fn from(error: ConfigError) -> Self {
        error.to_string()
    }
}

/// The value of `key`, where it is set.
///
/// # Errors
/// [`ConfigError::Unavailable`].
pub fn get(key: &str) -> Result<Option<String>, ConfigError> {
    platform::config_get(key)
        .map_err(|reason| ConfigError::Unavailable { key: Some(key.to_owned()), reason })
}

/// The value of `key`.
///
/// # Errors
/// [`ConfigError::Missing`] where it is not set.
pub fn require(key: &str) -> Result<String, ConfigError> {
    get(key)?.ok_or_else(|| ConfigError::Missing { key: key.to_owned() })
}

/// The value of `key`, read as a `T`, where it is set.
///
/// # Errors
/// [`ConfigError::Invalid`] where it is no `T`.
pub fn parse<T>(key: &str) -> Result<Option<T>, ConfigError>
where
    T: FromStr<Err: fmt::Display>,
{
    let Some(value) = get(key)? else { return Ok(None) };
    match value.parse() {
        Ok(parsed) => Ok(Some(parsed)),
        Err(error) => {
            let (key, reason) = (key.to_owned(), error.to_string());
            Err(ConfigError::Invalid { key, value, reason })
        }
    }
}

/// All keys and values.
///
/// # Errors
/// [`ConfigError::Unavailable`].
pub fn all() -> Result<Vec<(String, String)>, ConfigError> {
    platform::config_all().map_err(|reason| ConfigError::Unavailable { key: None, reason })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn errors_name_key_value_and_what_to_do() {
        testing::set_config([("n", "many")]);
        assert_eq!(get("n").unwrap().as_deref(), Some("many"));
        assert_eq!(all().unwrap(), [("n".to_owned(), "many".to_owned())]);
        assert_eq!(
            parse::<u32>("n").unwrap_err().to_string(),
            "config `n` is \"many\": invalid digit found in string"
        );
        assert_eq!(parse::<u32>("m").unwrap(), None);
        assert_eq!(
            require("m").unwrap_err().to_string(),
            "config `m` is not set: add it under `config` of this plugin"
        );
    }
}
