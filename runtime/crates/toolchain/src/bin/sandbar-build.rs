//! Builds plugins without the runtime: what the repository's own scripts use.

use std::{path::PathBuf, process::ExitCode};

use clap::Parser;
use sandbar_toolchain::{BuildRequest, build};

/// Builds Rust plugins into components.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// The plugin's crate, or a folder of the workspace that the packages are in
    #[arg(default_value = ".")]
    dir: PathBuf,
    /// Package to build [default: the one in DIR]
    #[arg(short, long = "package")]
    packages: Vec<String>,
    /// Cargo features to switch on
    #[arg(short = 'F', long, value_delimiter = ',')]
    features: Vec<String>,
    /// Cargo profile
    #[arg(long, default_value = "release")]
    profile: String,
    /// Build the examples instead of the library
    #[arg(long)]
    examples: bool,
    /// Folder that receives NAME.wasm
    #[arg(short, long, default_value = "plugins")]
    out: PathBuf,
    /// Cargo's target folder
    #[arg(long)]
    target_dir: Option<PathBuf>,
    /// Put before each plugin's name
    #[arg(long, default_value = "")]
    prefix: String,
    /// Put after each plugin's name
    #[arg(long, default_value = "")]
    suffix: String,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let request = BuildRequest {
        dir: args.dir,
        packages: args.packages,
        features: args.features,
        profile: args.profile,
        examples: args.examples,
        out: args.out,
        target_dir: args.target_dir,
        prefix: args.prefix,
        suffix: args.suffix,
    };
    match build(&request) {
        Ok(built) => {
            for plugin in built {
                let note = if plugin.changed { "" } else { " (unchanged)" };
                println!("{} {} bytes{note}", plugin.path.display(), plugin.size);
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
