//! `sandbar plugins new`

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use sandbar_toolchain::{BeginRequest, Language, begin};
use serde_json::json;

use super::super::Global;

#[derive(Debug, Args)]
pub struct NewArgs {
    /// Name of the plugin, and of its folder
    name: String,
    /// What it is to be written in: rust, js, ts, python, go or c
    #[arg(short, long, value_name = "LANGUAGE", env = "SANDBAR_NEW_LANG")]
    lang: Language,
    /// Folder in which the plugin's own is made
    #[arg(long, value_name = "DIR", env = "SANDBAR_NEW_IN", default_value = ".")]
    r#in: PathBuf,
    /// The `sdk` folder of a checkout, instead of the published SDK
    #[arg(long, value_name = "DIR", env = "SANDBAR_SDK")]
    sdk: Option<PathBuf>,
}

pub fn new(args: &NewArgs, global: &Global) -> Result<()> {
    let request = BeginRequest {
        language: args.lang,
        name: args.name.clone(),
        parent: args.r#in.clone(),
        sdk: args.sdk.clone(),
    };
    let begun = begin(&request)?;
    let out = global.out();
    if out.is_json() {
        return out
            .document(&json!({ "language": args.lang, "dir": begun.dir, "next": begun.next }));
    }
    out.line(format_args!("{} is begun. Next:", begun.dir.display()))?;
    out.line(format_args!("  cd {}", begun.dir.display()))?;
    begun.next.iter().try_for_each(|command| out.line(format_args!("  {command}")))
}
