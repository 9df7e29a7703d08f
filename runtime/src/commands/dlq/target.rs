//! `PLUGIN | TOPIC`: what is meant, and where it lies.

use anyhow::Result;
use clap::Args;
use sandbar::{config::Config, redrive::owner};

use super::settings;
use crate::commands::{
    Global,
    connect::{Found, find_existing},
};

#[derive(Debug, Args)]
pub struct TargetArgs {
    /// The plugin that failed, or a dead-letter topic
    #[arg(value_name = "PLUGIN|TOPIC")]
    target: String,
    /// Which connection; by default the one that the plugin's dead letters go to
    #[arg(long, value_name = "NAME", env = "SANDBAR_CONNECTION")]
    connection: Option<String>,
}

/// A dead-letter topic, and whose letters of it are meant.
pub struct Target {
    pub found: Found,
    pub topic: String,
    /// `None`: those of all plugins.
    pub plugin: Option<String>,
    /// The group that redrives belong to.
    pub group: String,
}

impl TargetArgs {
    /// Finds it.
    ///
    /// # Errors
    /// Where the connection cannot be had.
    pub async fn find(&self, global: &Global, config: &Config) -> Result<Target> {
        let known = settings::plugins(config).remove(&self.target);
        let dead_letters = known.as_ref().map(|plugin| &plugin.dead_letter);
        let on = self.connection.as_deref().or(dead_letters.map(|d| d.connection.as_str()));
        let on = on.unwrap_or_else(|| config.dead_letter_connection());
        let found = find_existing(global, config, Some(on)).await?;
        let given = &self.target;
        let is_topic = found.connection().topics().await?.iter().any(|t| t.name == *given);
        let (topic, plugin) = match dead_letters {
            // a plugin may have the name of a topic, not of its own dead letters
            _ if is_topic => (given.clone(), None),
            Some(dead_letters) => (dead_letters.topic.clone(), Some(given.clone())),
            None => (format!("{given}.dlq"), Some(given.clone())),
        };
        let group_of = |_: &str| known.as_ref().map(|plugin| plugin.group.clone());
        let group = owner(&config.group_prefix, &topic, plugin.as_deref(), group_of);
        Ok(Target { found, topic, plugin, group })
    }
}
