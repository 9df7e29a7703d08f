//! `sandbar completions` and `sandbar man`

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use super::{Cli, Global};

#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// Which shell
    #[arg(value_enum)]
    shell: Shell,
}

#[derive(Debug, Args)]
pub struct ManArgs {
    /// Folder to write to; it must exist
    #[arg(long, value_name = "DIR", env = "SANDBAR_MAN_OUT", default_value = ".")]
    out: PathBuf,
}

pub fn completions(args: &CompletionsArgs, global: &Global) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "sandbar", &mut script);
    global.out().line(String::from_utf8_lossy(&script).trim_end())
}

pub fn man(args: &ManArgs, global: &Global) -> Result<()> {
    clap_mangen::generate_to(Cli::command(), &args.out)
        .with_context(|| format!("cannot write manual pages to {}", args.out.display()))?;
    let out = global.out();
    match out.is_json() {
        true => out.document(&serde_json::json!({ "folder": args.out })),
        false => out.line(format_args!("manual pages written to {}", args.out.display())),
    }
}
