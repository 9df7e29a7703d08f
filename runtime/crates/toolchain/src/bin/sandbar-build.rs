//! Builds plugins without the runtime: what the repository's own scripts use.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Parser;
use sandbar_toolchain::{BeginRequest, BuildError, BuildRequest, Built, Language, begin, build};

/// Builds plugins into components.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// The plugin's folder; for Rust also one of the workspace that the packages are in
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
    /// Folder for intermediate files
    #[arg(long)]
    target_dir: Option<PathBuf>,
    /// Put before each plugin's name
    #[arg(long, default_value = "")]
    prefix: String,
    /// Put after each plugin's name
    #[arg(long, default_value = "")]
    suffix: String,
    /// Begin the plugin in DIR first, in this language
    #[arg(long, value_name = "LANGUAGE")]
    begin: Option<Language>,
    /// The `sdk` folder that a plugin begun takes its SDK from
    #[arg(long, value_name = "FOLDER")]
    sdk: Option<PathBuf>,
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
    match run(args.begin, args.sdk, &request) {
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

fn run(
    language: Option<Language>,
    sdk: Option<PathBuf>,
    request: &BuildRequest,
) -> Result<Vec<Built>, BuildError> {
    if let Some(language) = language {
        let name = request.dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let parent = request.dir.parent().unwrap_or(Path::new(".")).to_owned();
        begin(&BeginRequest { language, name, parent, sdk })?;
    }
    build(request)
}
