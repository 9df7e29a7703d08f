//! What is known of a plugin: for the log, the API and the metrics.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use sandbar_wasm::Generation;
use serde::{Deserialize, Serialize};

use crate::config::PluginConfig;

/// What a plugin is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Being read, compiled or connected for the first time.
    Loading,
    /// Handling events.
    Running,
    /// The newest file or settings were refused; an older version handles events.
    Degraded,
    /// Loaded, but its broker is away; goes on by itself.
    Waiting,
    /// Stopped at an event whose attempts are used up, as configured.
    Halted,
    /// Not handling events. The reason says whether it will be tried again.
    Failed,
    /// Switched off by configuration.
    Disabled,
    /// Its file is gone. The cursor is kept.
    Removed,
}

impl State {
    /// Every state, for metrics that list them all.
    pub const ALL: [Self; 8] = [
        Self::Loading,
        Self::Running,
        Self::Degraded,
        Self::Waiting,
        Self::Halted,
        Self::Failed,
        Self::Disabled,
        Self::Removed,
    ];

    /// The name used in the API, metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Loading => "loading",
            Self::Running => "running",
            Self::Degraded => "degraded",
            Self::Waiting => "waiting",
            Self::Halted => "halted",
            Self::Failed => "failed",
            Self::Disabled => "disabled",
            Self::Removed => "removed",
        }
    }
}

/// What is known of one plugin.
#[derive(Debug, Clone)]
pub struct Status {
    /// Plugin name: the file's stem.
    pub name: String,
    /// What it is doing.
    pub state: State,
    /// Why it is not simply running.
    pub reason: Option<String>,
    /// Its file.
    pub file: PathBuf,
    /// The version that handles events, or did when it was last running.
    pub version: Option<Version>,
    /// Versions swapped in since it was added, without leaving the group.
    pub reloads: u64,
    /// Times that its subscription was opened again (changed topics or settings,
    /// or an error of the broker).
    pub restarts: u64,
    /// Files and settings that were refused.
    pub refusals: u64,
    /// Why the newest file or settings were refused, until they load.
    pub last_error: Option<String>,
    /// What it is subscribed to, and how.
    pub config: Option<Arc<PluginConfig>>,
    /// Whether the subscription was open since the plugin was added.
    opened: bool,
}

/// A version of a plugin in service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// The version that the plugin states of itself.
    pub version: String,
    /// What it says of itself.
    pub description: String,
    /// Digest of the file, lower-case hex.
    pub digest: String,
    /// Length of the file in bytes.
    pub size: u64,
    /// When it took over.
    pub loaded_at: SystemTime,
    /// From reading the file to taking over.
    pub load_time: Duration,
}

impl Status {
    pub(super) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            state: State::Loading,
            reason: None,
            file: PathBuf::new(),
            version: None,
            reloads: 0,
            restarts: 0,
            refusals: 0,
            last_error: None,
            config: None,
            opened: false,
        }
    }

    /// There are files to be looked at. What was loaded or refused before stays
    /// what it is until they load.
    pub(super) fn found(&mut self, file: &Path) {
        self.file = file.to_owned();
        if matches!(self.state, State::Removed | State::Disabled) {
            (self.state, self.reason) = (State::Loading, None);
        }
    }

    /// A new version is in service.
    pub(super) fn serves(&mut self, config: Arc<PluginConfig>, version: Version) {
        if self.config.is_some() {
            self.reloads += 1;
        }
        (self.config, self.version) = (Some(config), Some(version));
        self.accepted();
    }

    /// The files are those that serve.
    pub(super) fn accepted(&mut self) {
        self.last_error = None;
        if self.state == State::Degraded {
            (self.state, self.reason) = (State::Running, None);
        }
    }

    /// The newest files were refused. What is running goes on.
    pub(super) fn refused(&mut self, state: State, reason: String, is_running: bool) {
        self.refusals += 1;
        self.state = if is_running { State::Degraded } else { state };
        self.reason = Some(reason.clone());
        self.last_error = Some(reason);
    }

    /// Its subscription is open.
    pub(super) fn opened(&mut self) {
        self.restarts += u64::from(self.opened);
        self.opened = true;
        self.state = if self.last_error.is_some() { State::Degraded } else { State::Running };
        self.reason.clone_from(&self.last_error);
    }

    /// It has no version in service any more, as wanted.
    pub(super) fn retired(&mut self, state: State, reason: Option<String>) {
        (self.state, self.reason) = (state, reason);
        (self.config, self.version, self.last_error) = (None, None, None);
        self.opened = false;
    }

    /// Its task is gone. The panic itself is on standard error.
    pub(super) fn panicked(&mut self) {
        let reason =
            "the runtime failed while looking after it, which is a bug: restart the runtime";
        (self.state, self.reason) = (State::Failed, Some(reason.into()));
    }
}

impl Version {
    pub(super) fn new(generation: &Generation, size: usize, load_time: Duration) -> Self {
        let by = generation.handled_by();
        Self {
            version: by.version.clone(),
            description: generation
                .description()
                .map_or_else(String::new, |d| d.description.clone()),
            digest: by.digest.clone(),
            size: size as u64,
            loaded_at: SystemTime::now(),
            load_time,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_state_is_the_one_in_json() {
        for state in State::ALL {
            assert_eq!(serde_json::to_value(state).unwrap(), state.as_str());
        }
    }
}
