//! A plugin that a command is about: a folder that is built first, a file, or a name.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use clap::Args;
use sandbar::{cases::Runner, config::Config, plugin_file};
use sandbar_toolchain::BuildRequest;

/// Where a plugin's folder keeps what is made from it.
const SCRATCH: &str = ".sandbar";

/// A plugin in the form that a host loads.
pub struct Subject {
    pub name: String,
    pub file: PathBuf,
    pub wasm: Bytes,
    /// Where its cases lie.
    pub dir: PathBuf,
}

/// How a plugin that is built from source is built.
#[derive(Debug, Clone, Args)]
pub struct SourceArgs {
    /// Rust: cargo profile
    #[arg(
        long,
        value_name = "NAME",
        env = "SANDBAR_BUILD_PROFILE",
        default_value = "release",
        help_heading = "Rust"
    )]
    pub profile: String,
    /// Folder for the build's intermediate files
    #[arg(long, value_name = "DIR", env = "SANDBAR_BUILD_TARGET_DIR")]
    pub target_dir: Option<PathBuf>,
}

impl Subject {
    /// Takes a folder of source, a `.wasm` file, or the name of a plugin in the plugins folder.
    ///
    /// # Errors
    /// Where it does not build, or is not there.
    pub fn find(plugin: &Path, source: &SourceArgs, config: &Config) -> Result<Self> {
        if plugin.is_dir() {
            return build(plugin, source);
        }
        let file = super::plugin_path(&plugin.to_string_lossy(), &config.plugins_folder);
        Self::read(&file)
    }

    fn read(file: &Path) -> Result<Self> {
        let name = plugin_file::plugin_of(file)
            .with_context(|| format!("{} is no name of a plugin file", file.display()))?;
        let wasm = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
        let dir = file.parent().map_or_else(PathBuf::new, Path::to_owned);
        Ok(Self { name, file: file.to_owned(), wasm: wasm.into(), dir })
    }

    /// Compiles it; what comes of that is kept in the user's cache folder.
    ///
    /// # Errors
    /// Where it is no plugin.
    pub async fn runner(&self) -> Result<Runner> {
        Runner::new(&self.name, self.wasm.clone(), cache_folder())
            .await
            .with_context(|| format!("{} is no plugin that can be loaded", self.file.display()))
    }
}

/// Builds the plugin in `dir` into its scratch folder.
fn build(dir: &Path, source: &SourceArgs) -> Result<Subject> {
    let out = scratch(dir)?;
    let request = BuildRequest {
        profile: source.profile.clone(),
        target_dir: source.target_dir.clone(),
        ..BuildRequest::new(dir, out)
    };
    let built = sandbar_toolchain::build(&request)?;
    match &built[..] {
        [plugin] => Ok(Subject { dir: dir.to_owned(), ..Subject::read(&plugin.path)? }),
        several => {
            let names: Vec<_> = several.iter().map(|p| p.name.as_str()).collect();
            let names = names.join(", ");
            bail!("{} holds several plugins ({names}): name the folder of one", dir.display())
        }
    }
}

/// `DIR/.sandbar`, which version control passes over.
///
/// # Errors
/// Where it cannot be made.
pub fn scratch(dir: &Path) -> Result<PathBuf> {
    let out = dir.join(SCRATCH);
    let make = || -> std::io::Result<()> {
        fs::create_dir_all(&out)?;
        let ignore = out.join(".gitignore");
        if !ignore.exists() {
            fs::write(ignore, "*\n")?;
        }
        Ok(())
    };
    make().with_context(|| format!("cannot make {}", out.display()))?;
    Ok(out)
}

/// Where compiled plugins are kept for the next test; `None` where the user has no cache folder.
pub fn cache_folder() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let base = set("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| set("HOME").map(|home| Path::new(&home).join(".cache")))?;
    let folder = base.join("sandbar");
    // a home that cannot be written to costs time, no test
    fs::create_dir_all(&folder).ok()?;
    Some(folder.join("compiled"))
}
