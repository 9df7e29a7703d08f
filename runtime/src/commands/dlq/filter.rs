//! Which dead letters: flags that `list` and `redrive` share.

use anyhow::{Result, anyhow};
use clap::Args;
use sandbar::{
    event_json::BytesJson,
    redrive::{Criteria, Filter},
};

#[derive(Debug, Args)]
#[command(next_help_heading = "Which dead letters")]
pub struct FilterArgs {
    /// Only those of this version of the plugin
    #[arg(long, value_name = "VERSION", env = "SANDBAR_DLQ_PLUGIN_VERSION")]
    plugin_version: Option<String>,
    /// Only those of this error class, such as trap or deadline
    #[arg(long, value_name = "CLASS", env = "SANDBAR_DLQ_CLASS")]
    class: Option<String>,
    /// Only those with this error code
    #[arg(long, value_name = "CODE", env = "SANDBAR_DLQ_CODE")]
    code: Option<String>,
    /// Only those with this key
    #[arg(long, value_name = "KEY", env = "SANDBAR_DLQ_KEY")]
    key: Option<String>,
    /// Only those that have been there for longer, such as 1h
    #[arg(long, value_name = "AGE", env = "SANDBAR_DLQ_OLDER_THAN")]
    older_than: Option<String>,
    /// Only those that have been there for less long, such as 2d
    #[arg(long, value_name = "AGE", env = "SANDBAR_DLQ_NEWER_THAN")]
    newer_than: Option<String>,
    /// Only those for which this CEL expression holds, such as 'payload.amount > 100'
    ///
    /// It may use plugin, version, class, code, message, key, topic, partition, offset (of the event
    /// when it first failed), attempts, redrives, age_seconds, headers and payload (JSON, else text).
    /// A letter that it does not apply to does not match, and is reported.
    #[arg(long = "where", value_name = "EXPRESSION", env = "SANDBAR_DLQ_WHERE")]
    expression: Option<String>,
}

impl FilterArgs {
    /// What is asked of the letters of `plugin`, or of any.
    ///
    /// # Errors
    /// What is wrong with it: nothing has been read yet.
    pub fn criteria(&self, plugin: Option<String>) -> Result<Criteria> {
        let criteria = Criteria {
            plugin,
            version: self.plugin_version.clone(),
            class: self.class.clone(),
            code: self.code.clone(),
            key: self.key.clone().map(|key| BytesJson(key.into())),
            older_than: self.older_than.clone(),
            newer_than: self.newer_than.clone(),
            expression: self.expression.clone(),
        };
        Filter::new(criteria.clone()).map_err(|why| anyhow!(why))?;
        Ok(criteria)
    }
}
