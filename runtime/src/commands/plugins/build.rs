//! `sandbar plugins build`

use std::{path::PathBuf, time::Instant};

use anyhow::Result;
use bytesize::ByteSize;
use clap::Args;
use sandbar_toolchain::BuildRequest;
use serde_json::json;

use super::super::Global;

#[derive(Debug, Args)]
pub struct BuildArgs {
    /// The plugin's folder; for Rust also one of its workspace
    #[arg(default_value = ".")]
    dir: PathBuf,
    /// Folder that receives NAME.wasm; the configured plugins folder by default
    #[arg(long, value_name = "DIR", env = "SANDBAR_BUILD_OUT")]
    out: Option<PathBuf>,
    /// Folder for intermediate files
    #[arg(long, value_name = "DIR", env = "SANDBAR_BUILD_TARGET_DIR")]
    target_dir: Option<PathBuf>,
    /// Put before each plugin's name
    #[arg(
        long,
        value_name = "TEXT",
        env = "SANDBAR_BUILD_PREFIX",
        default_value = "",
        hide_default_value = true
    )]
    prefix: String,
    /// Put after each plugin's name
    #[arg(
        long,
        value_name = "TEXT",
        env = "SANDBAR_BUILD_SUFFIX",
        default_value = "",
        hide_default_value = true
    )]
    suffix: String,
    #[command(flatten)]
    rust: RustArgs,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Rust")]
struct RustArgs {
    /// Package to build, several times for several; the one in DIR by default
    #[arg(short, long = "package", value_name = "NAME", env = "SANDBAR_BUILD_PACKAGE")]
    packages: Vec<String>,
    /// Cargo features, separated by commas
    #[arg(long, value_name = "NAMES", env = "SANDBAR_BUILD_FEATURES", value_delimiter = ',')]
    features: Vec<String>,
    /// Cargo profile
    #[arg(long, value_name = "NAME", env = "SANDBAR_BUILD_PROFILE", default_value = "release")]
    profile: String,
    /// Build the packages' examples instead: each with crate-type cdylib is a plugin
    #[arg(long, env = "SANDBAR_BUILD_EXAMPLES")]
    examples: bool,
}

pub fn build(args: &BuildArgs, global: &Global) -> Result<()> {
    let folder = match &args.out {
        Some(out) => out.clone(),
        None => global.config()?.plugins_folder,
    };
    let request = BuildRequest {
        packages: args.rust.packages.clone(),
        features: args.rust.features.clone(),
        profile: args.rust.profile.clone(),
        examples: args.rust.examples,
        target_dir: args.target_dir.clone(),
        prefix: args.prefix.clone(),
        suffix: args.suffix.clone(),
        ..BuildRequest::new(&args.dir, folder)
    };
    let began = Instant::now();
    let built = sandbar_toolchain::build(&request)?;
    let out = global.out();
    if out.is_json() {
        return out.document(&json!({ "plugins": built }));
    }
    for plugin in built {
        let size = ByteSize(plugin.size).display().si();
        let note = if plugin.changed { "" } else { ", unchanged" };
        out.line(format_args!("{} ({}, {size}{note})", plugin.path.display(), plugin.language))?;
    }
    out.line(format_args!("built in {:.1} s", began.elapsed().as_secs_f64()))
}
