//! `sandbar init`

use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use sandbar::config::FILE_NAME;

use super::Global;

#[derive(Debug, Args)]
pub struct InitArgs {
    /// Folder to set up; made if it does not exist
    #[arg(default_value = ".")]
    dir: PathBuf,
}

const CONFIG: &str = include_str!("init.toml");
const GITIGNORE: &str = "/data/\n";

pub fn init(args: &InitArgs, global: &Global) -> Result<()> {
    let dir = &args.dir;
    let config = dir.join(FILE_NAME);
    if config.exists() {
        bail!("{} exists already; it is left as it is", config.display());
    }
    fs::create_dir_all(dir.join("plugins"))
        .with_context(|| format!("cannot make {}", dir.join("plugins").display()))?;
    write_new(&config, CONFIG)?;
    let ignore = dir.join(".gitignore");
    // an existing one is the user's own
    if !ignore.exists() {
        write_new(&ignore, GITIGNORE)?;
    }
    let out = global.out();
    if out.is_json() {
        return out
            .document(&serde_json::json!({ "config": config, "plugins": dir.join("plugins") }));
    }
    out.line(format_args!("wrote {}", config.display()))?;
    out.line(format_args!(
        "put plugins (NAME.wasm) into {}, then start `sandbar run`",
        dir.join("plugins").display()
    ))
}

/// Writes a file that must not exist, also not since we looked.
fn write_new(path: &Path, text: &str) -> Result<()> {
    let write = || -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
        file.write_all(text.as_bytes())
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}
