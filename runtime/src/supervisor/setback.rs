//! Why a plugin is not as its files and settings want it to be.

use sandbar_core::SourceError;
use sandbar_wasm::LoadError;

use super::State;
use crate::{
    config::{ConfigError, PluginConfig, SecretError},
    plugin_file::ReadError,
};

/// Why a step was not made.
#[derive(Debug)]
pub(super) enum Setback {
    /// These files and settings can never work.
    Refused(String),
    /// The same may work later.
    Later(String),
    /// The broker is away.
    Away(String),
    /// The files are changing; the folder watch will tell when they have settled.
    Unsettled,
}

impl Setback {
    pub(super) fn bad_name(name: &str) -> Self {
        Self::Refused(format!(
            "`{name}` cannot be part of a group and a topic: name the file with letters, digits, \
             `.`, `_` and `-` only, at most 128, and not with `route.` first"
        ))
    }

    pub(super) fn group_taken(config: &PluginConfig, holder: &str) -> Self {
        let PluginConfig { name, group, connection, .. } = config;
        Self::Later(format!(
            "group `{group}` on connection `{connection}` is that of plugin `{holder}`: set \
             another `group` in {name}.toml"
        ))
    }

    pub(super) fn may_work_later(&self) -> bool {
        matches!(self, Self::Later(_) | Self::Away(_))
    }

    /// The state of a plugin that has nothing else to run, and the reason.
    pub(super) fn told(self) -> (State, String) {
        match self {
            Self::Refused(reason) | Self::Later(reason) => (State::Failed, reason),
            Self::Away(reason) => (State::Waiting, reason),
            Self::Unsettled => (State::Loading, "its files are being written".into()),
        }
    }
}

impl From<ReadError> for Setback {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Changed(_) => Self::Unsettled,
            ReadError::Io { .. } => Self::Later(error.to_string()),
            ReadError::TooLarge { .. } | ReadError::NotText(_) => Self::Refused(error.to_string()),
        }
    }
}

impl From<LoadError> for Setback {
    fn from(error: LoadError) -> Self {
        match error {
            LoadError::Host(_) => Self::Later(error.to_string()),
            _ => Self::Refused(error.to_string()),
        }
    }
}

impl From<ConfigError> for Setback {
    fn from(error: ConfigError) -> Self {
        Self::Refused(error.to_string())
    }
}

impl From<SecretError> for Setback {
    fn from(error: SecretError) -> Self {
        match error.may_work_later() {
            true => Self::Later(error.to_string()),
            false => Self::Refused(error.to_string()),
        }
    }
}

impl From<SourceError> for Setback {
    fn from(error: SourceError) -> Self {
        match error {
            SourceError::Unavailable(reason) => Self::Away(reason),
            // an operator may create the topic or change the rights at any time
            SourceError::Rejected { reason, .. }
            | SourceError::Stale { reason, .. }
            | SourceError::Fenced(reason)
            | SourceError::Fatal(reason) => Self::Later(reason),
        }
    }
}
