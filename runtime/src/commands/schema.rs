//! `sandbar schema`

use anyhow::Result;
use clap::{Args, ValueEnum};
use sandbar::{
    cases::text::FileText,
    config::settings::{FileSettings, PluginSettings},
};
use schemars::schema_for;

use super::Global;

#[derive(Debug, Args)]
pub struct SchemaArgs {
    /// Of which file
    #[arg(value_enum, default_value = "config")]
    of: Of,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Of {
    /// `sandbar.toml`
    Config,
    /// `NAME.toml` beside `NAME.wasm`
    Plugin,
    /// `cases.toml` and `cases/NAME.toml` of a plugin
    Cases,
}

pub fn schema(args: &SchemaArgs, global: &Global) -> Result<()> {
    global.out().document(&match args.of {
        Of::Config => schema_for!(FileSettings),
        Of::Plugin => schema_for!(PluginSettings),
        Of::Cases => schema_for!(FileText),
    })
}
